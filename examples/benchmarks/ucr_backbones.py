"""Which backbone to choose: cross-validated accuracy on the training parts of UCR sets, at an equal budget.

Every backbone gets the same network, the same optimiser steps of the same batches and the same folds. The
choice is made by the cross-validation on the training part; the published test split is scored once, with the
first seed, for the last column. Finished fits are kept in the JSON file, and a second call goes on where the
first one ended. The default budget is small, an hour on two cores: it ranks the backbones and is not what the
estimators reach with their own defaults. Run as

    TSSSM_DATA=FOLDER OMP_NUM_THREADS=1 python examples/benchmarks/ucr_backbones.py --json results.json
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from sklearn.model_selection import StratifiedKFold

from tsssm import SSMClassifier
from tsssm.backbone import BACKBONES
from tsssm.datasets import fetch_ucr

SETS = (
    "Adiac ArrowHead Beef CBF Car CricketX DistalPhalanxTW ECG200 ECGFiveDays Earthquakes FaceFour GunPoint "
    "ItalyPowerDemand Lightning7 MoteStrain OSULeaf Plane PowerCons SonyAIBORobotSurface1 SwedishLeaf "
    "SyntheticControl ToeSegmentation1 Trace TwoLeadECG"
).split()


def evaluate(
    name: str, backbone: str, seed: int, folds: int, network: dict[str, int], test: bool
) -> dict[str, float]:
    """Accuracy of a backbone on one set: out of fold on the training part and, if asked, on the test part."""
    X, y = fetch_ucr(name, part="train", return_X_y=True)
    started = time.perf_counter()
    right = []
    folds = min(folds, np.unique(y, return_counts=True)[1].min())
    splits = StratifiedKFold(max(2, folds), shuffle=True, random_state=seed).split(X, y)
    for fit_on, score_on in splits:
        model = SSMClassifier(backbone=backbone, random_state=seed, **network)
        right.append(model.fit(X[fit_on], y[fit_on]).predict(X[score_on]) == y[score_on])
    result = {
        "cross-validation": float(np.concatenate(right).mean()),
        "seconds": round(time.perf_counter() - started, 2),
    }
    if test:
        model = SSMClassifier(backbone=backbone, random_state=seed, **network).fit(X, y)
        result["test"] = float(model.score(*fetch_ucr(name, part="test", return_X_y=True)))
    return result


def summary(results: dict[str, dict[str, float]]) -> dict[str, object]:
    """Means over the sets and the seeds of which every fit is there, and mean ranks among the backbones."""
    keys = [tuple(key.split("|")) for key in results]
    sets, backbones, seeds = (list(dict.fromkeys(part)) for part in zip(*keys, strict=True))
    done = [seed for seed in seeds if sum(key[2] == seed for key in keys) == len(sets) * len(backbones)]
    if not done:
        return {"seeds": []}

    def mean(column: str, seeds: list[str]) -> np.ndarray:
        """Means over seeds, (backbones, sets)."""
        rows = [[[results[f"{s}|{b}|{seed}"][column] for seed in seeds] for s in sets] for b in backbones]
        return np.mean(rows, axis=2)

    accuracy, seconds, test = mean("cross-validation", done), mean("seconds", done), mean("test", seeds[:1])
    better = (accuracy[None] > accuracy[:, None]).sum(1)
    equal = (accuracy[None] == accuracy[:, None]).sum(1)
    rank = better + (equal + 1) / 2
    table = {
        backbone: {
            "cross-validation": round(float(accuracy[i].mean()), 4),
            "mean rank": round(float(rank[i].mean()), 2),
            "seconds a set": round(float(seconds[i].mean()), 1),
            "test": round(float(test[i].mean()), 4),
        }
        for i, backbone in enumerate(backbones)
    }
    return {"seeds": done, "sets": len(sets), "backbones": table}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=list(BACKBONES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-steps", type=int, default=80)
    parser.add_argument("--jobs", type=int, default=1, help="fits at once, in processes of their own")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args(arguments)

    network = {
        "n_layers": options.layers,
        "batch_size": options.batch_size,
        "max_steps": options.max_steps,
    }
    protocol = {"folds": options.folds, **network}
    report = {"protocol": protocol, "summary": {}, "results": {}}
    if options.json.exists():
        report = json.loads(options.json.read_text(encoding="utf-8"))
        if report["protocol"] != protocol:
            parser.error(f"{options.json} holds results of another protocol: {report['protocol']}")
    # Backbones turn by turn within a set, so that all of them see the same machine.
    wanted = [(s, b, seed) for seed in options.seeds for s in options.sets for b in options.backbones]
    tasks = [task for task in wanted if "|".join(map(str, task)) not in report["results"]]
    runs = Parallel(options.jobs, return_as="generator", batch_size=1)(
        delayed(evaluate)(*task, options.folds, network, task[2] == options.seeds[0]) for task in tasks
    )
    for task, result in zip(tasks, runs, strict=True):
        report["results"]["|".join(map(str, task))] = result
        report["summary"] = summary(report["results"])
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(*task, result, flush=True)
    print(json.dumps(report["summary"], indent=2))


if __name__ == "__main__":
    main()
