"""Scan or convolution: where does a regular grid gain from the kernel of the system?

For S4D and S4, forward and backward of the compiled scan against the kernel followed by `causal_conv`. The
costs that `tsssm.ops.paths.prefers_convolution` compares are read off this table. Run as

    OMP_NUM_THREADS=1 python examples/benchmarks/paths.py --json results.json
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import tsssm
from tsssm.layers import S4, S4D, SSMLayer
from tsssm.ops import causal_conv
from tsssm.ops.paths import prefers_convolution

LAYERS: dict[str, type[SSMLayer]] = {"diagonal": S4D, "dplr": S4}
SHAPES = [(1, 1024), (8, 128), (8, 1024), (32, 128), (32, 1024), (8, 8192)]
STATES = (16, 64, 256)


def fastest(compute: Callable[[], Tensor], repeats: int) -> float:
    """Milliseconds of forward and backward, the best of several."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        y = compute()
        y.backward(torch.ones_like(y))
        times.append(1e3 * (time.perf_counter() - started))
    return min(times[1:])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--states", type=int, nargs="+", default=STATES)
    parser.add_argument("--shapes", nargs="+", default=[f"{b}x{length}" for b, length in SHAPES])
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--json", type=Path, help="file for the table")
    options = parser.parse_args(arguments)
    rows = []
    print(f"{'operation':<10}{'batch':>6}{'length':>8}{'modes':>6}{'scan ms':>10}{'conv ms':>10}  chosen")
    for operation, layer_class in LAYERS.items():
        for state in options.states:
            layer = layer_class(options.channels, state)
            for shape in options.shapes:
                batch, length = map(int, shape.split("x"))
                u = torch.randn(batch, length, options.channels, requires_grad=True)
                scan = fastest(lambda layer=layer, u=u: layer(u)[0], options.repeats)
                convolution = fastest(
                    lambda layer=layer, u=u: causal_conv(u, layer.kernel(u.shape[1])), options.repeats
                )
                chosen = prefers_convolution(operation, batch, length, state // 2, u.device)
                row = {"operation": operation, "batch": batch, "length": length, "modes": state // 2}
                rows.append(row | {"scan": round(scan, 3), "convolution": round(convolution, 3)})
                print(
                    f"{operation:<10}{batch:>6}{length:>8}{state // 2:>6}{scan:>10.2f}{convolution:>10.2f}  "
                    f"{'convolution' if chosen else 'scan'}",
                    flush=True,
                )
    if options.json:
        report = {
            "channels": options.channels,
            "threads": torch.get_num_threads(),
            "processor": platform.processor() or platform.machine(),
            "torch": torch.__version__,
            "tsssm": tsssm.__version__,
            "milliseconds of forward and backward": rows,
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
