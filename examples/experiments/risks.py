"""What the experiments on clinical charts share: risks of methods in the same folds, and their scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from experiment import parameter_count, spread
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score
from sklearn.model_selection import RandomizedSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline

from tsssm import Panel, SSMClassifier, SSMFeaturesClassifier

# Boosting on summaries is searched anew in the training part of every fold.
SEARCHED = {
    "learning_rate": [0.03, 0.06],
    "max_iter": [100, 200],
    "max_leaf_nodes": [4, 8, 16],
    "min_samples_leaf": [20, 40, 80],
    "l2_regularization": [0.0, 5.0, 20.0],
    "max_features": [0.1, 0.2],
}

NETWORKS, CLOSED_FORM = "SSMClassifier", "SSMFeaturesClassifier"
SUMMARIES, GRUD = "boosting on summaries", "GRU-D (PyPOTS)"

Predictions = dict[str, np.ndarray]


class Measured(TransformerMixin, BaseEstimator):
    """Columns of a table that some chart has: boosting fails with one that a whole fold lacks."""

    def fit(self, X: np.ndarray, y: Any = None) -> Measured:
        self.kept_ = ~np.isnan(X).all(axis=0)
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        return X[:, self.kept_]


def boosting(seed: int) -> Pipeline:
    """Gradient boosting on the summaries that any chart has."""
    return Pipeline([("measured", Measured()), ("trees", HistGradientBoostingClassifier(random_state=seed))])


def searched(table: np.ndarray, y: np.ndarray, draws: int) -> dict[str, Any]:
    """The best of some settings of gradient boosting, by log loss in 3 folds of a table of summaries."""
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    settings = {f"trees__{name}": values for name, values in SEARCHED.items()}
    search = RandomizedSearchCV(
        boosting(0),
        settings,
        n_iter=draws,
        scoring="neg_log_loss",
        cv=folds,
        random_state=0,
        error_score="raise",
    )
    return search.fit(table, y).best_params_


class Clock:
    """Risks of the charts of one fold by each method, and the seconds that they took."""

    def __init__(self) -> None:
        self.risks: Predictions = {}
        self.seconds: dict[str, float] = {}

    def add(self, name: str, risk: Callable[[], np.ndarray]) -> None:
        """Run a method."""
        started = time.perf_counter()
        self.risks[name] = risk()
        self.seconds[name] = time.perf_counter() - started


def risk(model: BaseEstimator, train: Any, y: np.ndarray, test: Any, **known: Any) -> np.ndarray:
    """Risk of the charts of ``test`` by a model that is fitted here."""
    return model.fit(train, y, **known).predict_proba(test)[:, 1]


def one_fold(
    train: Panel, y: np.ndarray, test: Panel, summaries: BaseEstimator, options: Any, **known: Any
) -> tuple[Clock, dict[str, Any]]:
    """Risks of the charts of ``test`` by our estimators as they come and by boosting, and what was found.

    ``known`` are further arguments of ``fit`` of `SSMClassifier`.
    """
    clock, notes = Clock(), {}
    limits = {} if options.max_steps is None else {"max_steps": options.max_steps}
    network = SSMClassifier(
        random_state=options.seeds[0], accelerator=options.device, verbose=options.verbose, **limits
    )
    clock.add(NETWORKS, lambda: risk(network, train, y, test, **known))
    notes["parameters"], notes["blend"] = parameter_count(network), network.blend_.tolist()
    closed_form = SSMFeaturesClassifier(random_state=options.seeds[0], accelerator=options.device)
    clock.add(CLOSED_FORM, lambda: risk(closed_form, train, y, test))

    def boosted() -> np.ndarray:
        tables = [summaries.fit(train).transform(panel) for panel in (train, test)]
        settings = notes[SUMMARIES] = searched(tables[0], y, options.draws)
        return risk(boosting(options.seeds[0]).set_params(**settings), tables[0], y, tables[1])

    clock.add(SUMMARIES, boosted)
    return clock, notes


def thinned(panel: Panel, keep: float, static: Sequence[int], seed: int) -> Panel:
    """The panel with a share of its measurements at random, those of static channels apart."""
    values = panel.values.copy()
    varying = np.setdiff1d(np.arange(panel.n_channels), static)
    rng = np.random.default_rng(seed)
    lost = rng.uniform(size=(len(values), len(varying))) >= keep
    values[:, varying] = np.where(lost, np.nan, values[:, varying])
    return Panel(
        values, panel.offsets, panel.times, panel.channel_names, ids=panel.ids, time_unit=panel.time_unit
    )


def reliability(y: np.ndarray, p: np.ndarray, bins: int = 10) -> pd.DataFrame:
    """Mean predicted risk, share that had it and number of charts, in bins of equally many by risk."""
    parts = np.array_split(np.argsort(p, kind="stable"), bins)
    rows = [(p[part].mean(), y[part].mean(), len(part)) for part in parts]
    return pd.DataFrame(rows, columns=["predicted", "had it", "charts"])


def calibration_error(y: np.ndarray, p: np.ndarray) -> float:
    """Expected calibration error: mean distance of predicted risk and share that had it, over the bins."""
    table = reliability(y, p)
    return float(np.average((table["predicted"] - table["had it"]).abs(), weights=table["charts"]))


SCORES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "AUROC": roc_auc_score,
    "AUPRC": average_precision_score,
    "Brier": brier_score_loss,
    "log loss": log_loss,
}


def scores(y: np.ndarray, p: np.ndarray, tests: Sequence[np.ndarray]) -> dict[str, Any]:
    """Each score over the folds, and calibration over all of their stays."""
    of_folds = {name: spread([f(y[t], p[t]) for t in tests]) for name, f in SCORES.items()}
    everyone = np.concatenate(tests)
    y, p = y[everyone], p[everyone]
    table = reliability(y, p).to_dict("records")
    return {**of_folds, "calibration error": calibration_error(y, p), "reliability": table}


def summed_up(y: np.ndarray, tests: Sequence[np.ndarray], clocks: Sequence[Clock]) -> dict[str, Any]:
    """Scores and seconds of each method over the folds whose test stays are ``tests``."""
    results = {}
    for name in clocks[0].risks:
        p = np.full(len(y), np.nan)
        for clock, test in zip(clocks, tests, strict=True):
            p[test] = clock.risks[name]
        results[name] = {**scores(y, p, tests), "seconds": spread([clock.seconds[name] for clock in clocks])}
    return results


def lead(ours: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Differences of two methods in the same folds."""
    return {
        name: spread([a - b for a, b in zip(ours[name]["each"], other[name]["each"], strict=True)])
        for name in SCORES
    }


def so_far_told(
    y: np.ndarray, tests: Sequence[np.ndarray], clocks: Sequence[Clock]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Print the scores of the latest fold; return those of all so far, and the lead of ours on boosting."""
    for name, p in clocks[-1].risks.items():
        found = f"{SCORES['AUROC'](y[tests[-1]], p):.4f} {SCORES['AUPRC'](y[tests[-1]], p):.4f}"
        print(f"  fold {len(tests)}, {name}: {found}, {clocks[-1].seconds[name]:.0f} s", flush=True)
    results = summed_up(y, tests, clocks)
    return results, {name: lead(results[name], results[SUMMARIES]) for name in (NETWORKS, CLOSED_FORM)}


def draw(path: Path, results: dict[str, Any]) -> None:
    """Reliability of some methods as a figure."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 4.5), layout="constrained")
    axes.axline((0, 0), slope=1, color="0.7", linewidth=1)
    for name in (NETWORKS, CLOSED_FORM, SUMMARIES):
        table = pd.DataFrame(results[name]["reliability"])
        error = results[name]["calibration error"]
        axes.plot(table["predicted"], table["had it"], marker="o", label=f"{name}: {error:.3f}")
    axes.set(xlabel="predicted risk, mean of a tenth", ylabel="share that had it", title="Calibration")
    axes.legend(title="expected calibration error", loc="lower right", fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def show(results: dict[str, Any], leads: dict[str, dict[str, Any]]) -> None:
    """Print the means of the folds, and by how much ours are ahead of boosting."""
    columns = f"{'AUROC':>15}{'AUPRC':>15}{'Brier':>8}{'ECE':>8}{'s':>6}"
    print(f"\n{'mean (standard deviation) of the folds':42}{columns}")
    for name, result in results.items():
        ranks = "".join(f"{result[c]['mean']:7.3f} ({result[c]['std']:.3f})" for c in ("AUROC", "AUPRC"))
        rest = f"{result['Brier']['mean']:8.4f}{result['calibration error']:8.3f}"
        print(f"{name:42}{ranks}{rest}{result['seconds']['mean']:6.0f}")
    for name, differences in leads.items():
        for score in ("AUROC", "AUPRC"):
            each = differences[score]["each"]
            ahead = f"ahead in {sum(d > 0 for d in each)} of {len(each)} folds"
            print(f"{name} less boosting: {score} {differences[score]['mean']:+.4f}, {ahead}")
