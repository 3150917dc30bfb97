"""Causal convolution on the CPU: products in the time domain against transforms, by length.

Where the two cross decides `tsssm.ops.cpu.convolution.conv.LONGEST_DIRECT`. Run as

    OMP_NUM_THREADS=1 python examples/benchmarks/convolution.py [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from tsssm.ops import causal_conv
from tsssm.ops.cpu.convolution import conv

LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096)
PATHS = {"direct": max(LENGTHS), "transforms": 0}


def make_run(series: int, length: int, channels: int) -> Callable[[], None]:
    """Forward and backward of one convolution with a kernel as long as the series."""
    u = torch.randn(series, length, channels, requires_grad=True)
    kernel = torch.randn(1, length, channels, requires_grad=True)
    g = torch.randn(series, 1, length, channels)

    def run() -> None:
        torch.autograd.grad(causal_conv(u, kernel), (u, kernel), g)

    return run


def measure(run: Callable[[], None], repeats: int) -> dict[str, float]:
    """Median milliseconds by either path, in turns, so that a busy machine slows both."""
    times: dict[str, list[float]] = {name: [] for name in PATHS}
    default = conv.LONGEST_DIRECT
    try:
        for turn in range(repeats + 1):
            for name, conv.LONGEST_DIRECT in PATHS.items():
                started = time.perf_counter()
                run()
                if turn:  # the first one warms up
                    times[name].append(1e3 * (time.perf_counter() - started))
    finally:
        conv.LONGEST_DIRECT = default
    return {name: round(statistics.median(values), 3) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", type=int, default=16)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    torch.manual_seed(0)
    rows = []
    for length in LENGTHS:
        times = measure(make_run(options.series, length, options.channels), options.repeats)
        ratio = round(times["direct"] / times["transforms"], 3)
        rows.append({"length": length, "milliseconds": times, "direct over transforms": ratio})
        print(
            f"length {length:5d}  direct {times['direct']:8.2f} ms  transforms {times['transforms']:8.2f} ms"
            f"  ratio {ratio:.2f}"
        )
    report = {
        "series": options.series,
        "channels": options.channels,
        "threads": torch.get_num_threads(),
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "threshold": conv.LONGEST_DIRECT,
        "rows": rows,
    }
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
