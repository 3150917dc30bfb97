"""Every layer on a regular grid and on irregular ones: time of forward and backward, and the memory it takes.

Each layer runs on the same series three times in turn: on a regular grid; with half of the samples of a grid
missing, so that gaps are whole numbers; and at random times, where no two gaps are equal. Memory is the
largest resident size during forward and backward beyond that before, in units of the input and the output
together. Ratios are medians over the repetitions of what was measured side by side. Run as

    OMP_NUM_THREADS=1 python examples/benchmarks/layers.py --json results.json
"""

from __future__ import annotations

import argparse
import json
import statistics
from functools import partial
from pathlib import Path

import torch
from measuring import in_turns, machine, peak_bytes, ratio
from torch import Tensor

from tsssm.backbone import BACKBONES
from tsssm.layers import SSMLayer

GRIDS = ("regular", "half missing", "random times")


def grids(batch: int, length: int) -> dict[str, Tensor | None]:
    """Gaps (batch, length) of each grid, with a mean near 1 but for the missing half."""
    random = torch.Generator().manual_seed(0)
    missing = torch.ones(batch, length).geometric_(0.5, generator=random)
    return {"regular": None, "half missing": missing, "random times": 2 * torch.rand(batch, length)}


def run(layer: SSMLayer, u: Tensor, dt: Tensor | None) -> None:
    """One forward and backward pass, as a network calls the layer."""
    u = u.clone().requires_grad_()
    layer.zero_grad()
    y, _ = layer(u, dt, need_state=False)
    y.backward(torch.ones_like(y))


def measure(name: str, u: Tensor, d_state: int, repeats: int) -> dict[str, object]:
    """The row of one backbone's layer."""
    choice = BACKBONES[name]
    torch.manual_seed(0)
    layer = choice.layer(u.shape[2], d_state, method=choice.methods[0], **choice.options)
    runs = {grid: partial(run, layer, u, dt) for grid, dt in grids(*u.shape[:2]).items()}
    seconds = in_turns(runs, repeats)
    unit = 2 * u.numel() * u.element_size()
    memory = {grid: peak_bytes(once) for grid, once in runs.items()}
    return {
        "milliseconds": {grid: round(1e3 * statistics.median(s), 1) for grid, s in seconds.items()},
        "over regular": {grid: round(ratio(seconds, grid, "regular"), 2) for grid in GRIDS[1:]},
        "memory over u and y": {grid: m if m is None else round(m / unit, 1) for grid, m in memory.items()},
        "parameters": sum(p.numel() for p in layer.parameters()),
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", nargs="+", choices=BACKBONES, default=list(BACKBONES))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--state", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="file for the table")
    options = parser.parse_args(arguments)

    random = torch.Generator().manual_seed(1)
    u = torch.randn(options.batch, options.length, options.channels, generator=random)
    head = "".join(f"{grid:>22}" for grid in GRIDS)
    print(f"{'milliseconds (over regular) [memory]':<38}{head}")
    rows = {}
    for name in options.layers:
        row = rows[name] = measure(name, u, options.state, options.repeats)
        cells = [
            f"{row['milliseconds'][grid]:.0f} ({row['over regular'].get(grid, 1):.2f}) "
            f"[{row['memory over u and y'][grid]}]"
            for grid in GRIDS
        ]
        print(f"{name:<38}" + "".join(f"{cell:>22}" for cell in cells), flush=True)
    if options.json:
        report = {
            "batch": options.batch,
            "length": options.length,
            "channels": options.channels,
            "state": options.state,
            "dtype": str(u.dtype),
            **machine(),
            "layers": rows,
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
