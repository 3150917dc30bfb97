"""Heart rate from 32 s of an intensive-care monitor (BIDMC), every patient judged by what others taught.

The 28 patients are in four folds, so that each is tested once; all choices were made on these folds. The
target is the mean of the number that the monitor showed. One network hears the pulses of PLETH, another how
strong the QRS complex of the ECG is, and the surer one is of an answer, the more it counts. Beside them
stands the counting of peaks. Run as

    TSSSM_DATA=FOLDER OMP_NUM_THREADS=1 python examples/experiments/heart_rate.py [--json results.json]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from bidmc_inputs import QRS, Array, band, beats, peaks, standardised
from experiment import parser, spread, write
from scipy.signal import resample_poly
from sklearn.model_selection import GroupKFold

from tsssm import SSMRegressor
from tsssm.datasets import fetch_bidmc

FOLDS = 4
SIGNALS = ("PLETH", "ECG")
# A recording played faster is one of a faster heart: speeds in tenths, and rates that patients have. Filters
# come after it, so that the pulse of a beat is as wide at every rate.
SPEEDS, BETWEEN = range(6, 17), (45.0, 140.0)
SETTINGS: dict[str, Any] = {
    "n_members": 1,
    "n_features": 0,
    "augment": {"rate": (0.95, 1.05), "crop": 0.42, "gain": 0.2, "noise": 0.1},
    "norm": "layer",
    "timescales": (2.0, 100.0),
    "dropout": 0.0,
    "loss": "quantile",
    "quantiles": (0.16, 0.5, 0.84),
    "learning_rate": 1e-2,
    "ssm_learning_rate": 3e-3,
    "max_steps": 750,
    "batch_size": 64,
}
SHORTEST, PIECE = 250, 100  # samples of a window at the highest speed, and of what a network hears at once
STARTS = range(0, 301, 50)  # of the pieces that it is asked about


def network(heard: dict[int, Array], y: Array, train: Array, test: Array, **settings: Any) -> Array:
    """What a network says to pieces of windows: lower, middle and upper rates (pieces, n, 3)."""
    X, rates = [], []
    for speed in SPEEDS:
        rate = y[train] * speed / 10
        known = (rate > BETWEEN[0]) & (rate < BETWEEN[1])
        X.append(heard[speed][train[known], :, :SHORTEST])
        rates.append(rate[known])
    model = SSMRegressor(**{**SETTINGS, **settings}).fit(np.concatenate(X), np.concatenate(rates))
    asked = heard[10][test]
    return np.stack([model.predict_quantiles(asked[:, :, start : start + PIECE]) for start in STARTS])


def averaged(said: Array) -> Array:
    """The mean (n,) of middle rates (k, n, 3): surer ones count more, and early ones, as monitors lag."""
    early = np.tile(np.linspace(1.4, 0.6, len(STARTS)), len(said) // len(STARTS))[:, None]
    width = np.maximum(said[..., 2] - said[..., 0], 1e-3)
    return np.average(said[..., 1], axis=0, weights=early / width)


def counted(signal: Array, summary: Callable[[Array], Any]) -> Array:
    """Heart rate (n,) by a summary of the times between peaks of signals (n, length)."""
    rates = []
    for x in standardised(signal):
        times = peaks(x)
        rates.append(60 / summary(np.diff(times)) if len(times) > 1 else np.nan)
    return np.where(np.isnan(rates), np.nanmean(rates), rates)


# Prominence and summary are those with the smallest error.
COUNTS: dict[str, Callable[[Array], Array]] = {
    "peaks of PLETH": lambda X: counted(band(X[:, 0], 0.5, 8.0), np.median),
    "peaks of the ECG": lambda X: counted(band(np.abs(band(X[:, 1], *QRS)), None, 6.0), np.mean),
}


def errors(predicted: list[Array], y: Array, patients: Array) -> dict[str, Any]:
    """Root mean square errors over all windows, by seed, and over those of each patient."""
    off = np.asarray(predicted) - y
    own = {str(each): float(np.sqrt(np.mean(off[:, patients == each] ** 2))) for each in np.unique(patients)}
    return {
        "rmse": spread(np.sqrt(np.mean(off**2, axis=1)).tolist()),
        "worst": max(own.values()),
        "rmse of patients": {each: round(value, 3) for each, value in own.items()},
        "bias of patients": {each: round(float(off[:, patients == each].mean()), 3) for each in own},
    }


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__, settings=True).parse_args(arguments)
    data = fetch_bidmc("HR", decimate=2)
    X, y, patients = data.data, data.target, data.groups
    folds = list(GroupKFold(FOLDS, shuffle=True, random_state=0).split(X, y, patients))
    results = {name: errors([count(X)], y, patients) for name, count in COUNTS.items()}
    mean = np.empty(len(y))
    for train, test in folds:
        mean[test] = y[train].mean()
    results["training mean"] = errors([mean], y, patients)
    settings = {**options.settings, "accelerator": options.device, "verbose": options.verbose}
    heard = {speed: beats(resample_poly(X, 10, speed, axis=2, padtype="line")) for speed in SPEEDS}
    predicted: dict[str, list[Array]] = {}
    for seed in options.seeds:
        started = time.process_time()
        said = np.empty((len(SIGNALS), len(STARTS), len(y), 3))
        for train, test in folds:
            for i, signal in enumerate(SIGNALS):
                own = {speed: series[:, i : i + 1] for speed, series in heard.items()}
                said[i, :, test] = network(own, y, train, test, random_state=seed, **settings).swapaxes(0, 1)
                rmse = errors([averaged(said[i][:, test])], y[test], patients[test])["rmse"]["mean"]
                print(f"{signal:6}{rmse:8.3f}{time.process_time() - started:8.0f} s", flush=True)
        predicted.setdefault("SSMRegressor", []).append(averaged(np.concatenate(said)))
        for name, own in zip(SIGNALS, said, strict=True):
            predicted.setdefault(f"SSMRegressor, {name} alone", []).append(averaged(own))
        results |= {name: errors(answers, y, patients) for name, answers in predicted.items()}
        results["SSMRegressor"]["core seconds of the last seed"] = time.process_time() - started
        for name, found in results.items():
            print(f"{name:26}{found['rmse']['mean']:8.3f}, worst patient{found['worst']:8.3f}", flush=True)
        write(
            options.json,
            results,
            paper={},
            differs="The papers split windows of all patients at random, so that each is in both parts.",
            windows=len(y),
            patients=len(np.unique(patients)),
            folds=FOLDS,
            settings={**SETTINGS, **options.settings},
            note=options.note,
        )


if __name__ == "__main__":
    main()
