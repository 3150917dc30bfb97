"""What the experiments share: their arguments, the count of parameters, and the file of figures."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tsssm import SSMClassifier

_PACKAGES = ("torch", "numpy", "scikit-learn", "sktime", "numba")

#: One network by itself, as in the papers; by default there are several, and a closed form beside them.
ALONE = {"n_members": 1, "n_features": 0}


def parser(
    doc: str | None, seeds: Sequence[int] = (0, 1, 2), *, settings: bool = False
) -> argparse.ArgumentParser:
    """Arguments that every experiment takes, with ``settings`` also those of a model in place of its own.

    The first line of ``doc`` describes it.
    """
    result = argparse.ArgumentParser(description=(doc or "").strip().split("\n")[0])
    result.add_argument("--seeds", type=int, nargs="+", default=list(seeds), help="one model for each")
    result.add_argument("--device", default="auto", help='"auto", "cpu" or "cuda"')
    result.add_argument("--json", type=Path, help="file to write the figures to")
    result.add_argument("--verbose", type=int, default=0, help="1 shows the progress of the training")
    result.add_argument("--note", help="kept beside the figures, such as what else the machine was doing")
    if settings:
        result.add_argument("--settings", type=json.loads, default={}, help="JSON that replaces parameters")
    return result


def parameter_count(estimator: Any) -> int:
    """Trained numbers of a fitted estimator."""
    return sum(p.numel() for p in estimator.net_.parameters() if p.requires_grad)


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean and standard deviation (n - 1) of the figures of several seeds or folds, and the figures."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "std": std, "each": [float(value) for value in values]}


def accuracies(
    recipe: Mapping[str, Any],
    train: tuple[Any, npt.ArrayLike],
    tests: Mapping[str, tuple[Any, npt.ArrayLike]],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Fit an `SSMClassifier` for each seed, and score it on each of ``tests``; (X, y) each.

    "epochs" are those begun, "seconds" those of the fits, "processor seconds" what these took of the cores.
    """
    scores: dict[str, list[float]] = {name: [] for name in tests}
    seconds, work = [], []
    for seed in options.seeds:
        model = SSMClassifier(
            **{**ALONE, **recipe}, accelerator=options.device, random_state=seed, verbose=options.verbose
        )
        started, worked = time.perf_counter(), time.process_time()
        model.fit(*train)
        seconds.append(time.perf_counter() - started)
        work.append(time.process_time() - worked)
        for name, (X, y) in tests.items():
            scores[name].append(float(model.score(X, y)))
        found = ", ".join(f"{name} {values[-1]:.4f}" for name, values in scores.items())
        print(f"seed {seed}: {found}; fit {seconds[-1]:.0f} s", flush=True)
    return {
        "accuracy": {name: spread(values) for name, values in scores.items()},
        "parameters": parameter_count(model),
        "epochs": model.n_iter_,
        "seconds": spread(seconds),
        "processor seconds": spread(work),
    }


def beside(
    name: str,
    score: float,
    recipe: Mapping[str, Any],
    train: tuple[Any, npt.NDArray[np.bool_]],
    test: tuple[Any, npt.NDArray[np.bool_]],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Figures of a network for two classes, of what stands beside it, and of the more frequent class."""
    print(f"{name}: {score:.4f}", flush=True)
    return {
        "network": accuracies(recipe, train, {"test": test}, options),
        name: score,
        "majority": float(max(np.mean(test[1]), 1 - np.mean(test[1]))),
    }


def write(
    path: Path | None, results: Mapping[str, Any], paper: Mapping[str, Any], differs: str, **settings: Any
) -> None:
    """Write the figures of an experiment to ``path``, or nothing where it is None.

    ``paper`` has the published figures, ``differs`` says in words what those did otherwise.
    """
    if path is None:
        return
    machine = {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "versions": {"python": sys.version.split()[0], **{name: version(name) for name in _PACKAGES}},
    }
    report = {**settings, "results": results, "paper": paper, "what differs": differs, "machine": machine}
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
