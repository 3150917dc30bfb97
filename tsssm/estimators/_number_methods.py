"""Methods that regressors share: functions, which each of them takes into its body by name."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from sklearn.metrics import r2_score

from tsssm.estimators._base import PanelEstimator, of_one_fit
from tsssm.estimators._checks import FloatArray
from tsssm.estimators._trained import fit_part

Estimator = TypeVar("Estimator", bound=PanelEstimator)

_NO_ERRORS = (
    "Intervals need predictions of series that were left out of a fit, and this model has none: fit with "
    "n_members of at least 2, or with a closed form beside one network and more than 2,000 series, as the "
    "default does for up to 5,000 in memory with bidirectional=True."
)


@of_one_fit
def predict_quantiles(self: PanelEstimator, X: Any, quantiles: Sequence[float] | None = None) -> FloatArray:
    """Return quantiles of the targets; needs ``loss="quantile"`` or ``loss="gaussian"``.

    Parameters
    ----------
    X : as in ``fit``
        n series.
    quantiles : sequence of float, optional
        Levels between 0 and 1. With the loss "quantile" they must be among those that were trained, the
        parameter ``quantiles``, which is also the default.

    Returns
    -------
    array of shape (n, n_quantiles) or (n, n_outputs, n_quantiles), float64
        In the order of ``quantiles``; the second where y had two dimensions in ``fit``.

    Raises
    ------
    NotFittedError, TypeError, ValueError
        Before ``fit``, for X that is not as documented, for levels that are not, and with another loss.

    Notes
    -----
    Quantiles that cross are sorted, which only lowers their loss (Chernozhukov, Fernandez-Val, Galichon,
    *Quantile and Probability Curves Without Crossing*, Econometrica 78 (2010), proposition 4). Those of
    "gaussian" are the normal distribution's.
    """
    self.check_is_fitted()
    targets = self._targets
    levels = targets.check_levels(quantiles)
    values = targets.quantile_values(self._outputs(X), levels)
    return values[:, 0] if targets.ndim == 1 else values


@of_one_fit
def predict_interval(self: PanelEstimator, X: Any, coverage: float = 0.9) -> FloatArray:
    """Return intervals that cover a share of the targets of new series.

    Parameters
    ----------
    X : as in ``fit``
        n series.
    coverage : float, default=0.9
        The share, in (0, 1).

    Returns
    -------
    array of shape (n, 2) or (n, n_outputs, 2), float64
        Lower and upper ends; the second where y had two dimensions in ``fit``.

    Raises
    ------
    NotFittedError, TypeError
        Before ``fit``, and for X that is not as documented.
    ValueError
        For X or ``coverage`` that are not as documented, and where too few series were left out for it.

    Notes
    -----
    The intervals are as wide as the errors were on training series that a part of the model was fitted
    without (conformal prediction by cross-validation). Pass ``groups`` to ``fit`` where series belong
    together, such as those of one patient: then the intervals are those for new patients. A share c needs
    c / (1 - c) series or groups, 9 for 0.9. With ``loss="gaussian"`` an interval is wider where the
    predicted standard deviation is larger; otherwise all have the same width. The coverage holds for each
    target separately.
    """
    self.check_is_fitted()
    real = isinstance(coverage, Real) and not isinstance(coverage, bool)
    if not real or not 0 < float(coverage) < 1:
        raise ValueError(f"coverage must be a number in (0, 1); got {coverage!r}.")
    targets = self._targets
    if targets.errors is None:
        raise ValueError(_NO_ERRORS)
    reach, outputs = targets.errors.reach(float(coverage)), self._outputs(X)
    centre, width = targets.centre(outputs), reach * targets.spread(outputs)
    ends = np.stack([centre - width, centre + width], axis=-1)
    return ends if targets.ndim == 2 else ends[:, 0]


def score(
    self: PanelEstimator,
    X: Any,
    y: Any,
    sample_weight: npt.ArrayLike | None = None,
    multioutput: str | npt.ArrayLike | None = "uniform_average",
) -> float:
    """Return R-squared of ``predict(X)``, optionally weighted.

    ``multioutput`` says how several outputs are averaged, as in `sklearn.metrics.r2_score`.
    """
    y, sample_weight = self._for_score(X, y, sample_weight)
    return r2_score(y, self.predict(X), sample_weight=sample_weight, multioutput=multioutput)


def partial_fit(self: Estimator, X: Any, y: Any, sample_weight: Any = None) -> Estimator:
    """Train for one epoch of these series, continuing from what was learned before.

    The learning rate is constant, ``learning_rate`` and ``ssm_learning_rate``; ``max_epochs``,
    ``max_steps`` and ``warm_start`` are ignored. The first call learns the scales of values, time and
    targets from its series, so give it a representative part of the data.

    Parameters
    ----------
    X, y, sample_weight : as in ``fit``
        Some of the series.

    Returns
    -------
    self

    Raises
    ------
    TypeError, ValueError
        For arguments that are not as documented, and with ``early_stopping``.
    """
    fit_part(self, X, y, sample_weight)
    return self
