"""What the scans cost on a CUDA device: against copying, FFT, recurrent peers and the CPU, and on MNIST.

`make gpu-check` runs it after the tests that need a device. By itself:

    PYTHONPATH=. python examples/benchmarks/gpu.py --json results.json

It has not been run on a device yet. Parts that have not begun after nine minutes, or ``--minutes``, are left
out.

It needs PyTorch with CUDA, Triton and this package, and of the package no more than operations, layers and
backbone. The pooled scan of closed-form features is compared with the CPU where Numba is installed, too.
FSDD, PhysioNet 2012 and sequential MNIST are trained for ``--epochs`` epochs where TSSSM_DATA has them, the
first two where sktime is installed. Every part that fails leaves its error in the report instead of its
figures, and the others run. Some parts alone, such as the accuracy on MNIST after so many epochs:

    PYTHONPATH=. python examples/benchmarks/gpu.py --parts "sequential MNIST" --epochs 30
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_coupled import COUPLED_SHAPES, LONG_STEP, coupled, long_step, selective_scan
from gpu_measuring import milliseconds, peak_mebibytes, synchronize
from gpu_pooled import POOLED_SHAPES, pooled
from gpu_training import STEP_SHAPES, STEPS, epochs, found_data, training_steps
from torch import Tensor, nn

import tsssm
from tsssm.backbone import Backbone
from tsssm.layers import S4D
from tsssm.ops import diagonal_scan, liquid_scan

#: batch, L, channels, real state dimensions.
SCAN_SHAPES = [(32, 4096, 128, 16), (32, 4096, 128, 32)]
LAYER_SHAPES = [(5, 150, 64, 16), (32, 1024, 64, 32), (32, 4096, 128, 32), (16, 16384, 128, 32)]
#: What runs, and whether over a regular grid. Liquid terms are those of all orders or of the first two.
VARIANTS: dict[str, tuple[bool, Callable[..., Any]]] = {
    "regular": (True, diagonal_scan),
    "irregular": (False, diagonal_scan),
    "liquid": (True, partial(diagonal_scan, liquid=True)),
    **{
        f"liquid, {name}": (regular, partial(liquid_scan, kernel=kernel, order=2))
        for name, regular, kernel in (
            ("truncated", True, "exact"),
            ("truncated, irregular", False, "exact"),
            ("K-B", True, "kb"),
            ("K-B, irregular", False, "kb"),
            ("P-B", True, "pb"),
        )
    },
}
#: Those that are measured for half precision too.
IN_HALF = ("regular", "irregular")


class FFTS4D(nn.Module):
    """S4D on a regular grid as public code has it: the kernel by complex exponentials, then an FFT."""

    def __init__(self, layer: S4D) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, u: Tensor) -> Tensor:
        layer, length = self.layer, u.shape[1]
        A = layer.eigenvalues()
        z = A * torch.exp(layer.log_dt)[:, None]
        weights = torch.view_as_complex(layer.C)[0] * torch.view_as_complex(layer.B) * torch.expm1(z) / A
        powers = torch.exp(z[..., None] * torch.arange(length, device=u.device))
        kernel = 2 * torch.einsum("hn,hnl->hl", weights, powers).real
        spectrum = torch.fft.rfft(u.transpose(1, 2), n=2 * length) * torch.fft.rfft(kernel, n=2 * length)
        y = torch.fft.irfft(spectrum, n=2 * length)[..., :length].transpose(1, 2)
        return y + layer.D * u


def forward_and_backward(run: Callable[[], Tensor], leaves: list[Tensor]) -> Callable[[], Any]:
    """The call with its gradient for an upstream gradient of ones."""

    def both() -> Any:
        y = run()
        return torch.autograd.grad(y, leaves, torch.ones_like(y))

    return both


def environment(device: torch.device) -> dict[str, Any]:
    """Names and versions of what the figures are of."""
    found: dict[str, Any] = {"tsssm": tsssm.__version__, "torch": torch.__version__}
    found["python"] = sys.version.split()[0]
    if device.type == "cuda":
        found["device"] = torch.cuda.get_device_name(device)
        found["cuda"] = torch.version.cuda
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            found["driver"] = subprocess.run(query, capture_output=True, text=True).stdout.split()[0]
        except (OSError, IndexError):
            found["driver"] = None
        import triton

        found["triton"] = triton.__version__
    return found


def copy_bandwidth(device: torch.device, repeats: int, entries: int = 2**28) -> float:
    """GB/s read and written by a copy on the device."""
    source = torch.empty(entries, device=device)
    target = torch.empty_like(source)
    return 2 * 4 * entries / 1e6 / milliseconds(lambda: target.copy_(source), device, repeats)


def scan_operands(shape: tuple[int, int, int, int], device: torch.device) -> dict[str, Tensor]:
    """Arguments of `diagonal_scan`: the modes of S4D-Lin with steps from 0.001 to 0.1."""
    batch, length, channels, d_state = shape
    random = torch.Generator().manual_seed(0)
    modes = d_state // 2
    frequency = torch.pi * torch.arange(modes).expand(channels, modes)
    operands = {
        "u": torch.randn(batch, length, channels, generator=random),
        "A": torch.complex(torch.full((channels, modes), -0.5), frequency),
        "B": torch.ones(channels, modes, dtype=torch.complex64),
        "C": torch.randn(1, channels, modes, generator=random, dtype=torch.complex64),
        "step": 10 ** (-3 + 2 * torch.rand(channels, generator=random)),
        "D": torch.randn(1, channels, generator=random),
    }
    return {name: t.to(device).requires_grad_() for name, t in operands.items()}


def scans(device: torch.device, repeats: int, copy: float, shapes: list[Any]) -> Iterator[dict[str, Any]]:
    """The scans at every shape and precision of the input, and their shares of the copy bandwidth."""
    for shape in shapes:
        for dtype in (torch.float32, torch.bfloat16):
            row: dict[str, Any] = {"shape": shape, "input": str(dtype).removeprefix("torch.")}
            operands = scan_operands(shape, device)
            operands["u"] = operands["u"].detach().to(dtype).requires_grad_()
            gaps = 2 * torch.rand(shape[0], shape[1], device=device)
            moved = 2 * operands["u"].numel() * operands["u"].element_size()
            for name, (regular, scan) in VARIANTS.items():
                if name not in IN_HALF and dtype != torch.float32:
                    continue

                def run(
                    scan: Any = scan, dt: Any = None if regular else gaps, given: Any = operands
                ) -> Tensor:
                    return scan(**given, dt=dt)[0]

                with torch.no_grad():
                    forward = milliseconds(run, device, repeats)
                step = forward_and_backward(run, list(operands.values()))
                row[name] = {
                    "forward ms": round(forward, 4),
                    "forward GB/s": round(moved / 1e6 / forward, 1),
                    "forward share of copy": round(moved / 1e6 / forward / copy, 3),
                    "forward and backward ms": round(milliseconds(step, device, repeats), 4),
                    "peak MiB": peak_mebibytes(step, device),
                }
                base = row["regular"]
                for key in ("forward", "forward and backward"):
                    row[name][f"{key}, ratio to regular"] = round(
                        row[name][f"{key} ms"] / base[f"{key} ms"], 3
                    )
            yield row


def peers(layer: S4D, length: int, batch: int) -> dict[str, tuple[nn.Module, Callable[[Tensor], Tensor]]]:
    """Modules of equal width, by name, and how each maps (batch, L, H) to the same."""
    width = layer.d_model
    device = layer.D.device
    gaps = 2 * torch.rand(batch, length, device=device)
    fft = FFTS4D(layer)
    gru, lstm = (kind(width, width, batch_first=True).to(device) for kind in (nn.GRU, nn.LSTM))
    return {
        "ours, scan": (layer, lambda u: layer(u, need_state=True)[0]),
        "ours, convolution": (layer, lambda u: layer(u, need_state=False)[0]),
        "ours, irregular": (layer, lambda u: layer(u, gaps)[0]),
        "plain FFT S4D": (fft, fft),
        "GRU": (gru, lambda u: gru(u)[0]),
        "LSTM": (lstm, lambda u: lstm(u)[0]),
    }


def layers(device: torch.device, repeats: int, shapes: list[Any]) -> Iterator[dict[str, Any]]:
    """Forward and backward of one layer, with peak memory, at every shape."""
    for batch, length, channels, d_state in shapes:
        torch.manual_seed(0)
        layer = S4D(channels, d_state).to(device)
        u = torch.randn(batch, length, channels, device=device, requires_grad=True)
        row: dict[str, Any] = {"shape": (batch, length, channels, d_state)}
        for name, (module, call) in peers(layer, length, batch).items():
            try:
                step = forward_and_backward(partial(call, u), [u, *module.parameters()])
                ms = milliseconds(step, device, repeats)
                row[name] = {"ms": round(ms, 4), "peak MiB": peak_mebibytes(step, device)}
            except RuntimeError as error:  # out of memory, above all
                row[name] = {"error": str(error).splitlines()[0]}
        yield row


def read_mnist(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Images (n, 784, 1) in [-1, 1] and labels (n,) of "train" or "t10k"."""

    def read(name: str, header: int) -> np.ndarray:
        return np.frombuffer(gzip.decompress((folder / name).read_bytes()), np.uint8, offset=header).copy()

    images = torch.from_numpy(read(f"{part}-images-idx3-ubyte.gz", 16)).view(-1, 784, 1)
    return images.float() / 127.5 - 1, torch.from_numpy(read(f"{part}-labels-idx1-ubyte.gz", 8)).long()


def sequential_mnist(device: torch.device, folder: Path, epochs: int, limit: int | None) -> dict[str, Any]:
    """Seconds of an epoch and test accuracy of 6 layers with 128 channels that read pixel after pixel."""
    torch.manual_seed(0)
    net = Backbone(1, 10, backbone="s4d", n_layers=6, d_model=128, d_state=64, dropout=0.0, norm="layer").to(
        device
    )
    slow = [p for name, p in net.named_parameters() if name.split(".")[-1] in S4D.system_names]
    rest = [p for name, p in net.named_parameters() if name.split(".")[-1] not in S4D.system_names]
    groups = [{"params": slow, "lr": 1e-3, "weight_decay": 0.0}, {"params": rest, "lr": 4e-3}]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.05)
    X, y = (t[:limit].to(device) for t in read_mnist(folder, "train"))
    X_test, y_test = (t[:limit].to(device) for t in read_mnist(folder, "t10k"))
    steps = -(-len(X) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, [1e-3, 4e-3], total_steps=epochs * steps, pct_start=0.1
    )
    seconds, accuracies = [], []
    for _ in range(epochs):
        synchronize(device)
        started = time.perf_counter()
        for rows in torch.randperm(len(X), device=device).split(64):
            optimiser.zero_grad()
            with torch.autocast(device.type, torch.bfloat16):
                loss = nn.functional.cross_entropy(net(X[rows]), y[rows])
            loss.backward()
            optimiser.step()
            schedule.step()
        synchronize(device)
        seconds.append(round(time.perf_counter() - started, 2))
        with torch.no_grad():
            guesses = torch.cat([net(images).argmax(1) for images in X_test.split(256)])
        accuracies.append(float((guesses == y_test).double().mean()))
        print(f"MNIST: {seconds[-1]} s, accuracy {accuracies[-1]:.4f}", flush=True)
    return {"seconds of each epoch": seconds, "test accuracy after each": accuracies, "batch": 64}


def find_mnist() -> Path | None:
    """The folder of MNIST below TSSSM_DATA, if there is one."""
    folder = Path(os.environ.get("TSSSM_DATA", "")) / "mnist"
    return folder if (folder / "train-images-idx3-ubyte.gz").exists() else None


def main(arguments: list[str] | None = None, device: str = "cuda") -> int:
    """Measure and report; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the report")
    parser.add_argument("--repeats", type=int, default=7, help="measurements of which the median counts")
    parser.add_argument("--epochs", type=int, default=2, help="of the data sets; 0 leaves them out")
    parser.add_argument("--parts", nargs="+", help="only these, by their names in the report")
    parser.add_argument("--minutes", type=float, default=9.0, help="no part begins after so long")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see whether everything runs")
    options = parser.parse_args(arguments)
    if device == "cuda" and not torch.cuda.is_available():
        print("There is no CUDA device here, so that nothing about one can be checked or measured.")
        return 1
    where = torch.device(device)
    small = [(2, 20, 3, 4)] if options.small else None
    report: dict[str, Any] = {"environment": environment(where)}
    failed, began = False, time.perf_counter()

    def save() -> None:
        if options.json is not None:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(report, indent=1) + "\n")

    def part(name: str, rows: Callable[[], Any]) -> None:
        nonlocal failed
        if options.parts and name not in options.parts:
            return
        if time.perf_counter() - began > 60 * options.minutes:
            report[f"{name}, left out"] = f"{options.minutes} minutes were over"
            return save()
        print(f"{name} ...", flush=True)
        try:
            found = rows()
            report[name] = found if isinstance(found, dict | float) else []
            for row in found if isinstance(found, Iterator) else ():
                report[name].append(row)
                print(json.dumps(row), flush=True)
                save()
        except Exception as error:  # the other parts shall run
            failed = True
            traceback.print_exc()
            report[f"{name}, error"] = repr(error)
        save()

    entries = 2**10 if options.small else 2**28
    part("copy GB/s", lambda: round(copy_bandwidth(where, options.repeats, entries), 1))
    copy = report.get("copy GB/s", float("nan"))
    part("scans", lambda: scans(where, options.repeats, copy, small or SCAN_SHAPES))
    part("coupled scans", lambda: coupled(where, options.repeats, copy, small or COUPLED_SHAPES))
    peer = small[0] if small else SCAN_SHAPES[0]
    part("mamba-ssm's selective scan", lambda: selective_scan(where, options.repeats, peer))
    sizes = (40, 4, 1) if options.small else LONG_STEP
    part("long training step", lambda: long_step(where, options.repeats, sizes))
    few = [(3, 20, 2, 2, 8)] if options.small else None
    part("pooled scans", lambda: pooled(where, options.repeats, copy, few or POOLED_SHAPES))
    part("layers", lambda: layers(where, options.repeats, small or LAYER_SHAPES))
    shapes, steps = ([(2, 20, 4)], STEPS[1:]) if options.small else (STEP_SHAPES, STEPS)
    part("training step", lambda: training_steps(where, options.repeats, shapes, steps))
    limit = 128 if options.small else None
    for name in found_data() if options.epochs else ():
        part(name, partial(epochs, where, name, options.epochs, limit))
    folder = find_mnist()
    if folder is not None and options.epochs:
        part("sequential MNIST", lambda: sequential_mnist(where, folder, options.epochs, limit))
    print(json.dumps(report["environment"]))
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
