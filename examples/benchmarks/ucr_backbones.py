"""Which backbone to choose, and which rule: cross-validated accuracy on the training parts of UCR sets.

Every backbone gets the same network, the same optimiser steps of the same batches and the same folds. The
choice is made by the cross-validation on the training part; only with ``--test`` is the published test split
scored, once, with the first seed. Finished fits are kept in the JSON file, and a second call goes on where
the first one ended. The default budget is small: it ranks the backbones and is not what the estimators reach
with their own defaults. Run as

    TSSSM_DATA=FOLDER OMP_NUM_THREADS=1 python examples/benchmarks/ucr_backbones.py --json results.json

A backbone may be given with a rule, as in ``--backbones lssl:bilinear lssl:0.75``, and the samples may be
thinned, with the times of those that stay: ``--sampling half`` keeps a random half of each series,
``bursts`` three stretches of a tenth of it, with long gaps between them.

For a full liquid recurrence "bounded" is the share of pairs of a sample and a mode whose input is clipped, in
the last model of a cross-validation on the series that it was fitted to, before and after training.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from sklearn.model_selection import StratifiedKFold

from tsssm import Panel, SSMClassifier
from tsssm.backbone import BACKBONES
from tsssm.datasets import fetch_ucr
from tsssm.ops.bounds import liquid_bound

SETS = (
    "Adiac ArrowHead Beef CBF Car CricketX DistalPhalanxTW ECG200 ECGFiveDays Earthquakes FaceFour GunPoint "
    "ItalyPowerDemand Lightning7 MoteStrain OSULeaf Plane PowerCons SonyAIBORobotSurface1 SwedishLeaf "
    "SyntheticControl ToeSegmentation1 Trace TwoLeadECG"
).split()
SAMPLINGS = ("all", "half", "bursts")


def thinned(X: np.ndarray, sampling: str) -> Any:
    """The series of an array (n, 1, L), or a panel of the samples that stay and their times."""
    if sampling == "all":
        return X
    rng = np.random.default_rng(0)
    length = X.shape[-1]
    times = []
    for _ in X:
        if sampling == "half":
            times.append(np.sort(rng.choice(length, length // 2, replace=False)))
        else:
            width = max(2, length // 10)
            starts = [rng.integers(k * length // 3, (k + 1) * length // 3 - width + 1) for k in range(3)]
            times.append(np.concatenate([start + np.arange(width) for start in starts]))
    return Panel.from_arrays([x[:, t] for x, t in zip(X, times, strict=True)], times)


def bounded(model: SSMClassifier, X: Any) -> float | None:
    """Share of (sample, mode) pairs of a fitted network whose input is clipped; None without a bound."""
    net = model.net_
    if net.config["backbone"] != "liquid-s4":
        return None
    shares = []

    def count(layer: Any, given: tuple[Any, ...]) -> None:
        bound = liquid_bound(layer.eigenvalues(), layer.input_vector())
        shares.append((given[0][..., None].abs() > bound).double().mean().item())

    hooks = [block.layer.register_forward_pre_hook(count) for block in net.blocks]
    # In training mode the norms have the statistics of these series; that of a new network has none yet.
    with torch.no_grad():
        data = model.encoder_.encode(X if isinstance(X, Panel) else Panel.from_numpy(X))
        net.train()
        net(*data.batch(torch.arange(min(len(data), 64))))
        net.eval()
    for hook in hooks:
        hook.remove()
    return float(np.mean(shares))


def evaluate(
    name: str,
    sampling: str,
    choice: str,
    seed: int,
    folds: int,
    network: dict[str, int],
    test: bool,
) -> dict[str, Any]:
    """Accuracy of a backbone on one set: out of fold on the training part and, if asked, on the test part."""
    X, y = fetch_ucr(name, part="train", return_X_y=True)
    X = thinned(X, sampling)
    backbone, _, rule = choice.partition(":")
    method = float(rule) if rule[:1].isdecimal() else rule or None
    options = {"backbone": backbone, "discretization": method, "random_state": seed, **network}
    options |= {"n_members": 1, "n_features": 0}
    started = time.process_time()
    right = []
    folds = min(folds, np.unique(y, return_counts=True)[1].min())
    splits = StratifiedKFold(max(2, folds), shuffle=True, random_state=seed).split(range(len(y)), y)
    for fit_on, score_on in splits:
        model = SSMClassifier(**options).fit(X[fit_on], y[fit_on])
        right.append(model.predict(X[score_on]) == y[score_on])
    result: dict[str, Any] = {
        "cross-validation": float(np.concatenate(right).mean()),
        "seconds": round(time.process_time() - started, 2),
    }
    after = bounded(model, X[fit_on])
    if after is not None:
        start = {**options, "max_steps": 1, "learning_rate": 1e-9, "ssm_learning_rate": 0.0}
        result["bounded"] = [bounded(SSMClassifier(**start).fit(X[fit_on], y[fit_on]), X[fit_on]), after]
    if test:
        model = SSMClassifier(**options).fit(X, y)
        result["test"] = float(model.score(*fetch_ucr(name, part="test", return_X_y=True)))
    return result


def table(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Means over the sets and the seeds of which every fit is there, and mean ranks among the backbones."""
    keys = [tuple(key.split("|")) for key in results]
    sets, backbones, seeds = (list(dict.fromkeys(part)) for part in zip(*keys, strict=True))
    done = [seed for seed in seeds if sum(key[2] == seed for key in keys) == len(sets) * len(backbones)]
    if not done:
        return {"seeds": []}

    def mean(column: str, seeds: list[str]) -> np.ndarray:
        """Means over seeds, (backbones, sets)."""
        rows = [
            [[results[f"{s}|{b}|{seed}"].get(column, np.nan) for seed in seeds] for s in sets]
            for b in backbones
        ]
        return np.mean(rows, axis=2)

    accuracy, seconds, test = mean("cross-validation", done), mean("seconds", done), mean("test", seeds[:1])
    better = (accuracy[None] > accuracy[:, None]).sum(1)
    equal = (accuracy[None] == accuracy[:, None]).sum(1)
    rank = better + (equal + 1) / 2
    rows: dict[str, Any] = {}
    for i, backbone in enumerate(backbones):
        rows[backbone] = {
            "cross-validation": round(float(accuracy[i].mean()), 4),
            "mean rank": round(float(rank[i].mean()), 2),
            "seconds a set": round(float(seconds[i].mean()), 1),
        }
        if not np.isnan(test[i]).any():
            rows[backbone]["test"] = round(float(test[i].mean()), 4)
        clipped = [results[f"{s}|{backbone}|{seed}"].get("bounded") for s in sets for seed in done]
        if None not in clipped:
            start, after = np.array(clipped).T
            rows[backbone]["bounded at the start"] = [float(f"{x:.2g}") for x in (start.mean(), start.max())]
            rows[backbone]["bounded after training"] = [
                float(f"{x:.2g}") for x in (after.mean(), after.max())
            ]
    return {"seeds": done, "sets": len(sets), "backbones": rows}


def summary(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The table of each sampling."""
    found = {}
    for sampling in SAMPLINGS:
        suffix = f" ({sampling})|"
        part = {key.replace(suffix, "|"): value for key, value in results.items() if suffix in key}
        if part:
            found[sampling] = table(part)
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--sampling", nargs="+", choices=SAMPLINGS, default=["all"])
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES), help="NAME or NAME:RULE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-steps", type=int, default=80)
    parser.add_argument(
        "--test", action="store_true", help="score the published test split of complete series"
    )
    parser.add_argument("--jobs", type=int, default=1, help="fits at once, in processes of their own")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args(arguments)

    network = {
        "n_layers": options.layers,
        "batch_size": options.batch_size,
        "max_steps": options.max_steps,
    }
    protocol = {"folds": options.folds, **network}
    report: dict[str, Any] = {"protocol": protocol, "summary": {}, "results": {}}
    if options.json.exists():
        report = json.loads(options.json.read_text(encoding="utf-8"))
        if report["protocol"] != protocol:
            parser.error(f"{options.json} holds results of another protocol: {report['protocol']}")
    # Backbones turn by turn within a set, so that all of them see the same machine.
    wanted = [
        (name, sampling, choice, seed)
        for seed in options.seeds
        for name in options.sets
        for sampling in options.sampling
        for choice in options.backbones
    ]
    key = "{} ({})|{}|{}".format
    tasks = [task for task in wanted if key(*task) not in report["results"]]
    runs = Parallel(options.jobs, return_as="generator", batch_size=1)(
        delayed(evaluate)(
            *task,
            options.folds,
            network,
            options.test and task[1] == "all" and task[3] == options.seeds[0],
        )
        for task in tasks
    )
    for task, result in zip(tasks, runs, strict=True):
        report["results"][key(*task)] = result
        report["summary"] = summary(report["results"])
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(*task, result, flush=True)
    print(json.dumps(report["summary"], indent=2))


if __name__ == "__main__":
    main()
