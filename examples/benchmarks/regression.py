"""Regression on published splits: SSMRegressor, SSMFeaturesRegressor and MiniRocket with ridge, ranks.

FloodModeling1 of the archive of time series regression, the sets that sktime and aeon bring along
(Covid3Month, Tecator, CardanoSentiment, which needs aeon), and how many cycles are left to the engines of
NASA's C-MAPSS FD001: training engines give windows of 30 cycles, every tenth one, test engines their last,
and targets above 125 are 125, as usual. Models have their defaults, one thread, and the same seeds;
MiniRocket is that of sktime, whose penalty RidgeCV chooses. The root mean square error is the mean over
seeds, seconds are those of the processor. Finished sets are kept in the JSON file, and a second call goes on
with the others. Run as

    TSSSM_DATA=FOLDER OMP_NUM_THREADS=1 python examples/benchmarks/regression.py --json results.json
"""

from __future__ import annotations

import argparse
import json
import os
import tarfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from sktime.datasets import load_covid_3month, load_tecator
from sktime.regression.kernel_based import RocketRegressor

from tsssm import SSMFeaturesRegressor, SSMRegressor
from tsssm.datasets import fetch_tser

SETS = ("FloodModeling1", "C-MAPSS FD001", "Covid3Month", "Tecator", "CardanoSentiment")
MODELS: dict[str, Callable[[int], Any]] = {
    "SSMRegressor": lambda seed: SSMRegressor(random_state=seed),
    "SSMFeaturesRegressor": lambda seed: SSMFeaturesRegressor(random_state=seed),
    "MiniRocket": lambda seed: RocketRegressor(rocket_transform="minirocket", n_jobs=1, random_state=seed),
}
CYCLES, STEP, MOST = 30, 10, 125
Part = tuple[np.ndarray, np.ndarray]


def engines(split: str) -> Part:
    """Windows (n, 21, 30) of sensors, and cycles to failure (n,)."""
    with tarfile.open(Path(os.environ["TSSSM_DATA"]) / "tser" / "cmapss.tar.xz") as archive:
        lines = archive.extractfile(f"cmapss/{split}_FD001.txt")
        table = pd.read_csv(lines, sep=r"\s+", header=None, skiprows=1 if split == "train" else 0)
        left = np.loadtxt(archive.extractfile("cmapss/RUL_FD001.txt"))
    X, y = [], []
    for engine, rows in table.groupby(0):
        sensors = rows.to_numpy(dtype=np.float64)[:, 5:26]
        last = len(sensors)
        for end in range(last, CYCLES - 1, -STEP) if split == "train" else [last]:
            X.append(sensors[end - CYCLES : end].T)
            y.append(last - end + (left[int(engine) - 1] if split == "test" else 0))
    return np.array(X), np.minimum(y, MOST)


def load(name: str, split: str) -> Part:
    """Series (n, channels, length) and targets (n,) of one part of a set."""
    if name == "C-MAPSS FD001":
        return engines(split)
    if name == "CardanoSentiment":
        from aeon.datasets import load_cardano_sentiment

        X, y = load_cardano_sentiment(split=split)
    elif name == "Tecator":
        X, y = load_tecator(split=split, return_type="numpy3D")
    elif name == "Covid3Month":
        nested, y = load_covid_3month(split=split)
        X = np.stack([np.stack([cell.to_numpy() for cell in row]) for row in nested.to_numpy()])
    else:
        X, y = fetch_tser(name, part=split, return_X_y=True)
    return np.asarray(X, dtype=np.float64), np.asarray(y, dtype=np.float64)


def measure(make: Callable[[int], Any], seeds: list[int], train: Part, test: Part) -> dict[str, Any]:
    """Root mean square errors on the test part, their mean, and seconds of fit and predict."""
    errors, seconds = [], []
    for seed in seeds:
        torch.set_num_threads(1)  # MiniRocket's compiled threads set it to every core
        started = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            predicted = np.asarray(make(seed).fit(*train).predict(test[0]))
        seconds.append(time.process_time() - started)
        errors.append(float(np.sqrt(np.mean((predicted - test[1]) ** 2))))
    return {
        "rmse": round(float(np.mean(errors)), 5),
        "rmse of seeds": [round(error, 5) for error in errors],
        "seconds": round(float(np.mean(seconds)), 2),
    }


def ranks(results: dict[str, Any]) -> dict[str, Any]:
    """Mean ranks over the sets, and of each model the sets on which its error is below that of MiniRocket."""
    errors = np.array([[row[name]["rmse"] for name in MODELS] for row in results.values()])
    return {
        "sets": len(errors),
        "mean rank": dict(zip(MODELS, rankdata(errors, axis=1).mean(axis=0).round(2).tolist(), strict=True)),
        "ahead of MiniRocket": {
            name: int((errors[:, i] < errors[:, -1]).sum()) for i, name in enumerate(list(MODELS)[:-1])
        },
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args(arguments)

    report: dict[str, Any] = {"ranks": {}, "results": {}}
    if options.json.exists():
        report = json.loads(options.json.read_text(encoding="utf-8"))
    for name in options.sets:
        if report["results"].get(name, {}).get("seeds") == options.seeds:
            continue
        train, test = load(name, "train"), load(name, "test")
        mean = float(np.sqrt(np.mean((test[1] - train[1].mean()) ** 2)))
        result: dict[str, Any] = {"train": train[0].shape, "test": len(test[1])}
        result |= {"seeds": options.seeds, "training mean": round(mean, 5)}
        for label, make in MODELS.items():
            if label == "MiniRocket":
                few = (train[0][:9], train[1][:9])
                measure(make, [0], few, few)  # compiles
            result[label] = measure(make, options.seeds, train, test)
            print(name, label, result[label], flush=True)
        report["results"][name] = result
        report["ranks"] = ranks(report["results"])
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report["ranks"], indent=1))


if __name__ == "__main__":
    main()
