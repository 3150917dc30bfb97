"""UCR archive: SSMClassifier with its defaults beside MiniRocket, published splits, accuracy and rank.

Both models are fitted to the training part and scored once on the test part, one model for each seed and one
thread each; the average of the probabilities of the seeds is a row of its own, scikit-learn's soft voting.
Finished sets are kept in the JSON file, with the seeds that they were measured with; a second call goes on
with the sets of which a seed is missing. Run as

    TSSSM_DATA=FOLDER OMP_NUM_THREADS=1 python examples/experiments/ucr.py --json ucr.json

Five seeds of all 24 sets take about an hour of one core; ``--seeds 0`` a fifth of that. Other parameters than
the defaults: ``--settings '{"dropout": 0.0}'``, into another file. ``--peer InceptionTime`` trains sktime's,
one network with its defaults (1,500 epochs), in place of MiniRocket: minutes for each of the smallest sets.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiment import parameter_count, parser, spread, write
from scipy.stats import wilcoxon
from sktime.classification.kernel_based import RocketClassifier

from tsssm import SSMClassifier
from tsssm.backbone import BACKBONES
from tsssm.datasets import fetch_ucr

SETS = (
    "Adiac ArrowHead Beef CBF Car CricketX DistalPhalanxTW ECG200 ECGFiveDays Earthquakes FaceFour GunPoint "
    "ItalyPowerDemand Lightning7 MoteStrain OSULeaf Plane PowerCons SonyAIBORobotSurface1 SwedishLeaf "
    "SyntheticControl ToeSegmentation1 Trace TwoLeadECG"
).split()
OURS, AVERAGE = "SSMClassifier", "average of its seeds"
# Parameters that do not make another model.
_FREE = ("accelerator", "callbacks", "checkpoint_dir", "devices", "random_state", "resume_from")
_FREE += ("trainer_kwargs", "verbose")

Part = tuple[list[np.ndarray], np.ndarray]  # series (channels, length_i) and labels
Load = Callable[[str, str], Part]


def load(name: str, part: str) -> Part:
    """Series (channels, length_i) and labels of one part of a set."""
    X, y = fetch_ucr(name, part=part, return_X_y=True)
    return [np.atleast_2d(np.asarray(x, dtype=np.float32)) for x in X], np.asarray(y)


def minirocket(seed: int) -> Any:
    """sktime's MiniRocket with ridge, 9,996 kernels."""
    return RocketClassifier(rocket_transform="minirocket", n_jobs=1, random_state=seed)


def inception_time(seed: int) -> Any:
    """sktime's InceptionTime in PyTorch, one network, with its defaults; earlier versions have none."""
    from sktime.classification.deep_learning.inceptiontime import InceptionTimeClassifierTorch

    return InceptionTimeClassifierTorch(random_state=seed)


PEERS = {"MiniRocket": minirocket, "InceptionTime": inception_time}


def rectangular(series: list[np.ndarray], length: int) -> np.ndarray:
    """Array (n, channels, length) for a model that takes no other: cut; zeros behind the end and for NaN."""
    cut = [np.nan_to_num(x[:, :length]) for x in series]
    return np.stack([np.pad(x, ((0, 0), (0, length - x.shape[1]))) for x in cut]).astype(np.float64)


def measure(
    train: Part, test: Part, seeds: Sequence[int], parameters: dict[str, Any], peer: str = "MiniRocket"
) -> dict[str, Any]:
    """Accuracies and processor seconds (fit and predict, mean over the seeds) of both models on one set."""
    (X, y), (X_test, y_test) = train, test
    longest = max(9, max(x.shape[1] for x in X))  # MiniRocket takes no less
    array, array_test = (rectangular(part, longest) for part in (X, X_test))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sktime's and numba's own
        few = np.concatenate([np.flatnonzero(y == label)[:2] for label in np.unique(y)])
        if peer == "MiniRocket":
            minirocket(0).fit(array[few], y[few]).predict(array[few])  # compiles; no part of its seconds
    answers, accuracies, seconds, count = [], {OURS: [], peer: []}, {OURS: [], peer: []}, 0
    for seed in seeds:
        torch.set_num_threads(1)  # MiniRocket's compiled threads set it to every core
        started = time.process_time()
        model = SSMClassifier(random_state=seed, **parameters).fit(X, y)
        answers.append(model.predict_proba(X_test))
        seconds[OURS].append(time.process_time() - started)
        accuracies[OURS].append(np.mean(model.classes_[answers[-1].argmax(axis=1)] == y_test))
        count = parameter_count(model)
        started = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            accuracies[peer].append(np.mean(PEERS[peer](seed).fit(array, y).predict(array_test) == y_test))
        seconds[peer].append(time.process_time() - started)
    averaged = model.classes_[np.mean(answers, axis=0).argmax(axis=1)]
    return {
        "train, test": [len(y), len(y_test)],
        "channels": len(X[0]),
        "length": longest,
        "classes": len(model.classes_),
        "parameters": count,
        "seeds": list(seeds),
        "accuracy": {
            OURS: spread(accuracies[OURS]),
            AVERAGE: spread([np.mean(averaged == y_test)]),
            peer: spread(accuracies[peer]),
        },
        "seconds": {name: round(float(np.mean(each)), 2) for name, each in seconds.items()},
    }


def summary(sets: dict[str, dict[str, Any]], peer: str = "MiniRocket") -> dict[str, Any]:
    """Means over sets of the means over seeds, and how both of our rows compare with the peer's.

    The mean rank is that among two, ties shared; p is Wilcoxon's, two-sided, over the sets.
    """
    accuracy = {
        name: np.array([row["accuracy"][name]["mean"] for row in sets.values()])
        for name in (OURS, AVERAGE, peer)
    }
    compared = {}
    for name in (OURS, AVERAGE):
        gain = accuracy[name] - accuracy[peer]
        wins, losses = int((gain > 0).sum()), int((gain < 0).sum())
        ties = len(gain) - wins - losses
        compared[name] = {
            "wins, ties, losses": [wins, ties, losses],
            "mean rank": round((wins + 1.5 * ties + 2 * losses) / len(gain), 3),
            # Ties, of which older versions of SciPy make a warning, say nothing about who is ahead.
            "p": round(float(wilcoxon(gain[gain != 0]).pvalue), 4) if wins + losses else 1.0,
        }
    return {
        "sets": len(sets),
        "seeds a set": sorted({len(row["seeds"]) for row in sets.values()}),
        "accuracy": {name: round(float(each.mean()), 4) for name, each in accuracy.items()},
        f"against {peer}": compared,
        "seconds a set": {
            name: round(float(np.mean([row["seconds"][name] for row in sets.values()])), 1)
            for name in (OURS, peer)
        },
    }


def finished(path: Path | None, model: dict[str, Any], peer: str) -> dict[str, dict[str, Any]]:
    """Sets in the file of an earlier call with the same model and peer.

    Raises
    ------
    ValueError
        If the file has the figures of another model or beside another peer.
    """
    if path is None or not path.exists():
        return {}
    report = json.loads(path.read_text(encoding="utf-8"))
    before = report["model"]
    other = sorted(name for name in model.keys() | before.keys() if before.get(name) != model.get(name))
    if other:  # a parameter that came later is None by default, or else another model
        raise ValueError(f"{path} has figures of a model with other {', '.join(other)}; name another file.")
    sets = report["results"]["sets"]
    if not all(peer in row["accuracy"] for row in sets.values()):
        raise ValueError(f"{path} has no figures of {peer}; name another file.")
    return sets


def run(archive: str, sets: Sequence[str], load: Load, doc: str | None, arguments: list[str] | None) -> None:
    """Measure the sets of an archive that are not done yet, and print a row for each."""
    arguments_of = parser(doc, seeds=range(5), settings=True)
    arguments_of.add_argument("--sets", nargs="+", choices=sets, default=list(sets), metavar="NAME")
    arguments_of.add_argument("--peer", choices=list(PEERS), default="MiniRocket")
    arguments_of.add_argument("--backbone", choices=BACKBONES, default="s4d")
    options = arguments_of.parse_args(arguments)

    parameters = {
        "backbone": options.backbone,
        **options.settings,
        "accelerator": options.device,
        "verbose": options.verbose,
    }
    every = SSMClassifier(**parameters).get_params()
    model = {name: value for name, value in every.items() if name not in _FREE}
    peer = options.peer
    results = finished(options.json, model, peer)
    print(f"{'':24}{OURS:>16}{'averaged':>12}{peer:>15}")
    for name in options.sets:
        done = results.get(name)
        if done is None or not set(options.seeds) <= set(done["seeds"]):
            done = measure(load(name, "train"), load(name, "test"), options.seeds, parameters, peer)
            results[name] = done
            write(
                options.json,
                {"summary": summary(results, peer), "sets": results},
                paper={},
                differs=f"The papers report nothing on the {archive} archive; {peer} is measured here.",
                model=model,
                note=options.note,
            )
        accuracy = [done["accuracy"][row]["mean"] for row in (OURS, AVERAGE, peer)]
        print(f"{name:24}{accuracy[0]:16.3f}{accuracy[1]:12.3f}{accuracy[2]:15.3f}", flush=True)
    print(json.dumps(summary(results, peer), indent=2))


def main(arguments: list[str] | None = None) -> None:
    run("UCR", SETS, load, __doc__, arguments)


if __name__ == "__main__":
    main()
