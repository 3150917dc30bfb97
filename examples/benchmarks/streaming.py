"""Time that a sample takes in a stream, for every backbone, on the regular grid and at random times.

What is timed is `Stream.push` of a fitted classifier: checks, standardisation, all layers, pooling and
probabilities. The median is what to expect on this machine with whatever else runs on it, the minimum what it
takes undisturbed. ``step by step`` is the same network through the ``step`` of its layers in PyTorch. Run as

    OMP_NUM_THREADS=1 python examples/benchmarks/streaming.py --json results.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import machine
from torch.nn import functional as F

from tsssm import Panel, SSMClassifier, Stream
from tsssm.backbone import BACKBONES, Backbone


def fitted(backbone: str, options: argparse.Namespace, *, timed: bool) -> SSMClassifier:
    """A classifier of the sizes asked for; what it has learned does not matter here."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(8, options.inputs, 32))
    times = np.cumsum(rng.exponential(size=(8, 32)), axis=1) if timed else None
    classifier = SSMClassifier(
        backbone=backbone,
        n_layers=options.layers,
        d_model=options.channels,
        d_state=options.state,
        bidirectional=False,
        max_steps=1,
        accelerator="cpu",
        random_state=0,
    )
    return classifier.fit(Panel.from_numpy(X, times), np.tile([0, 1], 4))


def microseconds(push: Callable[[int], object], samples: int, seconds: float = 10.0) -> dict[str, float]:
    """Median and minimum over the samples, the first tenth of them left out; at most some seconds long."""
    taken = []
    began = time.perf_counter()
    for k in range(samples):
        started = time.perf_counter()
        push(k)
        taken.append(1e6 * (time.perf_counter() - started))
        if time.perf_counter() - began > seconds:
            break
    counted = taken[len(taken) // 10 :]
    return {"median": round(statistics.median(counted), 1), "minimum": round(min(counted), 1)}


def stepper(net: Backbone) -> Callable[[torch.Tensor], torch.Tensor]:
    """One sample through a network by the ``step`` of its layers, pooled by the last sample."""
    blocks: list[Any] = list(net.blocks)
    states = [block.layer.initial_state(1) for block in blocks]

    def step(u: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            h = net.encoder(u)
            for k, block in enumerate(blocks):
                v, states[k] = block.layer.step(block.norm(h[:, None])[:, 0], states[k])
                h = h + F.glu(block.mix(F.gelu(v)), dim=-1)
            return net.head(net.norm(h[:, None])[:, 0])

    return step


def measure(backbone: str, options: argparse.Namespace) -> dict[str, Any]:
    """The row of a backbone."""
    rng = np.random.default_rng(1)
    samples = rng.normal(size=(options.samples, options.inputs))
    times = np.cumsum(rng.exponential(size=options.samples))
    regular, irregular = (fitted(backbone, options, timed=timed) for timed in (False, True))
    on_grid, at_times = Stream(regular), Stream(irregular)
    step, tensors = stepper(regular.net_), torch.from_numpy(samples).float()
    row = {
        "compiled": on_grid.compiled,
        "regular": microseconds(lambda k: on_grid.push(samples[k]), options.samples),
        "random times": microseconds(lambda k: at_times.push(samples[k], times[k]), options.samples),
        "step by step": microseconds(lambda k: step(tensors[k : k + 1]), min(options.samples, 200)),
    }
    many = Stream(regular)
    started = time.perf_counter()
    many.push_many(samples)
    row["push_many, a sample"] = round(1e6 * (time.perf_counter() - started) / options.samples, 1)
    return row


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=list(BACKBONES))
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--state", type=int, default=16)
    parser.add_argument("--inputs", type=int, default=3)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--json", type=Path, help="file for the table")
    options = parser.parse_args(arguments)

    columns = ("regular", "random times", "step by step")
    print(f"{'microseconds: median (minimum)':<32}" + "".join(f"{name:>20}" for name in columns))
    rows = {}
    for name in options.backbones:
        row = rows[name] = measure(name, options)
        label = f"{name}{', compiled' if row['compiled'] else ''}"
        cells = (f"{row[column]['median']:.0f} ({row[column]['minimum']:.0f})" for column in columns)
        print(f"{label:<32}" + "".join(f"{cell:>20}" for cell in cells), flush=True)
    if options.json:
        sizes = {
            name: getattr(options, name) for name in ("layers", "channels", "state", "inputs", "samples")
        }
        report = {**sizes, **machine(), "backbones": rows}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
