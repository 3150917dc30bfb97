"""Two checkouts by turns: processor seconds of scans, training steps, features and streams, as ratios.

Each checkout has a process of its own on one thread, and both run the cases of this folder's benchmarks. In
every round they have their turn one after the other, so that what else the machine does meets both. A ratio
is that of the mean of the fastest quarter of the rounds; below 1, this checkout is the faster one. Run as

    python examples/benchmarks/side_by_side.py CHECKOUT [--cases layers step] [--json results.json]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# The least of processor seconds that a turn takes, so that the clock's ticks do not count.
TURN = 0.02
GROUPS = ("engine", "layers", "step", "streaming", "features")
Run = Callable[[], object]


def engine() -> Iterator[tuple[str, Run]]:
    """Blocks of `engine.py`, forward and back."""
    import torch
    from engine import SHAPES, OurBlock, make_ours, make_run

    for shape in SHAPES[:2]:
        for name, block in make_ours(shape, OurBlock).items():
            u = torch.randn(min(shape[0], 8), *shape[1:3])
            if block.dt is not None:
                block.dt = block.dt[: len(u)]
            yield f"{name}, {len(u)} x {shape[1]}", make_run(block, u, backward=True)


def layers() -> Iterator[tuple[str, Run]]:
    """All backbones of `layers.py`, on a regular grid and at random times."""
    import torch
    from engine import OurBlock, make_run

    from tsssm.backbone import BACKBONES

    for name, choice in BACKBONES.items():
        for grid, dt in (("regular", None), ("times", 2 * torch.rand(5, 150))):
            block = OurBlock(choice.layer(64, 16), dt)
            yield f"{name}, {grid}, forward", make_run(block, torch.randn(5, 150, 64), backward=False)
            yield f"{name}, {grid}, and back", make_run(block, torch.randn(5, 150, 64), backward=True)


def step() -> Iterator[tuple[str, Run]]:
    """The training step of `training_step.py` with and without dropout, and with a larger network."""
    import torch
    from training_step import NETWORK, make_step

    from tsssm.backbone import Backbone

    for size, options in (("32", {}), ("32, dropout", {"dropout": 0.1}), ("64", {"d_model": 64})):
        for series, length in ((16, 150), (32, 100)):
            net = Backbone(3, 4, backbone="s4d", **{**NETWORK, **options})
            u, y = torch.randn(series, length, 3), torch.randint(4, (series,))
            yield f"step, d_model {size}, {series} x {length}", make_step(net, u, y)


def streaming() -> Iterator[tuple[str, Run]]:
    """200 samples of a stream of `streaming.py`."""
    import numpy as np
    from streaming import fitted

    from tsssm import Stream

    sizes = argparse.Namespace(inputs=3, layers=4, channels=32, state=16)
    for backbone in ("s4d", "liquid-s4"):
        for timed in (False, True):
            stream, u = Stream(fitted(backbone, sizes, timed=timed)), np.random.default_rng(0)
            clock = iter(range(10**9))

            def push(stream: Any = stream, u: Any = u, clock: Any = clock, timed: bool = timed) -> None:
                for _ in range(200):
                    at = (float(next(clock)) + u.uniform(),) if timed else ()
                    stream.push(u.normal(size=3), *at)

            yield f"stream, {backbone}, {'times' if timed else 'regular'}", push


def features() -> Iterator[tuple[str, Run]]:
    """Fits of `features_classification.py`, and at random times."""
    import numpy as np

    from tsssm import Panel, SSMFeaturesClassifier

    random = np.random.default_rng(0)
    X, y = random.normal(size=(40, 2, 150)), np.arange(40) % 2
    times = np.cumsum(random.exponential(size=(40, 150)), axis=1)
    for name, given in (("regular", X), ("times", Panel.from_numpy(X, times))):
        yield f"features, {name}", lambda given=given: SSMFeaturesClassifier(random_state=0).fit(given, y)


def work(groups: list[str], only: str) -> None:
    """Measure one case of the groups after another, a turn for each line that comes in."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    for group in groups:
        for name, run in globals()[group]():
            if only not in name:
                continue
            run()
            began = time.process_time()
            run()
            repeats = max(1, math.ceil(TURN / max(1e-6, time.process_time() - began)))
            print(name, flush=True)
            while input() == "turn":
                began = time.process_time()
                for _ in range(repeats):
                    run()
                print((time.process_time() - began) / repeats, flush=True)
    print("", flush=True)


def compare(checkouts: list[Path], groups: list[str], only: str, rounds: int) -> dict[str, float]:
    """The ratio of the first checkout to the second for each case."""
    command = [
        sys.executable,
        str(Path(__file__).resolve()),
        ".",
        "--work",
        "--only",
        only,
        "--cases",
        *groups,
    ]
    processes = []
    for checkout in checkouts:
        variables = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        processes.append(subprocess.Popen(command, env=variables, **pipes))

    def ask(process: Any, line: str) -> str:
        process.stdin.write(line + "\n")
        return process.stdout.readline().strip()

    ratios: dict[str, float] = {}
    names = [process.stdout.readline().strip() for process in processes]
    while any(names):
        if len(set(names)) > 1:
            raise SystemExit(f"The checkouts have other cases: {names[0]!r} here, {names[1]!r} there.")
        turns = [[float(ask(process, "turn")) for process in processes] for _ in range(rounds)]
        best = [statistics.mean(sorted(column)[: max(1, rounds // 4)]) for column in zip(*turns, strict=True)]
        ratios[names[0]] = round(best[0] / best[1], 3)
        print(f"{names[0]:<44}{1e3 * best[0]:10.2f} ms{ratios[names[0]]:8.2f}", flush=True)
        names = [ask(process, "next") for process in processes]
    return ratios


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("against", type=Path, help="the other checkout")
    parser.add_argument("--cases", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--only", default="", help="what the names of cases have to contain")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work:
        work(options.cases, options.only)
        return
    checkouts = [Path(__file__).resolve().parents[2], options.against.resolve()]
    ratios = compare(checkouts, options.cases, options.only, options.rounds)
    mean = round(statistics.geometric_mean(ratios.values()), 3)
    print(f"geometric mean {mean}")
    if options.json:
        commits = [subprocess.check_output(["git", "-C", path, "rev-parse", "HEAD"]) for path in checkouts]
        ours, theirs = (commit.decode()[:7] for commit in commits)
        report = {"commit": ours, "against": theirs, "rounds": options.rounds, "threads": 1}
        report |= {"ratios": ratios, "geometric mean": mean}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
