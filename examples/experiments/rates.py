"""CharacterTrajectories at sampling rates that training did not see, by the times alone.

The protocol of the LSSL paper (arXiv 2110.13985): a network is trained at one rate and judged at others,
without another fit. Here the published test part as it is and with every second or third sample, the same at
twice and three times the rate in place (samples in between by cubic splines), and the test part as it is for
a network that was trained on every second sample; each with the times given and withheld. Beside
`SSMClassifier` with its defaults stands `SSMFeaturesClassifier`. Run as

    TSSSM_DATA=FOLDER OMP_NUM_THREADS=1 python examples/experiments/rates.py --json rates.json

One network of a given layer: ``--settings '{"backbone": "lssl", "n_members": 1, "n_features": 0}'``.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
from experiment import parser, spread, write
from scipy.interpolate import CubicSpline

from tsssm import Panel, SSMClassifier, SSMFeaturesClassifier
from tsssm.datasets import fetch_uea

SET = "CharacterTrajectories"


def resampled(X: list[np.ndarray], factor: float, times: bool = True) -> Panel:
    """Series (channels, length_i) at ``factor`` times their rate, 1 / 2 is every second sample."""
    series, stamps = [], []
    for x in X:
        old = np.arange(x.shape[1])
        new = np.arange(0, x.shape[1] - 1 + 1e-9, 1 / factor)
        values = x[:, np.round(new).astype(int)] if factor <= 1 else CubicSpline(old, x, axis=1)(new)
        series.append(values.astype(np.float32))
        stamps.append(new)
    return Panel.from_arrays(series, stamps) if times else Panel.from_arrays(series)


def load(part: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Series (3, length_i), and the letters."""
    X, y = fetch_uea(SET, part=part, return_X_y=True)
    return [
        np.asarray(x, dtype=np.float64)[:, ~np.isnan(np.asarray(x)).any(axis=0)] for x in map(channels, X)
    ], y


def channels(x: Any) -> np.ndarray:
    """One series as (channels, length)."""
    return x.values.T if isinstance(x, Panel) else np.asarray(x)


def main(arguments: list[str] | None = None) -> None:
    arguments_of = parser(__doc__, seeds=(0,), settings=True)
    arguments_of.add_argument("--features", type=json.loads, default={}, help="of SSMFeaturesClassifier")
    options = arguments_of.parse_args(arguments)
    (X, y), (X_test, y_test) = load("train"), load("test")
    factors = {"as trained": 1.0, "a half": 1 / 2, "a third": 1 / 3, "twice": 2.0, "three times": 3.0}
    models = {
        "SSMClassifier": lambda seed: SSMClassifier(
            **options.settings, accelerator=options.device, random_state=seed, verbose=options.verbose
        ),
        "SSMFeaturesClassifier": lambda seed: SSMFeaturesClassifier(**options.features, random_state=seed),
    }
    results: dict[str, Any] = {}
    for name, made in models.items():
        found: dict[str, list[float]] = {}
        seconds = []
        for seed in options.seeds:
            started = time.perf_counter()
            model = made(seed).fit(resampled(X, 1.0), y)
            blind = made(seed).fit(resampled(X, 1.0, times=False), y)
            slow = made(seed).fit(resampled(X, 1 / 2), y)
            seconds.append((time.perf_counter() - started) / 3)
            for rate, factor in factors.items():
                score = model.score(resampled(X_test, factor), y_test)
                withheld = blind.score(resampled(X_test, factor, times=False), y_test)
                found.setdefault(rate, []).append(score)
                found.setdefault(f"{rate}, times withheld", []).append(withheld)
            found.setdefault("trained at a half", []).append(slow.score(resampled(X_test, 1.0), y_test))
            print(name, seed, {rate: round(values[-1], 4) for rate, values in found.items()}, flush=True)
        results[name] = {
            "accuracy": {rate: spread(values) for rate, values in found.items()},
            "seconds a fit": spread(seconds),
        }
        write(
            options.json,
            results,
            paper={"source": "LSSL, arXiv 2110.13985, its table of changed sampling rates"},
            differs=(
                "The paper trains one network for many epochs on series brought to one length; here series "
                "keep their own lengths, and the defaults train seconds."
            ),
            seeds=options.seeds,
            settings=options.settings,
            note=options.note,
        )


if __name__ == "__main__":
    main()
