"""Benchmark the estimators of tsssm against those of sktime, in sktime's own benchmarking framework.

Classification or regression on sets that sktime carries: `SSMClassifier` or `SSMRegressor` against
MiniRocket, InceptionTime in PyTorch and a dummy, in cross-validation. sktime keeps every finished pair of
estimator and set beside the results; the same command after a kill goes on with the pairs that are missing.
The folds of a pair are fitted one after the other, in processes of this machine (loky), or on a dask cluster:
one of worker processes on this machine or, with the address of its scheduler (--scheduler), your own. Run as

    python examples/benchmark_sktime.py [--task regression] [--backend loky | dask] [--output DIR]

It prints a table of scores and seconds, and writes results.csv, report.json and critical_difference.png. The
seconds are those of a fold, and contain what MiniRocket compiles in every new process. Needs sktime 1.2 or
later, and for --backend dask the package distributed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import matplotlib
import numpy as np
import pandas as pd
from scipy.stats import friedmanchisquare, rankdata, studentized_range
from sklearn.metrics import accuracy_score, mean_squared_error
from sklearn.model_selection import KFold
from sktime.benchmarking.classification import ClassificationBenchmark
from sktime.benchmarking.regression import RegressionBenchmark
from sktime.classification.deep_learning.inceptiontime import InceptionTimeClassifierTorch
from sktime.classification.dummy import DummyClassifier
from sktime.classification.kernel_based import RocketClassifier
from sktime.datasets import load_tecator, load_UCR_UEA_dataset
from sktime.regression.deep_learning.inceptiontime import InceptionTimeRegressorTorch
from sktime.regression.dummy import DummyRegressor
from sktime.regression.kernel_based import RocketRegressor

from tsssm import SSMClassifier, SSMRegressor

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


class Task(NamedTuple):
    """What differs between classification and regression."""

    benchmark: type
    metric: Callable[..., float]
    sign: int  # of the metric, so that more is better
    sets: tuple[str, ...]
    ours: type
    rocket: type
    inception: type
    dummy: type


TASKS = {
    "classification": Task(
        ClassificationBenchmark,
        accuracy_score,
        1,
        ("ItalyPowerDemand", "BasicMotions", "GunPoint", "ArrowHead"),
        SSMClassifier,
        RocketClassifier,
        InceptionTimeClassifierTorch,
        DummyClassifier,
    ),
    "regression": Task(
        RegressionBenchmark,
        mean_squared_error,
        -1,
        ("Covid3Month", "Tecator"),
        SSMRegressor,
        RocketRegressor,
        InceptionTimeRegressorTorch,
        DummyRegressor,
    ),
}


def load(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return X (n, channels, length) and y (n,) of the training part of a set."""
    if name == "Tecator":
        return load_tecator(split="train", return_type="numpy3D")
    X, y = load_UCR_UEA_dataset(name, split="train", return_type="numpy3D")
    return X, y.astype(float) if name in TASKS["regression"].sets else y


def estimators(task: Task, *, epochs: int, max_steps: int | None, kernels: int) -> dict[str, Any]:
    """The estimators of a task by the name they have in the report."""
    return {
        "tsssm": task.ours(max_steps=max_steps, random_state=0),
        "MiniRocket": task.rocket(kernels, rocket_transform="minirocket", random_state=0),
        "InceptionTime": task.inception(num_epochs=epochs, batch_size=16, random_state=0),
        "dummy": task.dummy(),
    }


@contextlib.contextmanager
def workers(backend: str | None, count: int, scheduler: str | None) -> Iterator[dict[str, Any]]:
    """Yield sktime's arguments for a backend, with a dask cluster around them if that is the backend."""
    if backend == "dask":
        from dask.distributed import Client, LocalCluster

        with contextlib.ExitStack() as stack:
            if scheduler is None:
                # One thread a worker: a fit has the process to itself.
                cluster = LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=None)
                scheduler = stack.enter_context(cluster).scheduler_address
            stack.enter_context(Client(scheduler))
            # Through joblib: sktime's own dask backend asks for dask.dataframe, and that for pyarrow. None is
            # the backend of the context.
            stack.enter_context(joblib.parallel_config("dask"))
            yield {"backend": "joblib", "backend_params": {"backend": None, "n_jobs": count}}
    elif backend == "loky":
        yield {"backend": "loky", "backend_params": {"n_jobs": count}}
    else:
        yield {}


def run(options: argparse.Namespace) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run what is not done yet; return scores and seconds, (sets, estimators) each."""
    task = TASKS[options.task]
    with workers(options.backend, options.workers, options.scheduler) as backend:
        benchmark = task.benchmark(**backend)
        candidates = estimators(
            task, epochs=options.epochs, max_steps=options.max_steps, kernels=options.kernels
        )
        for name, estimator in candidates.items():
            benchmark.add_estimator(estimator, estimator_id=name)
        # Not stratified: sktime hands the splitter no labels.
        splitter = KFold(options.folds, shuffle=True, random_state=0)
        for name in options.sets or task.sets:
            benchmark.add_task(partial(load, name), splitter, [task.metric], task_id=name)
        results = benchmark.run(str(options.output / "results.csv"))
    # sktime goes on after a failure, and would leave it out of the results without a word.
    if benchmark.failed_experiments:
        raise RuntimeError(f"These pairs failed: {benchmark.failed_experiments}")
    tables = results.pivot(index="validation_id", columns="model_id")
    order = list(candidates)
    scores = tables[f"{task.metric.__name__}_mean"][order]
    return scores.astype(float), tables["runtime_secs"][order].astype(float)


class Ranks(NamedTuple):
    """Mean rank of every estimator, Friedman's p, and the difference of ranks that is significant."""

    means: np.ndarray
    p: float
    critical_difference: float


def ranks(quality: np.ndarray, alpha: float = 0.05) -> Ranks:
    """Compare estimators over sets as Demsar does (JMLR 7, 2006): Friedman's test, then Nemenyi's.

    ``quality`` (sets, estimators) is larger where an estimator is better.
    """
    n_sets, k = quality.shape
    means = rankdata(-quality, axis=1).mean(axis=0)
    # With one set there is nothing to test.
    p = friedmanchisquare(*quality.T).pvalue if n_sets > 1 and k > 2 else np.nan
    q = studentized_range.ppf(1 - alpha, k, np.inf) / np.sqrt(2)
    return Ranks(means, float(p), float(q * np.sqrt(k * (k + 1) / (6 * n_sets))))


def cliques(means: np.ndarray, difference: float) -> list[tuple[float, float]]:
    """The widest runs of mean ranks, as (lowest, highest), that lie within the critical difference."""
    ordered = np.sort(means)
    ends = [ordered[ordered <= low + difference].max() for low in ordered]
    runs = [(low, high) for low, high in zip(ordered, ends, strict=True) if high > low]
    return [run for i, run in enumerate(runs) if i == 0 or run[1] > runs[i - 1][1]]


def draw(names: list[str], found: Ranks, path: Path) -> None:
    """The critical-difference diagram: mean ranks on an axis, bars over what cannot be told apart."""
    figure, axes = plt.subplots(figsize=(7, 1 + 0.35 * len(names)), layout="constrained")
    best_first = np.argsort(found.means, kind="stable")
    for level, number in enumerate(best_first):
        rank, height = found.means[number], -1 - level
        axes.plot([rank, rank, len(names) + 0.3], [0, height, height], color="0.4", linewidth=1)
        axes.text(len(names) + 0.35, height, f"{names[number]} ({rank:.2f})", va="center")
    for level, (low, high) in enumerate(cliques(found.means, found.critical_difference)):
        height = -0.25 - 0.2 * level
        axes.plot([low - 0.03, high + 0.03], [height, height], color="black", linewidth=4)
    difference = min(found.critical_difference, len(names) - 1)
    axes.plot([1, 1 + difference], [1.6, 1.6], color="black", marker="|")
    axes.text(1, 1.8, f"critical difference {found.critical_difference:.2f}", va="bottom")
    axes.spines[["left", "right", "bottom"]].set_visible(False)
    axes.spines["top"].set_position(("data", 0))
    axes.xaxis.tick_top()
    axes.set(
        xlim=(0.8, len(names) + 2), ylim=(-1 - len(names), 2.8), yticks=[], xticks=range(1, len(names) + 1)
    )
    figure.savefig(path, dpi=120)
    plt.close(figure)


def report(options: argparse.Namespace, scores: pd.DataFrame, seconds: pd.DataFrame) -> None:
    """Print the tables and write them down, with the figure."""
    task = TASKS[options.task]
    found = ranks(task.sign * scores.to_numpy())
    names = list(scores.columns)
    metric = task.metric.__name__
    print(f"\n{metric}, mean of {options.folds} folds of the training part")
    print(scores.to_string(float_format="{:.3f}".format))
    print("\nseconds of a fold, to fit and to predict")
    print(seconds.to_string(float_format="{:.2f}".format))
    print(
        "\nmean rank: "
        + ", ".join(f"{name} {rank:.2f}" for name, rank in zip(names, found.means, strict=True))
    )
    print(f"Friedman p = {found.p:.3f}; ranks {found.critical_difference:.2f} apart differ at the 5 % level")
    content = {
        "task": options.task,
        "metric": metric,
        "folds": options.folds,
        "scores": scores.to_dict("index"),
        "seconds": seconds.to_dict("index"),
        "mean_rank": dict(zip(names, found.means.tolist(), strict=True)),
        "friedman_p": found.p,
        "critical_difference": found.critical_difference,
    }
    (options.output / "report.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    draw(names, found, options.output / "critical_difference.png")
    print(f"Report and figure: {options.output}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=TASKS, default="classification")
    parser.add_argument(
        "--sets", nargs="+", help="names of UCR/UEA sets; by default some that sktime carries"
    )
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=60, help="of InceptionTime")
    parser.add_argument("--max-steps", type=int, help="of tsssm; by default the estimator decides")
    parser.add_argument("--kernels", type=int, default=10_000, help="of MiniRocket")
    parser.add_argument("--backend", choices=["loky", "dask"], help="by default this process")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--scheduler", help="address of a dask scheduler, in place of a cluster on this machine"
    )
    parser.add_argument("--output", type=Path, default=Path("output") / "benchmark_sktime")
    parser.add_argument("--quick", action="store_true", help="hardly any training: does it run?")
    options = parser.parse_args(arguments)
    if options.quick:
        options.epochs, options.max_steps, options.kernels, options.folds = 1, 2, 84, 2
        options.sets = options.sets or list(TASKS[options.task].sets[:2])
    options.output.mkdir(parents=True, exist_ok=True)
    report(options, *run(options))


# Worker processes import this file.
if __name__ == "__main__":
    main()
