"""Closed-form features against MiniRocket and MultiRocket with RidgeCV: regression on published splits.

Heart rate from 32 s of photoplethysmogram and ECG (BIDMC, test records that no model has seen, each channel
of each window standardised for all models), and three sets that sktime and aeon bring along. Models have
their defaults, one thread, and the same seeds; the root mean square error is the mean over seeds. The peers
come from aeon, which has to be installed beside tsssm. Run as

    TSSSM_DATA=FOLDER OMP_NUM_THREADS=1 python examples/benchmarks/features_regression.py --json results.json
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sktime.datasets import load_covid_3month, load_tecator

from tsssm import SSMFeaturesRegressor
from tsssm.datasets import fetch_bidmc

SETS = ("Covid3Month", "Tecator", "CardanoSentiment", "BIDMC")
Part = tuple[np.ndarray, np.ndarray]


def load(name: str, split: str, decimate: int) -> Part:
    """Series (n, channels, length) and targets (n,) of one part of a set."""
    if name == "BIDMC":
        X, y = fetch_bidmc("HR", part=split, decimate=decimate, return_X_y=True)
        X = X - X.mean(axis=2, keepdims=True)
        std = X.std(axis=2, keepdims=True)
        return X / np.where(std > 0, std, 1), y
    if name == "CardanoSentiment":
        from aeon.datasets import load_cardano_sentiment

        X, y = load_cardano_sentiment(split=split)
    elif name == "Tecator":
        X, y = load_tecator(split=split, return_type="numpy3D")
    else:
        nested, y = load_covid_3month(split=split)
        X = np.stack([np.stack([cell.to_numpy() for cell in row]) for row in nested.to_numpy()])
    return np.asarray(X, dtype=np.float64), np.asarray(y, dtype=np.float64)


def models(peers: bool) -> dict[str, Callable[[int], Any]]:
    """Models by name; a model takes a seed."""
    found: dict[str, Callable[[int], Any]] = {
        "SSMFeaturesRegressor": lambda seed: SSMFeaturesRegressor(random_state=seed)
    }
    if peers:
        import numba
        from aeon.regression.convolution_based import MiniRocketRegressor, MultiRocketRegressor

        numba.set_num_threads(1)
        found["MiniRocket"] = lambda seed: MiniRocketRegressor(random_state=seed, n_jobs=1)
        found["MultiRocket"] = lambda seed: MultiRocketRegressor(random_state=seed, n_jobs=1)
    return found


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


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--decimate", type=int, default=4, help="of BIDMC's 125 Hz")
    parser.add_argument("--every", type=int, default=3, help="which of BIDMC's overlapping training windows")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args(arguments)

    torch.set_num_threads(1)
    report: dict[str, Any] = {"decimate": options.decimate, "every": options.every, "results": {}}
    for name in options.sets:
        train, test = (load(name, split, options.decimate) for split in ("train", "test"))
        if name == "BIDMC":
            train = (train[0][:: options.every], train[1][:: options.every])
        mean = float(np.sqrt(np.mean((test[1] - train[1].mean()) ** 2)))
        result: dict[str, Any] = {"train": train[0].shape, "training mean": {"rmse": round(mean, 5)}}
        for label, make in models(not options.no_peers).items():
            few = (train[0][:9], train[1][:9])
            measure(make, [0], few, few)  # compiles
            result[label] = measure(make, options.seeds, train, test)
            print(name, label, result[label], flush=True)
        report["results"][name] = result
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
