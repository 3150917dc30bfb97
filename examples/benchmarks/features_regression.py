"""Closed-form features against MiniRocket and MultiRocket with RidgeCV: regression on published splits.

Heart rate from 32 s of photoplethysmogram and ECG (BIDMC, test records that no model has seen, each channel
of each window standardised for all models), and three sets that sktime and aeon bring along. Models have
their defaults, one thread, and the same seeds; the root mean square error is the mean over seeds. Six test
records say little, as a single one can decide; so --folds adds a cross-validation over the 22 training
records, none of which is on both sides of a split. The peers come from aeon, which has to be installed beside
tsssm. Run as

    TSSSM_DATA=FOLDER OMP_NUM_THREADS=1 python examples/benchmarks/features_regression.py --json results.json
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import GroupKFold
from sktime.datasets import load_covid_3month, load_tecator

from tsssm import SSMFeaturesRegressor
from tsssm.datasets import fetch_bidmc

SETS = ("Covid3Month", "Tecator", "CardanoSentiment", "BIDMC")
PEERS = ("MiniRocket", "MultiRocket")
Part = tuple[np.ndarray, np.ndarray]


def load_heart_rate(split: str, decimate: int, every: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every so many-th window (n, channels, length) of BIDMC, its heart rate and its record."""
    data = fetch_bidmc("HR", part=split, decimate=decimate)
    X = data.data - data.data.mean(axis=2, keepdims=True)
    std = X.std(axis=2, keepdims=True)
    X = X / np.where(std > 0, std, 1)
    return X[::every], data.target[::every], data.groups[::every]


def load(name: str, split: str) -> Part:
    """Series (n, channels, length) and targets (n,) of one part of a set."""
    if name == "CardanoSentiment":
        from aeon.datasets import load_cardano_sentiment

        X, y = load_cardano_sentiment(split=split)
    elif name == "Tecator":
        X, y = load_tecator(split=split, return_type="numpy3D")
    else:
        nested, y = load_covid_3month(split=split)
        X = np.stack([np.stack([cell.to_numpy() for cell in row]) for row in nested.to_numpy()])
    return np.asarray(X, dtype=np.float64), np.asarray(y, dtype=np.float64)


def models(peers: list[str]) -> dict[str, Callable[[int], Any]]:
    """Our model and some of the peers by name; a model takes a seed."""
    found: dict[str, Callable[..., Any]] = {"SSMFeaturesRegressor": SSMFeaturesRegressor}
    if peers:
        import numba
        from aeon.regression.convolution_based import MiniRocketRegressor, MultiRocketRegressor

        numba.set_num_threads(1)
        of_aeon = {"MiniRocket": MiniRocketRegressor, "MultiRocket": MultiRocketRegressor}
        found |= {name: partial(of_aeon[name], n_jobs=1) for name in peers}
    return {name: lambda seed, make=make: make(random_state=seed) for name, make in found.items()}


def measure(make: Callable[[int], Any], seeds: list[int], train: Part, test: Part) -> dict[str, Any]:
    """Root mean square errors on the test part, their mean, and seconds of fit and predict."""
    errors, seconds = [], []
    for seed in seeds:
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            predicted = make(seed).fit(*train).predict(test[0])
        seconds.append(time.perf_counter() - started)
        errors.append(float(np.sqrt(np.mean((predicted - test[1]) ** 2))))
    return {
        "rmse": round(float(np.mean(errors)), 5),
        "rmse of seeds": [round(error, 5) for error in errors],
        "seconds": round(float(np.mean(seconds)), 2),
    }


def cross_validate(
    make: Callable[[int], Any],
    seeds: list[int],
    X: np.ndarray,
    y: np.ndarray,
    records: np.ndarray,
    folds: int,
) -> dict[str, Any]:
    """Root mean square errors on windows of records that a model has not seen: of all, and by record."""
    whole, by_record = [], []
    for seed in seeds:
        predicted = np.empty(len(y))
        for train, test in GroupKFold(folds).split(X, y, records):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                predicted[test] = make(seed).fit(X[train], y[train]).predict(X[test])
        square = (predicted - y) ** 2
        whole.append(float(np.sqrt(square.mean())))
        by_record.append([np.sqrt(square[records == record].mean()) for record in np.unique(records)])
    each = np.mean(by_record, axis=0)
    return {
        "rmse": round(float(np.mean(whole)), 3),
        "rmse of seeds": [round(error, 3) for error in whole],
        "median over records": round(float(np.median(each)), 3),
        "records": dict(zip(np.unique(records).tolist(), each.round(2).tolist(), strict=True)),
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--decimate", type=int, default=4, help="of BIDMC's 125 Hz")
    parser.add_argument("--every", type=int, default=3, help="which of BIDMC's overlapping training windows")
    parser.add_argument("--folds", type=int, default=0, help="of the records of BIDMC; 0 leaves this out")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args(arguments)

    torch.set_num_threads(1)
    report: dict[str, Any] = {"decimate": options.decimate, "every": options.every, "results": {}}
    if options.folds:
        X, y, records = load_heart_rate("train", options.decimate, options.every)
        report["cross-validation"] = {"windows": len(y), "folds": options.folds}
        for label, make in models(options.peers).items():
            scores = cross_validate(make, options.seeds, X, y, records, options.folds)
            report["cross-validation"][label] = scores
            print("BIDMC, by record", label, scores, flush=True)
            options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for name in options.sets:
        if name == "BIDMC":
            train = load_heart_rate("train", options.decimate, options.every)[:2]
            test = load_heart_rate("test", options.decimate, 1)[:2]
        else:
            train, test = load(name, "train"), load(name, "test")
        mean = float(np.sqrt(np.mean((test[1] - train[1].mean()) ** 2)))
        result: dict[str, Any] = {"train": train[0].shape, "training mean": {"rmse": round(mean, 5)}}
        for label, make in models(options.peers).items():
            few = (train[0][:9], train[1][:9])
            measure(make, [0], few, few)  # compiles
            result[label] = measure(make, options.seeds, train, test)
            print(name, label, result[label], flush=True)
        report["results"][name] = result
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
