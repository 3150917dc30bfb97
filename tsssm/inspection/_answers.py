"""Which number of an estimator's answer is asked about: the log-odds of a class, or a predicted number.

Symbols and shapes: z (m, n_outputs), the outputs of a network, blended with the closed form beside it, or of
a linear model on features.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tsssm.estimators import (
    SSMClassifier,
    SSMFeaturesClassifier,
    SSMFeaturesRegressor,
    SSMRegressor,
    SSMSequenceClassifier,
    SSMSequenceRegressor,
)
from tsssm.estimators._classes import Classes

NETWORKS = (SSMClassifier, SSMRegressor)
ALONG = (SSMSequenceClassifier, SSMSequenceRegressor)
LINEAR = (SSMFeaturesClassifier, SSMFeaturesRegressor)


class Answer(NamedTuple):
    """A number for each series.

    Attributes
    ----------
    quantity : str
        What it is.
    unit : float
        A typical size of it: 1 for log-odds, the standard deviation of a target.
    of : callable
        From outputs (m, n_outputs) to numbers (m,).
    linear : callable or None
        Of a linear model: from outputs (m, n_outputs) to numbers (m,), without what is not linear in them;
        None where ``of`` is linear.
    """

    quantity: str
    unit: float
    of: Callable[[Tensor], Tensor]
    linear: Callable[[Tensor], Tensor] | None = None


def check_count(name: str, count: Any) -> None:
    """Check an argument that is a number of something."""
    if not isinstance(count, Integral) or isinstance(count, bool) or count < 1:
        raise ValueError(f"{name} must be an integer of at least 1; got {count!r}.")


def check_estimator(estimator: Any, kinds: tuple[Any, ...]) -> None:
    """Check that an estimator is one of some kinds, fitted, and has learned something.

    Raises
    ------
    NotFittedError, TypeError, ValueError
    """
    if not isinstance(estimator, kinds):
        names = ", ".join(kind.__name__ for kind in kinds)
        raise TypeError(
            f"estimator must be one of {names}; got {type(estimator).__name__}. Of a pipeline, pass the last "
            "step, and series that went through the others."
        )
    estimator.check_is_fitted()
    if getattr(estimator, "net_", True) is None or getattr(estimator, "n_classes_", 2) == 1:
        raise ValueError("the estimator saw a single class in fit: there is nothing to explain.")


def answer_of(estimator: Any, target: Any, quantile: float | None) -> Answer:
    """Return the number of an estimator's answer that ``target`` and ``quantile`` ask for.

    Raises
    ------
    TypeError, ValueError
        For targets and quantiles that the estimator does not have.
    """
    if isinstance(estimator._targets, Classes):
        if quantile is not None:
            raise ValueError(
                "quantile must be None for a classifier; it needs a regressor with loss='quantile'."
            )
        return _class_answer(estimator, target)
    return _number_answer(estimator, target, quantile)


def _class_answer(estimator: Any, target: Any) -> Answer:
    targets = estimator._targets
    every = targets.listed
    column, label = 0, target
    if len(every) > 1:
        if not isinstance(target, tuple) or len(target) != 2:
            raise ValueError(
                f"y had {len(every)} columns: target must be a pair (column, class); got {target!r}."
            )
        column = _column(target[0], targets.columns, len(every))
        label = target[1]
    classes = every[column]
    listed = ", ".join(repr(one) for one in classes.tolist())
    if label is None and len(classes) == 2:
        label = classes[1]
    found = np.flatnonzero([label is not None and one == label for one in classes.tolist()])
    if len(found) != 1:
        raise ValueError(f"target must be one of the classes {listed}; got {label!r}.")
    wanted = int(found[0])
    quantity = f"log-odds of {classes[wanted]}"
    if isinstance(estimator, SSMFeaturesClassifier):
        widths = [1 if len(one) == 2 else len(one) for one in every]
        start, slope = sum(widths[:column]), float(targets.slopes[column])
        if len(classes) == 2:
            sign = 2.0 * slope if wanted == 1 else -2.0 * slope
            return Answer(quantity, 1.0, lambda z: sign * z[:, start])
        part = slice(start, start + len(classes))
        return Answer(
            quantity,
            1.0,
            lambda z: _log_odds(slope * z[:, part], wanted),
            lambda z: slope * z[:, start + wanted],
        )
    start = sum(map(len, every[:column]))
    part = slice(start, start + len(classes))
    return Answer(quantity, 1.0, lambda z: _log_odds(z[:, part], wanted))


def _log_odds(logits: Tensor, wanted: int) -> Tensor:
    """Log-odds (m,) of a class against all others, of logits (m, n_classes)."""
    others = [k for k in range(logits.shape[1]) if k != wanted]
    return logits[:, wanted] - torch.logsumexp(logits[:, others], dim=1)


def _number_answer(estimator: Any, target: Any, quantile: float | None) -> Answer:
    targets = estimator._targets
    count = targets.n_columns
    if target is None and count > 1:
        raise ValueError(f"y had {count} columns: target must name one of them; got None.")
    column = 0 if target is None else _column(target, targets.columns, count)
    mean, std = float(targets.mean[column]), float(targets.std[column])
    quantity = "prediction" if count == 1 else f"prediction of {target}"
    if isinstance(estimator, SSMFeaturesRegressor):
        if quantile is not None:
            raise ValueError("quantile must be None, except for a regressor with loss='quantile'.")
        return Answer(quantity, std, lambda z: mean + std * z[:, column])
    loss, levels = targets.loss, list(targets.quantiles)
    if quantile is not None and (loss != "quantile" or quantile not in levels):
        having = f"it has {levels}" if loss == "quantile" else f"the loss is {loss!r}"
        raise ValueError(f"quantile must be a trained level of a regressor with loss='quantile'; {having}.")
    each, place = targets.n_each, 0
    if loss == "quantile":
        wanted = 0.5 if quantile is None else quantile
        place, quantity = levels.index(wanted), f"{quantity}, quantile {wanted:g}"

    def of(z: Tensor) -> Tensor:
        own = z.unflatten(1, (count, each))[:, column]
        if loss == "quantile":
            own = own.sort(dim=1).values
        return mean + std * own[:, place]

    return Answer(quantity, std, of)


def _column(wanted: Any, names: Any, count: int) -> int:
    """Number of a column of y, given by name or number."""
    listed = [] if names is None else list(names)
    if wanted in listed:
        return listed.index(wanted)
    if isinstance(wanted, (int, np.integer)) and not isinstance(wanted, bool) and 0 <= wanted < count:
        return int(wanted)
    having = f"{listed} or " if listed else ""
    raise ValueError(f"the column of y must be one of {having}0 to {count - 1}; got {wanted!r}.")
