"""How time and memory of the closed-form features grow with the number and the length of the series.

Fit and transform of random series on one thread. Extra memory is the largest resident size during the call
minus that before, with the features themselves (n times 12,288 numbers of 4 bytes) in it; each size runs in a
process of its own. The exponents are those of a power law through the times. Run as

    OMP_NUM_THREADS=1 python examples/benchmarks/features_scaling.py --json results.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tsssm import SSMFeatures


def measure(n: int, length: int, channels: int) -> dict[str, float]:
    """Seconds and extra MiB of fit and transform."""
    torch.set_num_threads(1)
    X = np.random.default_rng(0).normal(size=(n, channels, length)).astype(np.float32)
    SSMFeatures(random_state=0).fit_transform(X[:2, :, :20])  # compiles, or loads what was compiled
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    features = SSMFeatures(random_state=0).fit_transform(X)
    seconds = time.process_time() - started
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {
        "seconds": round(seconds, 2),
        "extra MiB": round(extra),
        "of which features MiB": round(features.nbytes / 2**20),
    }


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Slope of log time over log size."""
    return round(float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]), 3)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, nargs="+", default=[500, 1000, 2000])
    parser.add_argument("--length", type=int, nargs="+", default=[500, 1000, 2000])
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--largest", type=int, nargs=2, default=[10000, 1000], metavar=("N", "LENGTH"))
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args(arguments)

    middle = sorted(options.n)[len(options.n) // 2], sorted(options.length)[len(options.length) // 2]
    sizes = [(n, middle[1]) for n in options.n] + [(middle[0], length) for length in options.length]
    results: dict[str, Any] = {}
    for n, length in dict.fromkeys([*sizes, tuple(options.largest)]):
        # A fresh process: the largest resident size never falls.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            results[f"{n}|{length}"] = pool.apply(measure, (n, length, options.channels))
        print(n, length, results[f"{n}|{length}"], flush=True)
    by_n = [results[f"{n}|{middle[1]}"]["seconds"] for n in options.n]
    by_length = [results[f"{middle[0]}|{length}"]["seconds"] for length in options.length]
    summary = {
        "exponent in n": exponent(options.n, by_n),
        "exponent in length": exponent(options.length, by_length),
        "largest": results["{}|{}".format(*options.largest)],
    }
    report = {"channels": options.channels, "threads": 1, "summary": summary, "results": results}
    options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
