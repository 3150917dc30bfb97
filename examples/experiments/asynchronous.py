"""Two variables measured at different times, a class that shows only in the phase between them.

Each series is a sine of a frequency and a phase of its own, seen by two variables at random times of their
own, never together; the class is how far the second runs ahead of the first. Levels, spreads, counts and
times are the same in both classes. Beside the defaults stands gradient boosting on a joint grid with the last
value of each variable carried on. Run as

    OMP_NUM_THREADS=1 python examples/experiments/asynchronous.py [--json FILE]
"""

from __future__ import annotations

import time

import numpy as np
from experiment import parser, spread, write
from sklearn.ensemble import HistGradientBoostingClassifier

from tsssm import Panel, SSMClassifier, SSMFeaturesClassifier

# Three values of each variable a cycle: what was measured last has long gone on.
DURATION, FREQUENCIES, NOISE = 10.0, (1.2, 1.6), 0.1
# Shift of the second variable in each class, in cycles. Lead and lag are the harder question: sums of both
# variables have the same size then.
QUESTIONS = {"none or a quarter": (0.0, 0.25), "an eighth behind or ahead": (-0.125, 0.125)}
GRID, TREES = 41, 100
DIFFERS = "Synthetic; nothing published."


def make(n: int, values: int, shifts: tuple[float, float], seed: int) -> tuple[Panel, np.ndarray]:
    """Series of so many values of each variable, and their classes."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    series, times = [], []
    for label in y:
        frequency, phase = rng.uniform(*FREQUENCIES), rng.uniform()
        t = rng.uniform(0, DURATION, size=(2, values))
        z = np.sin(2 * np.pi * (frequency * t + phase + np.array([[0.0], [shifts[label]]])))
        z += NOISE * rng.normal(size=z.shape)
        both = np.full((2, 2 * values), np.nan)
        both[0, :values], both[1, values:] = z
        order = np.argsort(t.reshape(-1))
        series.append(both[:, order])
        times.append(t.reshape(-1)[order])
    return Panel.from_arrays(series, times), y


def carried(panel: Panel) -> np.ndarray:
    """Last value of each variable at the times of a grid, 0 before the first: a table."""
    rows = []
    for series in panel:
        for column in series.values.T:
            seen = np.flatnonzero(~np.isnan(column))
            latest = np.searchsorted(series.times[seen], np.linspace(0, DURATION, GRID), side="right") - 1
            rows.append(np.where(latest >= 0, column[seen[np.maximum(latest, 0)]], 0.0))
    return np.reshape(rows, (len(panel), -1))


def main(arguments: list[str] | None = None) -> None:
    cli = parser(__doc__, seeds=(0,))
    cli.add_argument("--series", type=int, default=400, help="to train with, and as many to test with")
    cli.add_argument("--values", type=int, default=40, help="of each variable in a series")
    cli.add_argument("--max-steps", type=int, help="of the networks, in place of their default")
    options = cli.parse_args(arguments)
    limits = {} if options.max_steps is None else {"max_steps": options.max_steps}
    results: dict[str, dict[str, dict]] = {}
    for question, shifts in QUESTIONS.items():
        scores: dict[str, list[float]] = {}
        seconds: dict[str, list[float]] = {}
        for seed in options.seeds:
            train, y = make(options.series, options.values, shifts, 2 * seed)
            test, truth = make(options.series, options.values, shifts, 2 * seed + 1)
            networks = SSMClassifier(accelerator=options.device, random_state=seed, **limits)
            models = {
                "SSMClassifier": (networks, train, test),
                "SSMFeaturesClassifier": (SSMFeaturesClassifier(random_state=seed), train, test),
                "boosting on carried values": (
                    HistGradientBoostingClassifier(max_iter=TREES, random_state=seed),
                    carried(train),
                    carried(test),
                ),
            }
            for name, (model, known, asked) in models.items():
                started = time.perf_counter()
                score = model.fit(known, y).score(asked, truth)
                scores.setdefault(name, []).append(float(score))
                seconds.setdefault(name, []).append(time.perf_counter() - started)
                print(f"{question}, {name}: {score:.3f}", flush=True)
        results[question] = {
            name: {"accuracy": spread(scores[name]), "seconds": spread(seconds[name])} for name in scores
        }
        write(
            options.json,
            results,
            {},
            DIFFERS,
            series=options.series,
            values=options.values,
            seeds=options.seeds,
            note=options.note,
        )


if __name__ == "__main__":
    main()
