"""Closed-form features on series with dropped samples, against MiniRocket on interpolated ones.

Half, or four fifths, of the samples of every training and test series are dropped; ours are given the times
of the others, MiniRocket the straight lines between them on the full grid. The published splits, with some
masks, which are also the seeds of the models; the difference of the two is given with its standard error over
the masks. How far the features of a series move when samples are dropped is in features_invariance.py. The
peer comes from aeon, which has to be installed beside tsssm. Finished fits are kept in the JSON file, and a
second call goes on where the first one ended. Run as

    TSSSM_DATA=FOLDER OMP_NUM_THREADS=1 python examples/benchmarks/features_irregular.py --json results.json
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tsssm import Panel, SSMFeaturesClassifier
from tsssm.datasets import fetch_ucr

OURS, PEER = "SSMFeaturesClassifier", "MiniRocket, interpolated"
SETS = "CBF ECG200 GunPoint Lightning7 PowerCons SwedishLeaf SyntheticControl Trace".split()


def masked(X: np.ndarray, drop: float, seed: int) -> tuple[Panel, np.ndarray]:
    """The series without the dropped samples, and the same interpolated on the full grid."""
    rng = np.random.default_rng(seed)
    length = X.shape[1]
    kept = [np.sort(rng.choice(length, round(length * (1 - drop)), replace=False)) for _ in X]
    values = [x[rows] for x, rows in zip(X, kept, strict=True)]
    filled = [np.interp(np.arange(length), rows, x) for x, rows in zip(values, kept, strict=True)]
    return Panel.from_arrays(values, [rows.astype(float) for rows in kept]), np.stack(filled)


def evaluate(name: str, drop: float, seed: int, peer: bool) -> dict[str, float]:
    """Accuracies on the test part."""
    (X, y), (X_test, y_test) = (fetch_ucr(name, part=part, return_X_y=True) for part in ("train", "test"))
    X, X_test = (np.reshape(part, (len(part), -1)).astype(np.float64) for part in (X, X_test))
    panel, filled = masked(X, drop, seed)
    panel_test, filled_test = masked(X_test, drop, seed + 1000)
    model = SSMFeaturesClassifier(random_state=seed).fit(panel, y)
    result = {OURS: float(model.score(panel_test, y_test))}
    if peer:
        from aeon.classification.convolution_based import MiniRocketClassifier

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            other = MiniRocketClassifier(random_state=seed, n_jobs=1).fit(filled[:, None], y)
            result[PEER] = float(np.mean(other.predict(filled_test[:, None]) == y_test))
    return result


def summary(results: dict[str, dict[str, float]], drop: float) -> dict[str, Any]:
    """Means over sets, of the masks with which every set was run, and the difference of the models."""
    keys = [key.split("|") for key in results]
    sets = list(dict.fromkeys(key[0] for key in keys))
    masks = list(dict.fromkeys(key[2] for key in keys))
    complete = [m for m in masks if all(f"{name}|{drop}|{m}" in results for name in sets)]
    if not complete:
        return {}
    columns = list(results[f"{sets[0]}|{drop}|{complete[0]}"])
    rows = [[[results[f"{name}|{drop}|{m}"][c] for name in sets] for m in complete] for c in columns]
    by_mask = np.mean(rows, axis=2)
    report: dict[str, Any] = {"sets": len(sets), "masks": len(complete)}
    for column, values in zip(columns, by_mask, strict=True):
        report[column] = {"mean": round(float(values.mean()), 4), "of masks": values.round(4).tolist()}
    if PEER in columns and len(complete) > 1:
        ahead = by_mask[columns.index(OURS)] - by_mask[columns.index(PEER)]
        error = float(ahead.std(ddof=1) / np.sqrt(len(ahead)))
        report["ahead of the peer"] = {
            "mean": round(float(ahead.mean()), 4),
            "standard error over masks": round(error, 4),
        }
    return report


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--drop", type=float, nargs="+", default=[0.5, 0.8])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args(arguments)

    torch.set_num_threads(1)
    report: dict[str, Any] = {"summary": {}, "results": {}}
    if options.json.exists():
        report = json.loads(options.json.read_text(encoding="utf-8"))
    wanted = [(n, d, s) for s in options.seeds for d in options.drop for n in options.sets]
    for name, drop, seed in wanted:
        key = f"{name}|{drop}|{seed}"
        if key in report["results"]:
            continue
        report["results"][key] = evaluate(name, drop, seed, peer=not options.no_peer)
        drops = dict.fromkeys(float(key.split("|")[1]) for key in report["results"])
        report["summary"] = {f"{d:.0%} dropped": summary(report["results"], d) for d in drops}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(name, drop, seed, report["results"][key], flush=True)
    print(json.dumps(report["summary"], indent=2))


if __name__ == "__main__":
    main()
