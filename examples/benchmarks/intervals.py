"""How many targets of new people, and of new engines, intervals and sets of closed-form features hold.

Heart rate from 32 s of PLETH and ECG (BIDMC, 28 patients) and cycles to failure from 30 cycles of 21 sensors
(C-MAPSS FD001, 100 engines), each patient and engine in one of four test parts, for ten partitions at random,
since with 28 patients one partition says little. `predict_interval` at 0.9, with and without ``groups`` in
``fit``. Beside them sets of activities from 5 s of a waist sensor (HAPT, 21 people, each in one of three test
parts) by MAPIE, and how sure probabilities are against how right. Run as

    pip install mapie
    TSSSM_DATA=FOLDER OMP_NUM_THREADS=1 python examples/benchmarks/intervals.py --json results.json
"""

from __future__ import annotations

import argparse
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold, KFold

from tsssm import SSMFeaturesClassifier, SSMFeaturesRegressor
from tsssm.datasets import fetch_hapt

_COVERAGE, _FEATURES, _PARTITIONS = 0.9, 3072, 10
# Windows of BIDMC, in samples at 125 Hz: length, and every 18 s one.
_WINDOW, _EVERY = 4000, 2250
# Cycles of a window, every sixth cycle one, and the most cycles to failure that sensors can tell of.
_CYCLES, _STEP, _MOST = 30, 6, 125
# Samples of a window of HAPT at 25 Hz, and its activities; those from 7 on are transitions.
_STEPS, _ACTIVITIES = 125, range(1, 7)

Task = tuple[np.ndarray, np.ndarray, np.ndarray]


def heart_rate(folder: Path) -> Task:
    """Windows (n, 2, 2000), mean rates (n,), patients (n,)."""
    X, y, groups = [], [], []
    with np.load(folder / "bidmc" / "bidmc28_125hz.npz") as arrays:
        for record in arrays["records"].tolist():
            signals, numbers = (arrays[f"{kind}_{int(record):02d}"] for kind in ("sig", "num"))
            for start in range(0, len(signals) - _WINDOW, _EVERY):
                second = start // 125
                rate = np.nanmean(numbers[second : second + 33, 0])
                window = signals[start : start + _WINDOW : 2, :2].T
                if np.isfinite(rate) and np.isfinite(window).all():
                    X.append(window)
                    y.append(rate)
                    groups.append(int(record))
    return np.array(X, np.float32), np.array(y), np.array(groups)


def engines(folder: Path) -> Task:
    """Windows (n, 21, 30), cycles to failure (n,), engines (n,)."""
    with tarfile.open(folder / "tser" / "cmapss.tar.xz") as archive:
        table = pd.read_csv(archive.extractfile("cmapss/train_FD001.txt"), sep=None, engine="python")
    X, y, groups = [], [], []
    for engine, rows in table.groupby("engine"):
        sensors = rows.to_numpy(dtype=np.float64)[:, 5:26]
        for end in range(_CYCLES, len(sensors) + 1, _STEP):
            X.append(sensors[end - _CYCLES : end].T)
            y.append(min(_MOST, len(sensors) - end))
            groups.append(engine)
    return np.array(X), np.array(y, dtype=np.float64), np.array(groups)


def activities() -> Task:
    """Windows (n, 6, 125) of one activity, the activities (n,), people (n,)."""
    hapt, X, y, groups = fetch_hapt(decimate=2), [], [], []
    for recording, labels, person in zip(hapt.data, hapt.target, hapt.groups, strict=True):
        for start in range(0, len(labels) - _STEPS + 1, _STEPS):
            within = labels[start : start + _STEPS]
            if within[0] in _ACTIVITIES and (within == within[0]).all():
                X.append(recording.values[start : start + _STEPS].T)
                y.append(int(within[0]))
                groups.append(int(person))
    return np.array(X), np.array(y), np.array(groups)


def judged(X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """Share of targets inside, the mean over groups, and mean width, with groups named and not."""
    found: dict[str, Any] = {}
    for name in ("groups", "no groups"):
        shares, widths = [], []
        for seed in range(_PARTITIONS):
            inside = np.empty(len(y), dtype=bool)
            for train, test in GroupKFold(4, shuffle=True, random_state=seed).split(X, y, groups):
                own = {"groups": groups[train]} if name == "groups" else {}
                model = SSMFeaturesRegressor(n_features=_FEATURES, random_state=0).fit(
                    X[train], y[train], **own
                )
                low, high = model.predict_interval(X[test], _COVERAGE).T
                inside[test] = (low <= y[test]) & (y[test] <= high)
                widths.append(float(np.mean(high - low)))
            shares.append(float(pd.Series(inside).groupby(groups).mean().mean()))
        found[name] = {
            "inside": round(float(np.mean(shares)), 3),
            "of a partition": [round(min(shares), 3), round(max(shares), 3)],
            "width": round(float(np.mean(widths)), 1),
        }
    return {"windows": len(y), "n_groups": len(np.unique(groups)), "partitions": _PARTITIONS, **found}


def judged_sets(X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """Share of classes inside of the sets, the mean over groups, mean size, and error of the surest class."""
    from mapie.classification import CrossConformalClassifier

    found: dict[str, Any] = {}
    for name, folds in (("groups", GroupKFold(5)), ("no groups", KFold(5, shuffle=True, random_state=0))):
        inside, sizes = np.empty(len(y), dtype=bool), np.empty(len(y))
        sure, right = np.empty(len(y)), np.empty(len(y), dtype=bool)
        for train, test in GroupKFold(3).split(X, y, groups):
            own = {"groups": groups[train]} if name == "groups" else {}
            model = SSMFeaturesClassifier(n_features=_FEATURES, random_state=0)
            sets = CrossConformalClassifier(model, confidence_level=_COVERAGE, cv=folds)
            sets.fit_conformalize(X[train], y[train], groups=groups[train])
            held = sets.predict_set(X[test])[1][..., 0]
            inside[test] = held[np.arange(len(test)), np.searchsorted(_ACTIVITIES, y[test])]
            sizes[test] = held.sum(axis=1)
            proba = model.fit(X[train], y[train], **own).predict_proba(X[test])
            sure[test], right[test] = proba.max(axis=1), model.classes_[proba.argmax(axis=1)] == y[test]
        shares = pd.Series(inside).groupby(groups).mean()
        found[name] = {
            "inside": round(float(shares.mean()), 3),
            "classes": round(float(sizes.mean()), 2),
            "accuracy": round(float(right.mean()), 3),
            "calibration error": round(calibration_error(sure, right), 3),
        }
    return {"windows": len(y), "n_groups": len(np.unique(groups)), **found}


def calibration_error(sure: np.ndarray, right: np.ndarray) -> float:
    """Mean distance of probability and share of right answers, over ten bins of as many windows."""
    bins = np.array_split(np.argsort(sure), 10)
    return float(np.mean([abs(sure[rows].mean() - right[rows].mean()) for rows in bins]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folder = Path(os.environ["TSSSM_DATA"])
    table = {
        "BIDMC, heart rate": judged(*heart_rate(folder)),
        "C-MAPSS FD001": judged(*engines(folder)),
        "HAPT, activities": judged_sets(*activities()),
    }
    for name, row in table.items():
        print(name, row)
    if options.json:
        options.json.write_text(json.dumps({"coverage": _COVERAGE, "results": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
