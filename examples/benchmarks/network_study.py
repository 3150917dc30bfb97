"""Where the trained network is behind the closed form, and how the two are best blended.

On halves of the training parts of UCR sets; the published test parts play no part. Each row says what is
right in the half that was fitted and in the other half, the log loss there, and processor seconds:

- one network alone: by the number of steps, with the first difference as a second channel, with two layers;
- the closed form alone, the members of a committee alone, and blends of both, by how strongly the weights are
  pulled towards the closed form (in series that speak for it; ``SSMClassifier`` has 1).

Small sets count twice, once for each half. Finished halves are kept in the JSON file, and a second call goes
on where the first one ended. Run as

    TSSSM_DATA=FOLDER OMP_NUM_THREADS=1 python examples/benchmarks/network_study.py --json results.json
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import log_softmax
from sklearn.model_selection import StratifiedKFold

from tsssm import SSMClassifier
from tsssm.datasets import fetch_ucr
from tsssm.estimators._classes import NetworkClasses
from tsssm.estimators._closed_form import logit_weights
from tsssm.panel import as_panel
from tsssm.training import predict

SETS = (
    "ItalyPowerDemand ECG200 ArrowHead ToeSegmentation1 Lightning7 MoteStrain FaceFour SyntheticControl Adiac"
).split()
ALONE = {
    "150 steps": {"max_steps": 150},
    "300 steps": {"max_steps": 300},
    "600 steps": {"max_steps": 600},
    "300 steps, differences": {"max_steps": 300},
    "300 steps, two layers": {"max_steps": 300, "n_layers": 2},
}
PULLS = (0.0, 1.0, 3.0, 10.0)
_SMALL = 60

Array = npt.NDArray[np.float64]


class RecordedClasses(NetworkClasses):
    """Keeps what closed form and members say of series that they have not seen."""

    def weigh(self, left_out: Array, outputs: Any, y: Any, weight: Array, *pull: Any) -> Array:
        """As `NetworkClasses.weigh`."""
        self.unseen = left_out, outputs, y, weight
        return super().weigh(left_out, outputs, y, weight, *pull)


class Recording(SSMClassifier):
    """A classifier that keeps what it weighed."""

    _kind_of_targets = RecordedClasses


def with_differences(X: Array) -> Array:
    """Series (n, 2, length): values, and their first differences."""
    return np.stack([X, np.diff(X, axis=1, prepend=X[:, :1])], axis=1)


def scores(logits: Array, codes: npt.NDArray[np.int64]) -> dict[str, float]:
    """Accuracy and log loss of logits (n, k)."""
    loss = -log_softmax(logits, axis=1)[np.arange(len(codes)), codes].mean()
    return {"accuracy": float(np.mean(logits.argmax(axis=1) == codes)), "log loss": float(loss)}


def alone(
    name: str, parameters: dict[str, int], X: Array, codes: npt.NDArray[np.int64], fit_on: Any, rest: Any
) -> dict[str, float]:
    """One network, fitted to some of the series and tested on the rest."""
    series = with_differences(X) if "differences" in name else X[:, None]
    started = time.process_time()
    model = SSMClassifier(n_members=1, n_features=0, random_state=0, **parameters)
    model.fit(series[fit_on], codes[fit_on])
    seconds = time.process_time() - started
    row = scores(np.log(model.predict_proba(series[rest])), codes[rest])
    fitted = {"accuracy in training": float(model.score(series[fit_on], codes[fit_on]))}
    return {**fitted, **row, "seconds": round(seconds, 1)}


def together(
    steps: int | None, X: Array, codes: npt.NDArray[np.int64], fit_on: Any, rest: Any
) -> dict[str, dict[str, float]]:
    """Closed form, members and their blends."""
    started = time.process_time()
    model = Recording(random_state=0, max_steps=steps).fit(X[fit_on], codes[fit_on])
    seconds = {"seconds": round(time.process_time() - started, 1)}
    targets = model._targets
    left_out, outputs, known, weight = targets.unseen
    before = targets.starts(left_out)[0]
    panel = as_panel(X[rest])
    closed_form = targets.starts(model.closed_form_.predict(panel, torch.device("cpu")))[0]
    members = predict(model.net_, model.encoder_.encode(panel), torch.device("cpu")).numpy()
    members = members.astype(np.float64)
    rows = {"closed form": scores(closed_form, codes[rest]), "members": scores(members, codes[rest])}
    for pull in PULLS:
        a, b = logit_weights(before, outputs, known, weight, pull)
        row = scores(a * closed_form + b * members, codes[rest])
        rows[f"blend, pull {pull:g}"] = {**row, "weights": [round(float(a), 3), round(float(b), 3)]}
    rows["members"].update(seconds)
    return rows


def evaluate(name: str, half: int, steps: int | None) -> dict[str, dict[str, float]]:
    """All rows of one half of a set."""
    X, y = fetch_ucr(name, part="train", return_X_y=True)
    X, codes = np.asarray(X, dtype=np.float64).reshape(len(y), -1), np.unique(y, return_inverse=True)[1]
    fit_on, rest = list(StratifiedKFold(2, shuffle=True, random_state=0).split(X, codes))[half]
    rows = {
        row: alone(row, {**parameters, "max_steps": steps or parameters["max_steps"]}, X, codes, fit_on, rest)
        for row, parameters in ALONE.items()
    }
    return {**rows, **together(steps, X, codes, fit_on, rest)}


def halves(name: str) -> range:
    """Halves of a set that are fitted."""
    _, y = fetch_ucr(name, part="train", return_X_y=True)
    return range(2 if len(y) <= _SMALL else 1)


def summary(results: dict[str, dict[str, dict[str, Any]]]) -> dict[str, dict[str, float]]:
    """Means over the sets of the means over their halves."""
    by_set: dict[str, list[dict[str, dict[str, Any]]]] = {}
    for key, rows in results.items():
        by_set.setdefault(key.split("|")[0], []).append(rows)
    names = next(iter(results.values())).keys()
    return {
        name: {
            column: round(
                float(np.mean([np.mean([rows[name][column] for rows in part]) for part in by_set.values()])),
                4,
            )
            for column in next(iter(results.values()))[name]
            if column != "weights"
        }
        for name in names
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--max-steps", type=int, help="of every network, in place of those of the rows")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args(arguments)

    torch.set_num_threads(1)
    protocol = {"max_steps": options.max_steps}
    report: dict[str, Any] = {"protocol": protocol, "summary": {}, "results": {}}
    if options.json.exists():
        report = json.loads(options.json.read_text(encoding="utf-8"))
        if report["protocol"] != protocol:
            parser.error(f"{options.json} holds results of another protocol: {report['protocol']}")
    for name in options.sets:
        for half in halves(name):
            if f"{name}|{half}" in report["results"]:
                continue
            report["results"][f"{name}|{half}"] = evaluate(name, half, options.max_steps)
            report["summary"] = summary(report["results"])
            options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            print(name, half, flush=True)
    print(json.dumps(report["summary"], indent=2))


if __name__ == "__main__":
    main()
