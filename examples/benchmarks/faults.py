"""What a thousandth of impossible values costs: accuracy on ten UCR sets, clean and with faults.

Of all values, training and test series alike, 0.1 % are replaced by numbers of either sign, their size drawn
between 1e3 and 1e12, evenly in its logarithm. Estimators have their defaults. Beside the accuracy stands the
number of values of the clean set that count as faults, which should be none: a clean set is then fitted as if
nothing looked for faults. Run as

    TSSSM_DATA=FOLDER OMP_NUM_THREADS=1 python examples/benchmarks/faults.py --json results.json
"""

from __future__ import annotations

import argparse
import json
import platform
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tsssm import DataWarning, Panel, SSMClassifier, SSMFeaturesClassifier, __version__
from tsssm.datasets import fetch_ucr
from tsssm.encoding import PanelEncoder, beyond

SETS = (
    "ArrowHead ECG200 ECGFiveDays FaceFour GunPoint ItalyPowerDemand MoteStrain SonyAIBORobotSurface1 "
    "SyntheticControl TwoLeadECG"
).split()
ESTIMATORS = {"SSMFeaturesClassifier": SSMFeaturesClassifier, "SSMClassifier": SSMClassifier}
SHARE, SIZES = 1e-3, (3.0, 12.0)


def spoilt(X: np.ndarray, seed: int) -> np.ndarray:
    """Series of which some values are replaced."""
    rng = np.random.default_rng(seed)
    size = 10.0 ** rng.uniform(*SIZES, size=X.shape) * rng.choice([-1.0, 1.0], size=X.shape)
    return np.where(rng.uniform(size=X.shape) < SHARE, size, X)


def faults_of(train: np.ndarray, X: np.ndarray) -> int:
    """How many values of series (n, 1, length) count as faults after those of training."""
    limits = PanelEncoder().fit(Panel.from_numpy(train)).limits
    return int(beyond(Panel.from_numpy(X).values, limits).sum())


def evaluate(name: str, estimators: list[str], seed: int, limits: dict[str, Any]) -> dict[str, Any]:
    """Accuracy of each estimator on a set, clean and spoilt."""
    (X, y), (X_test, y_test) = (fetch_ucr(name, part=part, return_X_y=True) for part in ("train", "test"))
    X, X_test = (np.asarray(part, np.float64).reshape(len(part), 1, -1) for part in (X, X_test))
    dirty = spoilt(X, 2 * seed + 1), spoilt(X_test, 2 * seed + 2)
    row: dict[str, Any] = {
        "faults": sum(int((a != b).sum()) for a, b in zip(dirty, (X, X_test), strict=True)),
        "faults found in the clean set": faults_of(X, X) + faults_of(X, X_test),
    }
    for kind in estimators:
        own = limits if kind == "SSMClassifier" else {}
        accuracy = [
            ESTIMATORS[kind](random_state=seed, **own).fit(train, y).score(test, y_test)
            for train, test in ((X, X_test), dirty)
        ]
        row[kind] = {"clean": accuracy[0], "with faults": accuracy[1]}
    return row


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--estimators", nargs="+", choices=list(ESTIMATORS), default=list(ESTIMATORS))
    parser.add_argument("--max-steps", type=int, help="of the networks, in place of their default")
    parser.add_argument("--alone", action="store_true", help="networks without the closed form beside them")
    parser.add_argument("--seed", type=int, default=0, help="of estimators and faults")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args(arguments)

    torch.set_num_threads(1)
    # That is said of every spoilt test set, and rightly so.
    warnings.simplefilter("ignore", DataWarning)
    limits = {} if options.max_steps is None else {"max_steps": options.max_steps}
    limits |= {"n_features": 0} if options.alone else {}
    results: dict[str, Any] = {}
    for name in options.sets:
        results[name] = evaluate(name, options.estimators, options.seed, limits)
        print(name, json.dumps(results[name]), flush=True)
        means = {
            kind: {
                when: float(np.mean([row[kind][when] for row in results.values()]))
                for when in ("clean", "with faults")
            }
            for kind in options.estimators
        }
        report = {
            "share": SHARE,
            "sizes": "1e3 to 1e12",
            "seed": options.seed,
            "max_steps": options.max_steps,
            "networks alone": options.alone,
            "mean": means,
            "sets": results,
            "versions": {"python": platform.python_version(), "tsssm": __version__},
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    for kind, mean in means.items():
        print(f"{kind}: clean {mean['clean']:.4f}, with faults {mean['with faults']:.4f}")


if __name__ == "__main__":
    main()
