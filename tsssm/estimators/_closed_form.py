"""The closed form beside a network: a ridge regression on state-space features, and the weights of both.

Symbols and shapes: n series, m outputs of the ridge, k classes, weights w (n,) of the series::

    start    (n, k) or (n,)   predictions of the closed form for series that it was fitted without
    outputs  (n, k) or (n,)   predictions of the network for series that it was trained without

Both are thus out-of-fold predictions (stacking: Wolpert, Neural Networks 5 (1992); with weights that are not
negative: Breiman, *Stacked regressions*, Machine Learning 24 (1996)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize, nnls
from scipy.special import log_softmax

from tsssm.estimators._checks import FloatArray, IntArray
from tsssm.features import (
    ChartFeatures,
    Features,
    Ramps,
    fit_features,
    fit_on_top,
    predict_ridge,
    smoothed_labels,
)
from tsssm.panel import Panel
from tsssm.training import DenseCommittee, fit_dense

# Systems as of SSMFeatures with its defaults.
_BASIS, _SCALES, _POOLING = "diagonal", 12, "auto"
#: Fewest features: one block of eight readouts for every timescale.
LEAST_FEATURES = 384
#: Weights of the closed form and of the network where nothing is known about either.
ALIKE = (0.5, 0.5)
# Few series tell little of two weights: without any, the closed form would stand alone. Of the pulls that
# examples/benchmarks/network_study.py tries, 1 was the most accurate.
_ALONE, _PULL = (1.0, 0.0), 1.0
# Of charts both are weak and as good as each other. What is left out by its closed form is told too well, as
# the penalty was chosen by it, and what by the networks too badly, as one of them speaks and not their mean:
# in cross-validation on PhysioNet 2012 equal weights were better in all folds.
_PULL_OF_CHARTS = 200.0
# Of three voices, linear model, dense networks and networks, each a third.
_TWO_AND_ONE = (2 / 3, 1 / 3)
#: Dense networks beside the linear model.
DENSE_MEMBERS = 8
# Folds of groups are joined until there are no more: each costs a fit.
_MOST_FITS = 4


@dataclass(frozen=True)
class ClosedForm:
    """A linear model on closed-form features, and with those of charts dense networks beside it.

    Attributes
    ----------
    features : StateSpaceFeatures or ChartFeatures
    coef, intercept : array (n_features, m), (m,)
    dense : DenseCommittee or None
        Networks on the features of charts, whose outputs count as much as those of the linear model.
    ramps : Ramps or None
        What these networks read of the features; None is the features themselves.
    """

    features: Features
    coef: FloatArray
    intercept: FloatArray
    dense: DenseCommittee | None = None
    ramps: Ramps | None = None

    def predict(self, panel: Panel, device: torch.device) -> FloatArray:
        """Return the outputs (n, m) for the series of a panel."""
        values = _transformed(self.features, panel, device)
        outputs = predict_ridge(values, self.coef, self.intercept)
        if self.dense is None:
            return outputs
        return (outputs + self.dense.predict(_read(values, self.ramps))) / 2


class DenseOptions(NamedTuple):
    """Which dense network leaves a series (n,) out, if any does, and how many steps they may take."""

    fold: IntArray | None
    max_steps: int | None


class Fitted(NamedTuple):
    """A closed form, and its outputs (n, m) for each training series from a fit without it."""

    closed_form: ClosedForm
    left_out: FloatArray


def fit_closed_form(
    panel: Panel,
    targets: FloatArray,
    weight: FloatArray,
    fold: IntArray | None,
    *,
    n_features: int,
    normalize: str,
    seed: int,
    device: torch.device,
    classes: bool = False,
    scale: str = "auto",
    dense: DenseOptions | None = None,
) -> Fitted:
    """Fit to targets (n, m) of the series of a panel.

    Parameters
    ----------
    panel : Panel
    targets : array (n, m)
    weight : array (n,)
    fold : array (n,), optional
        Which series are left out together, -1 for those that never are; by default each one alone.
    n_features, normalize, seed, scale
        As `fit_features`.
    device : torch.device
    classes : bool
        Whether the targets are the signs of classes.
    dense : DenseOptions, optional
        Train dense networks beside the linear model, if the panel is a chart.
    """
    features = fit_features(panel, n_features, _BASIS, _SCALES, _POOLING, normalize, seed, scale)
    values = _transformed(features, panel, device)
    weight = weight / weight.mean()
    ridge = fit_on_top(features, values, targets, weight, classes=classes)
    left_out = ridge.left_out
    if fold is not None:
        if isinstance(features, ChartFeatures):
            fold = np.where(fold < 0, fold, fold % _MOST_FITS)
        left_out = left_out_by_fold(features, values, targets, weight, fold, classes=classes)
    if dense is None or not isinstance(features, ChartFeatures):
        return Fitted(ClosedForm(features, ridge.coef, ridge.intercept), left_out)
    ramps: Ramps | None = Ramps.fit(values, features.in_ramps())
    variables = features.variables()
    if ramps is not None and len(ramps.feature):
        variables = variables[ramps.feature]
    else:  # of too few series
        ramps = None
    beside = fit_dense(
        _read(values, ramps),
        targets,
        weight,
        dense.fold,
        variables,
        classes=classes,
        n_members=DENSE_MEMBERS,
        seed=seed,
        max_steps=dense.max_steps,
    )
    both = np.where(np.isnan(beside.left_out), left_out, (left_out + beside.left_out) / 2)
    return Fitted(ClosedForm(features, ridge.coef, ridge.intercept, beside.committee, ramps), both)


def left_out_by_fold(
    features: Features,
    values: npt.NDArray[np.float32],
    targets: FloatArray,
    weight: FloatArray,
    fold: IntArray,
    *,
    classes: bool,
) -> FloatArray:
    """Outputs (n, m) for the series of each fold (n,) by a fit to the others; NaN where it is -1."""
    left_out = np.full(targets.shape, np.nan)
    for number in np.unique(fold[fold >= 0]):
        seen = fold != number
        part = fit_on_top(features, values[seen], targets[seen], weight[seen], classes=classes)
        left_out[~seen] = predict_ridge(values[~seen], part.coef, part.intercept)
    return left_out


def pull_of(closed_form: ClosedForm) -> tuple[float, tuple[float, float]]:
    """How much the weights of a closed form and of networks are pulled, and towards which."""
    if not isinstance(closed_form.features, ChartFeatures):
        return _PULL, _ALONE
    return _PULL_OF_CHARTS, ALIKE if closed_form.dense is None else _TWO_AND_ONE


def _transformed(features: Features, panel: Panel, device: torch.device) -> npt.NDArray[np.float32]:
    return features.transform(panel, torch.get_num_threads(), device)


def _read(values: npt.NDArray[np.float32], ramps: Ramps | None) -> npt.NDArray[np.float32]:
    """What dense networks read of the values (n, F) of features."""
    return values if ramps is None else ramps.transform(values)


def logit_weights(
    start: FloatArray,
    outputs: FloatArray,
    codes: IntArray,
    weight: FloatArray,
    pull: float = _PULL,
    towards: tuple[float, float] = _ALONE,
) -> FloatArray:
    """Return the weights (2,), not negative, of start and outputs in logits with the smallest log loss.

    The labels are smoothed as in `fit_slope`, and the loss grows with ``pull`` times the square of the
    distance from ``towards``, the closed form alone: as much as so many series would count.
    """
    target = smoothed_labels(codes, start.shape[1])
    weight = weight / weight.mean()

    def loss(pair: FloatArray) -> tuple[float, FloatArray]:
        logarithm = log_softmax(pair[0] * start + pair[1] * outputs, axis=1)
        error = weight[:, None] * (np.exp(logarithm) - target)
        gradient = np.array([(error * start).sum(), (error * outputs).sum()])
        away = pair - np.array(towards)
        value = -float(weight @ (target * logarithm).sum(axis=1)) + pull * float(away @ away)
        return value, gradient + 2 * pull * away

    # Convex: the log loss of a softmax of a linear map, and a square.
    return minimize(loss, ALIKE, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * 2).x


def number_weights(
    start: FloatArray,
    outputs: FloatArray,
    target: FloatArray,
    weight: FloatArray,
    pull: float = _PULL,
    towards: tuple[float, float] = _ALONE,
) -> FloatArray:
    """Return the weights (2,), not negative, of start and outputs with the smallest squared error.

    To which the square of the distance from ``towards`` adds, as in `logit_weights`; targets have
    variance 1.
    """
    root, force = np.sqrt(weight / weight.mean()), np.sqrt(pull)
    rows = np.concatenate([np.stack([start, outputs], axis=1) * root[:, None], force * np.eye(2)])
    return nnls(rows, np.concatenate([target * root, force * np.array(towards)]))[0]
