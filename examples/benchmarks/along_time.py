"""How long an hour of two-channel ECG at 360 Hz takes to be labelled, and what memory, and a sample live.

The estimator has the default sizes (four layers of 32 channels) and is fitted to noise: what it says does not
matter. Each length is labelled in a process of its own, which says how far its memory rose above what it had
after a short series; the signal, its encoded copy and the answers are part of it. Run as

    OMP_NUM_THREADS=1 python examples/benchmarks/along_time.py --json results.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import machine

from tsssm import SSMClassifier, SSMSequenceClassifier, Stream

HERTZ = 360


def fitted(lookahead: float | None) -> SSMSequenceClassifier:
    """An estimator that has seen two steps."""
    X = np.random.default_rng(0).normal(size=(2, 2, 4000)).astype(np.float32)
    return SSMSequenceClassifier(lookahead=lookahead, max_steps=2, random_state=0).fit(X, X[:, 0] > 0)


def labelled(lookahead: float | None, minutes: float) -> dict[str, float]:
    """Seconds and megabytes of a recording."""
    torch.set_num_threads(1)
    model = fitted(lookahead)
    X = np.random.default_rng(1).normal(size=(1, 2, round(60 * minutes * HERTZ))).astype(np.float32)
    model.predict_proba(X[:, :, :4000])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, worked = time.perf_counter(), time.process_time()
    model.predict_proba(X)
    return {
        "seconds": time.perf_counter() - started,
        "processor seconds": time.process_time() - worked,
        "megabytes": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
        "megabytes of the signal": X.nbytes / 2**20,
    }


def pushed(samples: int) -> dict[str, float]:
    """Processor microseconds of a push, along time and of a series so far, in turn."""
    X = np.random.default_rng(0).normal(size=(16, 2, 400)).astype(np.float32)
    pooled = SSMClassifier(bidirectional=False, max_steps=2, random_state=0).fit(X, np.arange(16) % 2)
    streams = {"along time": Stream(fitted(0)), "series so far": Stream(pooled)}
    values = np.random.default_rng(2).normal(size=(samples, 2)).astype(np.float32)
    found: dict[str, list[float]] = {name: [] for name in streams}
    for piece in np.array_split(values, 10):
        for name, stream in streams.items():
            started = time.process_time()
            for sample in piece:
                stream.push(sample)
            found[name].append(1e6 * (time.process_time() - started) / len(piece))
    return {name: float(np.median(times)) for name, times in found.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description="Labels of an hour, and of a sample.")
    parser.add_argument("--minutes", type=float, nargs="+", default=[10, 60])
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows: dict[str, Any] = {}
    for lookahead in (0, None):
        for minutes in options.minutes:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                row = pool.apply(labelled, (lookahead, minutes))
            rows[f"lookahead={lookahead}, {minutes:g} minutes"] = row
            print(f"lookahead={lookahead}, {minutes:g} minutes", {k: round(v, 1) for k, v in row.items()})
    push = pushed(options.samples)
    print("a push, microseconds", {name: round(value, 1) for name, value in push.items()})
    if options.json is not None:
        report = {"recordings": rows, "push": push, "machine": machine()}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
