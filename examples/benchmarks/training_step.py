"""One training step of a diagonal network: the compiled scan against an FFT convolution in plain PyTorch.

Both networks are the same `Backbone` (4 layers, 32 channels, state 16, bidirectional) with the same weights;
only the layers' way of computing differs. The FFT path is what public S4D code does: build the kernel of
the whole length by complex exponentials, then convolve by FFT.

Where the time of a step goes is told of the network with the estimators' dropout, by PyTorch's profiler:
shares of the operations of `tsssm.ops` (scan, gate, dropout, norm; forward and adjoint), of matrix products,
of clipping and optimiser, and of the rest, which is Python, the making of parameters and autograd. Run as

    OMP_NUM_THREADS=1 python examples/benchmarks/training_step.py --json results.json
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from measuring import in_turns, machine, ratio
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

from tsssm import backbone
from tsssm.backbone import Backbone
from tsssm.layers import S4D, s4d

# Without dropout, whose random numbers would cost both networks the same and blur the comparison.
NETWORK = {"n_layers": 4, "d_model": 32, "d_state": 16, "bidirectional": True, "dropout": 0.0}


class FFTS4D(nn.Module):
    """The same function as a bidirectional `S4D` on a regular grid, by kernel and FFT.

    Kernels are 2 Re(sum_n C_n B_n (exp(z_n) - 1) / A_n exp(z_n k)) with z = Delta A.
    """

    def __init__(self, layer: S4D) -> None:
        super().__init__()
        self.layer = layer
        self.d_model = layer.d_model

    def kernels(self, length: int) -> Tensor:
        """Kernels of the two directions, (2, d_model, length)."""
        layer = self.layer
        A = layer.eigenvalues()
        z = A * torch.exp(layer.log_dt)[:, None]
        weights = torch.view_as_complex(layer.C) * torch.view_as_complex(layer.B) * (torch.exp(z) - 1) / A
        powers = torch.exp(z[..., None] * torch.arange(length))
        return 2 * torch.einsum("chn,hnl->chl", weights, powers).real

    def forward(self, u: Tensor, dt: None = None, *, need_state: bool = False) -> tuple[Tensor, None]:
        length = u.shape[1]
        forward, backward = self.kernels(length)
        # The backward kernel stands at negative lags, that is at the end of a circle of 2 L.
        ahead = nn.functional.pad(backward, (0, length)).flip(-1).roll(1, -1)
        kernel = nn.functional.pad(forward, (0, length)) + ahead
        signal = u.transpose(1, 2)
        spectrum = torch.fft.rfft(signal, n=2 * length) * torch.fft.rfft(kernel, n=2 * length)
        y = torch.fft.irfft(spectrum, n=2 * length)[..., :length]
        # In the layout of u, so that what follows finds contiguous memory.
        return self.layer.D * u + y.transpose(1, 2), None


def make_networks(seed: int, channels: int) -> dict[str, Backbone]:
    """The same network twice, the second with FFT layers."""
    networks = {}
    for name in ("scan", "fft"):
        torch.manual_seed(seed)
        net = Backbone(channels, 4, backbone="s4d", **NETWORK)
        if name == "fft":
            for block in net.blocks:
                block.layer = FFTS4D(block.layer)
        networks[name] = net
    return networks


def make_step(
    net: Backbone, u: Tensor, y: Tensor, section: Callable[[str], Any] = nullcontext
) -> Callable[[], None]:
    """A training step as the estimators do it; ``section`` marks the optimiser's part of it."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(u), y).backward()
        with section("optimiser"):
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()

    return step


# What the events of the profiler belong to, by how their names begin; the outermost that is known counts.
PARTS = {
    "operations": ("tsssm.ops", "EagerDiagonalScan", "GatedMix", "BatchNorm"),
    "matrix products": ("aten::mm", "aten::addmm"),
    "clipping and optimiser": ("optimiser",),
}
# Where the network calls operations by name.
CALLS = {
    backbone: ("batch_norm", "dropout_noise", "gated_mix"),
    s4d: ("diagonal_scan",),
}


def marked(operation: Callable[..., Any]) -> Callable[..., Any]:
    """The operation as one event of the profiler, with its checks."""

    def run(*args: Any, **options: Any) -> Any:
        with record_function("tsssm.ops"):
            return operation(*args, **options)

    return run


def shares(net: Backbone, u: Tensor, y: Tensor, repeats: int) -> dict[str, float]:
    """Share of the time of a training step that each part takes."""
    step = make_step(net, u, y, record_function)
    with ExitStack() as patches:
        for module, names in CALLS.items():
            for name in names:
                patches.enter_context(patch.object(module, name, marked(getattr(module, name))))
        for _ in range(3):
            step()
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            for _ in range(repeats):
                with record_function("step"):
                    step()
    seconds = dict.fromkeys([*PARTS, "rest"], 0.0)
    for event in profiler.events():
        part, inner = "rest", event
        while inner is not None:
            part = next((name for name, starts in PARTS.items() if inner.name.startswith(starts)), part)
            inner = inner.cpu_parent
        seconds[part] += event.self_cpu_time_total
    return {part: round(value / sum(seconds.values()), 3) for part, value in seconds.items()}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", type=int, default=16)
    parser.add_argument("--length", type=int, default=150)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--json", help="file to write the figures to")
    args = parser.parse_args(arguments)

    generator = torch.Generator().manual_seed(0)
    u = torch.randn(args.series, args.length, args.channels, generator=generator)
    y = torch.randint(4, (args.series,), generator=generator)
    networks = make_networks(0, args.channels)
    with torch.no_grad():
        outputs = [net.eval()(u) for net in networks.values()]
    difference = (outputs[0] - outputs[1]).abs().max().item() / outputs[1].abs().max().item()
    if difference > 1e-4:
        raise SystemExit(f"The two networks disagree by {difference:.1e}: the comparison would mean nothing.")

    steps = {name: make_step(net.train(), u, y) for name, net in networks.items()}
    times = in_turns(steps, args.repeats)
    report = {
        "series": args.series,
        "length": args.length,
        **machine(),
        "largest_relative_difference": difference,
        "milliseconds_scan": round(1e3 * statistics.median(times["scan"]), 3),
        "milliseconds_fft": round(1e3 * statistics.median(times["fft"]), 3),
        "scan_over_fft": round(ratio(times, "scan", "fft"), 3),
        "shares": shares(Backbone(args.channels, 4).train(), u, y, args.repeats),
    }
    print(json.dumps(report, indent=2))
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()
