"""How many targets of new people, and of new engines, the intervals of closed-form features hold.

Heart rate from 32 s of PLETH and ECG (BIDMC, 28 patients) and cycles to failure from 30 cycles of 21 sensors
(C-MAPSS FD001, 100 engines), each patient and engine in one of four test parts. `predict_interval` at 0.9,
with and without ``groups`` in ``fit``. Run as

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
from sklearn.model_selection import GroupKFold

from tsssm import SSMFeaturesRegressor

_COVERAGE, _FEATURES = 0.9, 3072
# Windows of BIDMC, in samples at 125 Hz: length, and every 18 s one.
_WINDOW, _EVERY = 4000, 2250
# Cycles of a window, every sixth cycle one, and the most cycles to failure that sensors can tell of.
_CYCLES, _STEP, _MOST = 30, 6, 125

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


def judged(X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """Share of targets inside, the mean over groups, and mean width, with groups named and not."""
    found: dict[str, Any] = {}
    for name in ("groups", "no groups"):
        inside, widths = np.empty(len(y), dtype=bool), []
        for train, test in GroupKFold(4).split(X, y, groups):
            own = {"groups": groups[train]} if name == "groups" else {}
            model = SSMFeaturesRegressor(n_features=_FEATURES, random_state=0).fit(X[train], y[train], **own)
            low, high = model.predict_interval(X[test], _COVERAGE).T
            inside[test] = (low <= y[test]) & (y[test] <= high)
            widths.append(float(np.mean(high - low)))
        shares = pd.Series(inside).groupby(groups).mean()
        found[name] = {"inside": round(float(shares.mean()), 3), "width": round(float(np.mean(widths)), 1)}
    return {"windows": len(y), "groups": len(np.unique(groups)), **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folder = Path(os.environ["TSSSM_DATA"])
    table = {
        "BIDMC, heart rate": judged(*heart_rate(folder)),
        "C-MAPSS FD001": judged(*engines(folder)),
    }
    for name, row in table.items():
        print(name, row)
    if options.json:
        options.json.write_text(json.dumps({"coverage": _COVERAGE, "results": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
