"""The diagonal layer against what else a user could install: time, memory, and how cost grows with length.

All blocks have the same width and the same outer parts: GELU, a gated linear map, and the residual sum.

- ``ours``: `S4D` on a regular grid; with half of the samples of a grid missing; at random times, where no two
  gaps are equal; and `LiquidS4` (exact recurrence) on a regular grid. The outer parts are those of the
  package's own blocks, `tsssm.ops.gated_mix`; with ``plain outer parts`` they are PyTorch's, as in
  all blocks below;
- ``fft``: S4D as it is usually written in plain PyTorch, a kernel of the whole length and an FFT convolution;
- ``gru``, ``lstm``: `torch.nn`'s;
- ``public s4d``, ``public s4``: the code of the state-spaces/s4 repository, if ``--public`` names a checkout.

Then the layers alone, without outer parts: what a step for every sample and the liquid term add to the scan.

Figures are medians over rounds in which every block has its turn, forward and backward through the block and
nothing else. Run as

    python examples/benchmarks/engine.py --json results.json
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from measuring import in_turns, machine, peak_bytes, ratio
from torch import Tensor, nn

from tsssm.backbone import Backbone
from tsssm.layers import S4D, LiquidS4, SSMLayer
from tsssm.ops import gated_mix

# (batch, length, channels, state)
SHAPES = [(5, 150, 64, 16), (32, 1024, 64, 32), (32, 4096, 128, 32), (16, 16384, 128, 32)]
LENGTHS = [2**k for k in range(7, 17)]


class OurBlock(nn.Module):
    """A layer of ours with gaps ``dt`` between the samples."""

    def __init__(self, layer: SSMLayer, dt: Tensor | None = None) -> None:
        super().__init__()
        self.layer, self.dt = layer, dt
        self.mix = nn.Linear(layer.d_model, 2 * layer.d_model)

    def forward(self, u: Tensor) -> Tensor:
        y, _ = self.layer(u, self.dt, need_state=False)
        return gated_mix(u, y, self.mix.weight, self.mix.bias)


class BareLayer(OurBlock):
    """The layer without outer parts."""

    def forward(self, u: Tensor) -> Tensor:
        return self.layer(u, self.dt, need_state=False)[0]


class PlainBlock(OurBlock):
    """The same with the outer parts in plain PyTorch."""

    def forward(self, u: Tensor) -> Tensor:
        y, _ = self.layer(u, self.dt, need_state=False)
        return u + F.glu(self.mix(F.gelu(y)), dim=-1)


class FFTBlock(nn.Module):
    """S4D by a kernel of the whole length, 2 Re(sum_n C_n (exp(z_n) - 1) / A_n exp(z_n k)), and FFT."""

    def __init__(self, d_model: int, d_state: int) -> None:
        super().__init__()
        modes = d_state // 2
        self.log_dt = nn.Parameter(torch.empty(d_model).uniform_(math.log(1e-3), math.log(1e-1)))
        self.log_decay = nn.Parameter(torch.full((d_model, modes), math.log(0.5)))
        self.frequency = nn.Parameter(math.pi * torch.arange(modes).repeat(d_model, 1))
        self.C = nn.Parameter(torch.randn(d_model, modes, 2))
        self.D = nn.Parameter(torch.randn(d_model))
        self.mix = nn.Linear(d_model, 2 * d_model)

    def forward(self, u: Tensor) -> Tensor:
        length = u.shape[1]
        A = torch.complex(-self.log_decay.exp(), self.frequency)
        z = A * self.log_dt.exp()[:, None]
        weights = torch.view_as_complex(self.C) * (z.exp() - 1) / A
        powers = torch.exp(z[..., None] * torch.arange(length))
        kernel = 2 * torch.einsum("hn,hnl->hl", weights, powers).real
        signal = u.transpose(1, 2)
        spectrum = torch.fft.rfft(signal, n=2 * length) * torch.fft.rfft(kernel, n=2 * length)
        y = torch.fft.irfft(spectrum, n=2 * length)[..., :length].transpose(1, 2) + self.D * u
        return u + F.glu(self.mix(F.gelu(y)), dim=-1)


class RecurrentBlock(nn.Module):
    """A recurrent network of equal width."""

    def __init__(self, kind: type[nn.RNNBase], d_model: int) -> None:
        super().__init__()
        self.recurrence = kind(d_model, d_model, batch_first=True)
        self.mix = nn.Linear(d_model, 2 * d_model)

    def forward(self, u: Tensor) -> Tensor:
        return u + F.glu(self.mix(F.gelu(self.recurrence(u)[0])), dim=-1)


class PublicBlock(nn.Module):
    """A block of the public repository, which has outer parts of its own and channels before time."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, u: Tensor) -> Tensor:
        return u + self.block(u.transpose(1, 2))[0].transpose(1, 2)


def public_blocks(root: Path, d_model: int, d_state: int) -> dict[str, nn.Module]:
    """The blocks of a checkout of state-spaces/s4 that can be imported."""
    sys.path.insert(0, str(root))
    blocks: dict[str, nn.Module] = {}
    for name, module, make in (
        ("public s4d", "models.s4.s4d", lambda m: m.S4D(d_model, d_state)),
        ("public s4", "models.s4.s4", lambda m: m.S4Block(d_model, d_state=d_state, final_act="glu")),
    ):
        try:
            blocks[name] = PublicBlock(make(importlib.import_module(module)))
        except ImportError as error:
            print(f"{name} left out: {error}")
    return blocks


def make_ours(shape: tuple[int, int, int, int], block: type[OurBlock]) -> dict[str, nn.Module]:
    """Our layers on every grid, in blocks of a kind."""
    batch, length, d_model, d_state = shape
    torch.manual_seed(0)
    missing = torch.ones(batch, length).geometric_(0.5)
    random_times = 2 * torch.rand(batch, length)
    return {
        "ours": block(S4D(d_model, d_state)),
        "ours, half missing": block(S4D(d_model, d_state), missing),
        "ours, random times": block(S4D(d_model, d_state), random_times),
        "ours, liquid": block(LiquidS4(d_model, d_state)),
    }


def make_blocks(
    shape: tuple[int, int, int, int], public: Path | None, names: list[str] | None
) -> dict[str, nn.Module]:
    """The blocks of these names, beside ours and the FFT's; all by default."""
    *_, d_model, d_state = shape
    blocks = make_ours(shape, OurBlock) | {
        "ours, plain outer parts": PlainBlock(S4D(d_model, d_state)),
        "fft": FFTBlock(d_model, d_state),
        "gru": RecurrentBlock(nn.GRU, d_model),
        "lstm": RecurrentBlock(nn.LSTM, d_model),
    }
    if public is not None:
        blocks |= public_blocks(public, d_model, d_state)
    unknown = set(names or []) - blocks.keys()
    if unknown:
        raise SystemExit(f"--blocks must be among {', '.join(blocks)}; got {', '.join(sorted(unknown))}.")
    chosen = blocks if names is None else {"ours", "fft", *names}
    return {name: block for name, block in blocks.items() if name in chosen}


def make_run(block: nn.Module, u: Tensor, *, backward: bool) -> Callable[[], None]:
    u, g = u.clone().requires_grad_(backward), torch.ones_like(u)

    def run() -> None:
        if not backward:
            with torch.no_grad():
                block(u)
            return
        block.zero_grad()
        u.grad = None
        block(u).backward(g)

    return run


def measure(blocks: dict[str, nn.Module], u: Tensor, repeats: int) -> dict[str, Any]:
    """Milliseconds and ratios to ours of every block."""
    table: dict[str, dict[str, Any]] = {name: {} for name in blocks}
    for column, backward in (("forward", False), ("forward and backward", True)):
        runs = {name: make_run(block, u, backward=backward) for name, block in blocks.items()}
        times = in_turns(runs, repeats)
        for name in blocks:
            table[name][column] = {
                "milliseconds": round(1e3 * statistics.median(times[name]), 2),
                "over ours": round(ratio(times, name, "ours"), 2),
            }
    return table


def show(title: str, table: dict[str, Any]) -> None:
    print(f"\n{title}: milliseconds (over ours) forward | forward and backward")
    for name, row in table.items():
        one, both = row["forward"], row["forward and backward"]
        print(
            f"{name:<24}{one['milliseconds']:>10.1f} ({one['over ours']:.2f})"
            f"{both['milliseconds']:>12.1f} ({both['over ours']:.2f})",
            flush=True,
        )


def peaks(blocks: dict[str, nn.Module], u: Tensor) -> dict[str, float | None]:
    """Peak memory of forward and backward of every block, in sizes of input and output together."""
    unit = 2 * u.numel() * u.element_size()
    found: dict[str, float | None] = {}
    for name, block in blocks.items():
        run = make_run(block, u, backward=True)
        run()
        gc.collect()
        memory = peak_bytes(run)
        found[name] = None if memory is None else round(memory / unit, 1)
    return found


def growth(lengths: list[int], repeats: int) -> dict[str, Any]:
    """The exponent of the cost of our block in the length, by least squares on logarithms."""
    blocks = OurBlock(S4D(64, 32))
    seconds = []
    for length in lengths:
        run = make_run(blocks, torch.randn(16, length, 64), backward=True)
        seconds.append(statistics.median(in_turns({"": run}, repeats)[""]))
    exponent, _ = np.polyfit(np.log(lengths), np.log(seconds), 1)
    return {
        "batch, channels, state": (16, 64, 32),
        "lengths": lengths,
        "milliseconds": [round(1e3 * s, 3) for s in seconds],
        "exponent": round(float(exponent), 3),
    }


def long_series(length: int) -> dict[str, Any]:
    """Peak memory of a training step of the estimators' network on one series of 8 channels."""
    network = Backbone(8, 2)
    u = torch.randn(1, length, 8)

    def step() -> None:
        network.zero_grad()
        network(u).square().sum().backward()

    step()
    peak = peak_bytes(step)
    return {"length": length, "channels": 8, "peak MiB": None if peak is None else round(peak / 2**20)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--public", type=Path, help="checkout of state-spaces/s4")
    parser.add_argument("--blocks", nargs="+", help="those to measure beside ours and fft; by default all")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--shapes", type=int, nargs="+", default=list(range(len(SHAPES))))
    parser.add_argument("--longest", type=int, default=LENGTHS[-1])
    parser.add_argument("--json", type=Path, help="file for the tables")
    options = parser.parse_args(arguments)

    report: dict[str, Any] = machine() | {"shapes": []}
    # First, in a process that has not worked on anything large: short series would pay for it.
    report["growth"] = growth([n for n in LENGTHS if n <= options.longest], options.repeats)
    print(f"growth: {report['growth']}", flush=True)
    speedups = []
    for index in options.shapes:
        shape = SHAPES[index]
        blocks = make_blocks(shape, options.public, options.blocks)
        table = measure(blocks, torch.randn(*shape[:3]), options.repeats)
        report["shapes"].append({"batch, length, channels, state": shape, "blocks": table})
        speedups.append(table["fft"]["forward and backward"]["over ours"])
        show(f"{shape}", table)
        layers = measure(make_ours(shape, BareLayer), torch.randn(*shape[:3]), options.repeats)
        report["shapes"][-1]["layers alone"] = layers
        show("layers alone", layers)
    report["faster than fft"] = {
        "each": speedups,
        "geometric mean": round(statistics.geometric_mean(speedups), 2),
    }
    print(f"faster than fft: {report['faster than fft']}", flush=True)
    # Last, because it tells the allocator for good to give memory back at once.
    report["long series"] = long_series(options.longest)
    print(f"long series: {report['long series']}")
    for table in report["shapes"]:
        shape = table["batch, length, channels, state"]
        blocks = make_blocks(shape, options.public, options.blocks)
        table["peak memory over u and y"] = peaks(blocks, torch.randn(*shape[:3]))
        print(f"peak memory over u and y: {table['peak memory over u and y']}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
