"""Closed-form features on series with dropped samples, against MiniRocket on interpolated ones.

Half, or four fifths, of the samples of every training and test series are dropped; ours are given the times
of the others, MiniRocket the straight lines between them on the full grid. The published splits, with two
masks, which are also the seeds of the models. Beside accuracy: how far the features of a series move when
samples are dropped, as a root mean square over series and features, in units of how far they are from those
of another series of the same class. The peer comes from aeon, which has to be installed beside tsssm. Run as

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

from tsssm import Panel, SSMFeatures, SSMFeaturesClassifier
from tsssm.datasets import fetch_ucr

SETS = "CBF ECG200 GunPoint Lightning7 PowerCons SwedishLeaf SyntheticControl Trace".split()


def masked(X: np.ndarray, drop: float, seed: int) -> tuple[Panel, np.ndarray]:
    """The series without the dropped samples, and the same interpolated on the full grid."""
    rng = np.random.default_rng(seed)
    length = X.shape[1]
    kept = [np.sort(rng.choice(length, round(length * (1 - drop)), replace=False)) for _ in X]
    values = [x[rows] for x, rows in zip(X, kept, strict=True)]
    filled = [np.interp(np.arange(length), rows, x) for x, rows in zip(values, kept, strict=True)]
    return Panel.from_arrays(values, [rows.astype(float) for rows in kept]), np.stack(filled)


def movement(X: np.ndarray, y: np.ndarray, drop: float, seed: int) -> float:
    """How far features move when samples are dropped, in units of the distance within a class."""
    panel, _ = masked(X, 0.0, seed)
    features = SSMFeatures(random_state=seed).fit(panel)
    full, thinned = features.transform(panel), features.transform(masked(X, drop, seed)[0])
    scale = np.where(full.std(axis=0) > 0, full.std(axis=0), np.inf)
    full, thinned = full / scale, thinned / scale
    neighbours = np.concatenate([np.roll(rows, 1) for rows in (np.flatnonzero(y == c) for c in np.unique(y))])
    order = np.concatenate([np.flatnonzero(y == c) for c in np.unique(y)])
    within = np.mean((full[order] - full[neighbours]) ** 2)
    return float(np.sqrt(np.mean((full - thinned) ** 2) / within))


def evaluate(name: str, drop: float, seed: int, peer: bool) -> dict[str, float]:
    """Accuracies on the test part, and the movement of the features of the training part."""
    (X, y), (X_test, y_test) = (fetch_ucr(name, part=part, return_X_y=True) for part in ("train", "test"))
    X, X_test = (np.reshape(part, (len(part), -1)).astype(np.float64) for part in (X, X_test))
    panel, filled = masked(X, drop, seed)
    panel_test, filled_test = masked(X_test, drop, seed + 1000)
    model = SSMFeaturesClassifier(random_state=seed).fit(panel, y)
    result = {"SSMFeaturesClassifier": float(model.score(panel_test, y_test))}
    if peer:
        from aeon.classification.convolution_based import MiniRocketClassifier

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            other = MiniRocketClassifier(random_state=seed, n_jobs=1).fit(filled[:, None], y)
            result["MiniRocket, interpolated"] = float(np.mean(other.predict(filled_test[:, None]) == y_test))
    result["movement"] = round(movement(X, y, drop, seed), 4)
    return result


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--drop", type=float, nargs="+", default=[0.5, 0.8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args(arguments)

    torch.set_num_threads(1)
    report: dict[str, Any] = {"summary": {}, "results": {}}
    for drop in options.drop:
        rows = []
        for name in options.sets:
            for seed in options.seeds:
                result = evaluate(name, drop, seed, peer=not options.no_peer)
                report["results"][f"{name}|{drop}|{seed}"] = result
                rows.append(result)
                print(name, drop, seed, result, flush=True)
        report["summary"][f"{drop:.0%} dropped"] = {
            column: round(float(np.mean([row[column] for row in rows])), 4) for column in rows[0]
        }
    options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report["summary"], indent=2))


if __name__ == "__main__":
    main()
