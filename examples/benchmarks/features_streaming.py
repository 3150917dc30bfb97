"""Time that a sample takes in a stream of closed-form features, and how far its answers are from the batch.

What is timed is `Stream.push` of a fitted `SSMFeaturesClassifier`: checks, all systems and readouts, what is
kept of them, and the probabilities. On the regular grid, at random times, and on the grid with values
missing: then the samples since every channel was seen are gone through again. The median is what to expect on
this machine with whatever else runs on it, the minimum what it takes undisturbed. Run as

    OMP_NUM_THREADS=1 python examples/benchmarks/features_streaming.py --json results.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import machine
from streaming import microseconds

from tsssm import Panel, SSMFeaturesClassifier, Stream

KINDS = ("regular", "random times", "values missing")


def measure(kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """The row of one kind of samples."""
    rng = np.random.default_rng(0)

    def series(n: int, length: int) -> tuple[np.ndarray, np.ndarray | None]:
        values = rng.normal(size=(n, options.channels, length)).cumsum(axis=2)
        if kind == "values missing":
            values[rng.random(values.shape) < options.missing] = np.nan
        times = rng.exponential(size=(n, length)).cumsum(axis=1) if kind == "random times" else None
        return values, times

    model = SSMFeaturesClassifier(options.n_features, normalize="global", random_state=0)
    model.fit(Panel.from_numpy(*series(20, 200)), np.tile([0, 1], 10))
    (values,), times = series(1, options.samples)
    stream = Stream(model)
    answers = []

    def push(k: int) -> None:
        answers.append(stream.push(values[:, k], None if times is None else times[0, k]))

    row: dict[str, Any] = microseconds(push, options.samples)
    so_far = Panel.from_numpy(
        values[None, :, : len(answers)], None if times is None else times[:, : len(answers)]
    )
    row["difference to predict_proba"] = float(np.abs(model.predict_proba(so_far)[0] - answers[-1]).max())
    return row


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-features", type=int, default=12288)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--missing", type=float, default=0.3, help="share of the values")
    parser.add_argument("--samples", type=int, default=3000)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args(arguments)

    torch.set_num_threads(1)
    rows = {kind: measure(kind, options) for kind in KINDS}
    sizes = {name: getattr(options, name) for name in ("n_features", "channels", "missing", "samples")}
    report = {**sizes, **machine(), "microseconds a sample": rows}
    options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
