"""Whether a trained model and closed-form features are better together: means of their probabilities.

`SSMClassifier` and `SSMFeaturesClassifier` with their defaults, and the mean of their probabilities, on the
training parts of UCR sets: accuracy and log loss on folds that neither has seen. The mean of both is
compared, fold by fold, with the features alone, and with whichever of the two is more accurate over all folds
of the set. Finished sets are kept in the JSON file, and a second call goes on where the first one ended. Run
as

    TSSSM_DATA=FOLDER OMP_NUM_THREADS=1 python examples/benchmarks/features_hybrid.py --json results.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

from tsssm import SSMClassifier, SSMFeaturesClassifier
from tsssm.datasets import fetch_ucr

SETS = "ItalyPowerDemand ECG200 GunPoint ArrowHead PowerCons Trace Lightning7 SyntheticControl".split()
MODELS = ("SSMClassifier", "SSMFeaturesClassifier", "mean of both")


def evaluate(name: str, folds: int, seed: int, budget: dict[str, int]) -> dict[str, dict[str, list[float]]]:
    """Accuracy and log loss of each model on each fold of a set."""
    X, y = fetch_ucr(name, part="train", return_X_y=True)
    result: dict[str, dict[str, list[float]]] = {m: {"accuracy": [], "log loss": []} for m in MODELS}
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(X, y):
        alone = {"n_members": 1, "n_features": 0}
        pair = (SSMClassifier(random_state=seed, **alone, **budget), SSMFeaturesClassifier(random_state=seed))
        fitted = [model.fit(X[train], y[train]) for model in pair]
        proba = [model.predict_proba(X[test]) for model in fitted]
        classes = fitted[0].classes_
        for model, p in zip(MODELS, [*proba, np.mean(proba, axis=0)], strict=True):
            result[model]["accuracy"].append(float(np.mean(classes[p.argmax(axis=1)] == y[test])))
            result[model]["log loss"].append(float(log_loss(y[test], p, labels=classes)))
    return result


def summary(results: dict[str, dict[str, dict[str, list[float]]]]) -> dict[str, Any]:
    """Means over sets and folds, and the gain in accuracy of the mean of both over each rival."""
    scores = {
        score: np.array([[r[model][score] for model in MODELS] for r in results.values()])
        for score in ("accuracy", "log loss")
    }
    report: dict[str, Any] = {"sets": len(results)}
    for i, model in enumerate(MODELS):
        report[model] = {score: round(float(table[:, i].mean()), 4) for score, table in scores.items()}
    trained, features, both = scores["accuracy"].swapaxes(0, 1)
    better = np.where(
        trained.mean(axis=1, keepdims=True) > features.mean(axis=1, keepdims=True), trained, features
    )
    for rival, other in {MODELS[1]: features, "the better of the two on each set": better}.items():
        gain = both - other
        wins = np.sign(gain.mean(axis=1).round(9))
        report[f"gain over {rival}"] = {
            "mean": round(float(gain.mean()), 4),
            "standard error over folds": round(float(gain.std(ddof=1) / np.sqrt(gain.size)), 4),
            "sets won, tied, lost": [int(np.sum(wins == sign)) for sign in (1, 0, -1)],
        }
    return report


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-steps", type=int, help="of the trained model; its default if left out")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args(arguments)

    torch.set_num_threads(1)
    budget = {} if options.max_steps is None else {"max_steps": options.max_steps}
    protocol = {"folds": options.folds, "seed": options.seed, **budget}
    report: dict[str, Any] = {"protocol": protocol, "summary": {}, "results": {}}
    if options.json.exists():
        report = json.loads(options.json.read_text(encoding="utf-8"))
        if report["protocol"] != protocol:
            parser.error(f"{options.json} holds results of another protocol: {report['protocol']}")
    for name in options.sets:
        if name in report["results"]:
            continue
        result = report["results"][name] = evaluate(name, options.folds, options.seed, budget)
        report["summary"] = summary(report["results"])
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(name, {m: round(float(np.mean(r["accuracy"])), 4) for m, r in result.items()}, flush=True)
    print(json.dumps(report["summary"], indent=2))


if __name__ == "__main__":
    main()
