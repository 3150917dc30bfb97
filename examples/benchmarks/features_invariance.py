"""How far closed-form features move when a random half of the samples of a series is dropped.

The statistic: features of a series and of the same series without half of its samples, the root mean square
of the difference over series and features, divided by that of the difference of two series of one class, each
with the next one of its class. Before that, features are divided by their standard deviations over the full
series. Below 1, a series is nearer to itself than to others of its class. It is given for features fitted to
the full series, for these with straight lines between the samples, and for features fitted to series of which
half of the samples are missing, others than those that are compared.

The series are the training parts of UCR sets, photoplethysmograms of patients (the class is the patient, the
series are windows of one recording, 90 s apart) and simulated ones without noise (the class is the quarter of
the heart rates). Only of smooth and densely sampled signals do half of the samples say what all do. Whether a
set is one is told from the signals alone: in the median series, less than a thousandth of the energy lies
above a quarter of the Nyquist frequency. Run as

    TSSSM_DATA=FOLDER OMP_NUM_THREADS=1 python examples/benchmarks/features_invariance.py --json results.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from features_irregular import masked

from tsssm import SSMFeatures
from tsssm.datasets import fetch_bidmc, fetch_ucr, make_vitals

PATIENTS, SIMULATED = "PPG of patients", "PPG, simulated"
SETS = (
    "Adiac ArrowHead Beef CBF Car CricketX DistalPhalanxTW ECG200 ECGFiveDays Earthquakes FaceFour GunPoint "
    "ItalyPowerDemand Lightning7 MoteStrain OSULeaf Plane PowerCons SonyAIBORobotSurface1 SwedishLeaf "
    "SyntheticControl ToeSegmentation1 Trace TwoLeadECG"
).split()
QUARTER, SMOOTH = 0.25, 1e-3
KINDS = ("fitted to full series", "the same, straight lines", "fitted to thinned series")


def load(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Series (n, length), each with mean 0 and variance 1, and classes (n,), those of one series left out."""
    if name == PATIENTS:
        data = fetch_bidmc("HR", part="train", channels=("PLETH",))
        X, y = data.data[::30, 0], data.groups[::30]
    elif name == SIMULATED:
        data = make_vitals(80, duration=16.0, noise=0.0, random_state=0)
        X, y = data.data[:, 0], np.argsort(np.argsort(data.target[:, 0])) // 20
    else:
        X, y = fetch_ucr(name, part="train", return_X_y=True)
    X = np.reshape(X, (len(X), -1)).astype(np.float64)
    classes, counts = np.unique(y, return_counts=True)
    several = np.isin(y, classes[counts > 1])
    X, y = X[several], y[several]
    X = X - X.mean(axis=1, keepdims=True)
    std = X.std(axis=1, keepdims=True)
    return X / np.where(std > 0, std, 1.0), y


def fast_share(X: np.ndarray) -> float:
    """Median over series of the share of energy above a quarter of the Nyquist frequency."""
    power = np.abs(np.fft.rfft((X - X.mean(axis=1, keepdims=True)) * np.hanning(X.shape[1]))) ** 2
    frequency = np.linspace(0, 1, power.shape[1])
    return float(np.median(power[:, frequency > QUARTER].sum(axis=1) / power[:, 1:].sum(axis=1)))


def distance(full: np.ndarray, thinned: np.ndarray, y: np.ndarray) -> float:
    """The statistic, of features (n, d) and classes (n,)."""
    # A feature that is constant but for the rounding of float32 tells nothing, however little it varies.
    varies = full.std(axis=0) > 1e-5 * np.abs(full).max(axis=0)
    scale = np.where(varies, full.std(axis=0), np.inf)
    full, thinned = full / scale, thinned / scale
    of_class = [np.flatnonzero(y == c) for c in np.unique(y)]
    order = np.concatenate(of_class)
    following = np.concatenate([np.roll(rows, 1) for rows in of_class])
    return float(np.sqrt(np.mean((full - thinned) ** 2) / np.mean((full[order] - full[following]) ** 2)))


def evaluate(X: np.ndarray, y: np.ndarray, drop: float, seed: int, n_features: int) -> dict[str, float]:
    """The statistic for each of the kinds of features."""
    full, thinned, others = (masked(X, *how)[0] for how in ((0.0, 0), (drop, seed), (drop, seed + 1000)))
    found = []
    for training in (full, others):
        features = SSMFeatures(n_features, random_state=seed).fit(training)
        F = features.transform(full)
        found.append(distance(F, features.transform(thinned), y))
        if training is full:
            features.features_.timeline.bend[:] = 0.0
            found.append(distance(F, features.transform(thinned), y))
    return {kind: round(value, 4) for kind, value in zip(KINDS, found, strict=True)}


def summary(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Of the smooth sets and of the others: how many are below 1, the mean and the largest."""
    report: dict[str, Any] = {}
    for title, smooth in (("smooth", True), ("others", False)):
        sets = [row for row in results.values() if row["smooth"] == smooth]
        report[title] = {"sets": len(sets)}
        for kind in KINDS if sets else ():
            means = [float(np.mean([each[kind] for each in row["movement"]])) for row in sets]
            report[title][kind] = {
                "mean": round(float(np.mean(means)), 3),
                "largest": round(max(means), 3),
                "sets below 1": sum(mean < 1 for mean in means),
            }
    return report


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=[*SETS, PATIENTS, SIMULATED])
    parser.add_argument("--n-features", type=int, default=12288)
    parser.add_argument("--drop", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of features and masks")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args(arguments)

    torch.set_num_threads(1)
    results: dict[str, dict[str, Any]] = {}
    for name in options.sets:
        X, y = load(name)
        share = fast_share(X)
        movement = [evaluate(X, y, options.drop, seed, options.n_features) for seed in options.seeds]
        shape = {"series": len(X), "length": X.shape[1], "classes": len(np.unique(y))}
        results[name] = {
            **shape,
            "share of energy above a quarter of Nyquist": float(f"{share:.2g}"),
            "smooth": share < SMOOTH,
            "movement": movement,
        }
        print(name, results[name], flush=True)
        report = {"dropped": options.drop, "summary": summary(results), "results": results}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report["summary"], indent=2))


if __name__ == "__main__":
    main()
