"""Closed-form features against MiniRocket and MultiRocket-Hydra: accuracy, rank and time, published splits.

Every model is fitted to the training part and scored once on the test part, with its defaults. All run in one
process on one thread, one after the other on the same set, after a first call that compiles their kernels;
times are those of fit and predict together. The peers come from aeon, which has to be installed beside tsssm;
series of unequal length are padded with zeros for them. Finished fits are kept in the JSON file, and a second
call goes on where the first one ended; with --no-times it measures accuracy alone, where other processes are
running. Run as

    TSSSM_DATA=FOLDER OMP_NUM_THREADS=1 \
        python examples/benchmarks/features_classification.py --json results.json
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
from sktime.datasets import load_basic_motions, load_japanese_vowels

from tsssm import SSMFeaturesClassifier
from tsssm.datasets import fetch_ucr, fetch_uea

UCR = (
    "Adiac ArrowHead Beef CBF Car CricketX DistalPhalanxTW ECG200 ECGFiveDays Earthquakes FaceFour GunPoint "
    "ItalyPowerDemand Lightning7 MoteStrain OSULeaf Plane PowerCons SonyAIBORobotSurface1 SwedishLeaf "
    "SyntheticControl ToeSegmentation1 Trace TwoLeadECG"
).split()
UEA = "RacketSports Epilepsy ERing NATOPS JapaneseVowels BasicMotions".split()
OURS = "SSMFeaturesClassifier"


def load(name: str, split: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Series (channels, length_i) and labels of one part of a set."""
    if name in ("JapaneseVowels", "BasicMotions"):
        loader = {"JapaneseVowels": load_japanese_vowels, "BasicMotions": load_basic_motions}[name]
        nested, y = loader(split=split, return_type="nested_univ")
        return [np.stack([cell.to_numpy() for cell in row]) for row in nested.to_numpy()], np.asarray(y)
    X, y = (fetch_ucr if name in UCR else fetch_uea)(name, part=split, return_X_y=True)
    return [np.atleast_2d(np.asarray(x, dtype=np.float64)) for x in X], np.asarray(y)


def rectangular(series: list[np.ndarray], length: int) -> np.ndarray:
    """Array (n, channels, length), zeros behind the end of a series."""
    return np.stack([np.pad(x[:, :length], ((0, 0), (0, max(0, length - x.shape[1])))) for x in series])


def peers(names: list[str]) -> dict[str, Callable[[int], Any]]:
    """Models of aeon by name; a model takes a seed."""
    if not names:
        return {}
    import numba
    from aeon.classification.convolution_based import MiniRocketClassifier, MultiRocketHydraClassifier

    numba.set_num_threads(1)
    models = {
        "MiniRocket": lambda seed: MiniRocketClassifier(random_state=seed, n_jobs=1),
        "MultiRocket-Hydra": lambda seed: MultiRocketHydraClassifier(random_state=seed, n_jobs=1),
    }
    return {name: models[name] for name in names}


def measure(model: Any, train: tuple[Any, np.ndarray], test: tuple[Any, np.ndarray]) -> dict[str, float]:
    """Accuracy on the test part, and seconds of fit and predict."""
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predicted = model.fit(*train).predict(test[0])
    seconds = time.perf_counter() - started
    return {"accuracy": float(np.mean(predicted == test[1])), "seconds": round(seconds, 3)}


def evaluate(
    name: str, seed: int, models: dict[str, Callable[[int], Any]], times: bool = True
) -> dict[str, dict[str, float]]:
    """Results of all models on one set."""
    (X, y), (X_test, y_test) = load(name, "train"), load(name, "test")
    length = max(9, max(x.shape[1] for x in X))
    arrays = [(rectangular(part, length), labels) for part, labels in ((X, y), (X_test, y_test))]
    results = {}
    for label, make in models.items():
        ragged = label == OURS and len({x.shape[1] for x in X}) > 1
        parts = [(X, y), (X_test, y_test)] if ragged else arrays
        few = np.concatenate([np.flatnonzero(y == c)[:2] for c in np.unique(y)])
        compiling = arrays[0][0][few], y[few]
        measure(make(seed), compiling, compiling)
        results[label] = measure(make(seed), *parts)
        if not times:
            del results[label]["seconds"]
    return results


def summary(results: dict[str, dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Mean accuracy of each seed and of all, mean rank on the means over seeds, and total seconds a seed.

    Of each group of sets; the seconds are those of the seeds that were timed.
    """
    report: dict[str, Any] = {}
    for group, members in {"UCR": UCR, "UEA": UEA}.items():
        keys = [key.split("|") for key in results]
        sets = [s for s in dict.fromkeys(key[0] for key in keys) if s in members]
        if not sets:
            continue
        seeds = list(dict.fromkeys(key[1] for key in keys if key[0] in sets))
        complete = [s for s in seeds if all(f"{name}|{s}" in results for name in sets)]
        if not complete:
            continue
        labels = list(results[f"{sets[0]}|{complete[0]}"])

        def table(column: str, seeds: list[str], sets: list[str] = sets) -> np.ndarray:
            rows = [[[r[column] for r in results[f"{n}|{s}"].values()] for s in seeds] for n in sets]
            return np.array(rows)

        timed = [
            s
            for s in complete
            if all("seconds" in r for name in sets for r in results[f"{name}|{s}"].values())
        ]
        by_seed = table("accuracy", complete).mean(axis=0)
        accuracy = table("accuracy", complete).mean(axis=1)
        seconds = table("seconds", timed).mean(axis=1).sum(axis=0) if timed else None
        better = (accuracy[:, None, :] > accuracy[:, :, None]).sum(axis=2)
        equal = (accuracy[:, None, :] == accuracy[:, :, None]).sum(axis=2)
        rank = (better + (equal + 1) / 2).mean(axis=0)
        report[group] = {"sets": len(sets), "seeds": len(complete), "seeds timed": len(timed)}
        for i, label in enumerate(labels):
            report[group][label] = {
                "accuracy": round(float(accuracy[:, i].mean()), 4),
                "accuracy of seeds": [round(float(row[i]), 4) for row in by_seed],
                "mean rank": round(float(rank[i]), 2),
            }
            if seconds is not None:
                ours = seconds[labels.index(OURS)]
                report[group][label]["seconds"] = round(float(seconds[i]), 1)
                report[group][label]["time, ours = 1"] = round(float(seconds[i] / ours), 2)
    return report


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=[*UCR, *UEA], default=[*UCR, *UEA])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--peers", nargs="*", default=["MiniRocket", "MultiRocket-Hydra"])
    parser.add_argument("--no-times", dest="times", action="store_false")
    parser.add_argument("--n-features", type=int, default=12288)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args(arguments)

    torch.set_num_threads(1)
    ours = {OURS: lambda seed: SSMFeaturesClassifier(options.n_features, random_state=seed)}
    models = {**ours, **peers(options.peers)}
    protocol = {"n_features": options.n_features, "models": list(models), "threads": 1}
    report: dict[str, Any] = {"protocol": protocol, "summary": {}, "results": {}}
    if options.json.exists():
        report = json.loads(options.json.read_text(encoding="utf-8"))
        if report["protocol"] != protocol:
            parser.error(f"{options.json} holds results of another protocol: {report['protocol']}")
    for seed in options.seeds:
        for name in options.sets:
            if f"{name}|{seed}" in report["results"]:
                continue
            result = report["results"][f"{name}|{seed}"] = evaluate(name, seed, models, options.times)
            report["summary"] = summary(report["results"])
            options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            print(name, seed, result, flush=True)
    print(json.dumps(report["summary"], indent=2))


if __name__ == "__main__":
    main()
