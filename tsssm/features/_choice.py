"""Which features a panel gets, and which regression on top of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tsssm.encoding import is_chart
from tsssm.features._charts import ChartFeatures
from tsssm.features._features import POOLINGS, StateSpaceFeatures
from tsssm.features._logistic import PENALTIES, fit_logistic
from tsssm.features._ridge import Ridge, fit_ridge
from tsssm.panel import Panel

FloatArray = npt.NDArray[np.float64]

#: How features are asked for by one name.
KINDS = ("auto", "charts")

Features = StateSpaceFeatures | ChartFeatures


def fit_features(
    panel: Panel,
    n_features: int,
    basis: str,
    n_scales: int,
    pooling: str | Sequence[str],
    normalize: str | None,
    seed: int,
    scale: str = "auto",
) -> Features:
    """Fit features to a training panel, of the kind that ``pooling`` asks for.

    "charts" are `ChartFeatures`; "auto" is that where the panel is a chart, and else everything that
    `StateSpaceFeatures` keeps; names are what these keep. ``scale`` is that of `PanelEncoder`; the other
    arguments are those of `StateSpaceFeatures`.
    """
    if pooling == "charts" or (pooling == "auto" and is_chart(panel)):
        return ChartFeatures().fit(panel)
    kept = POOLINGS if isinstance(pooling, str) else pooling
    return StateSpaceFeatures(n_features, basis, n_scales, kept, normalize, seed).fit(panel, scale)


def fit_on_top(
    features: Features,
    values: npt.NDArray[np.float32],
    targets: FloatArray,
    weight: FloatArray,
    *,
    classes: bool,
) -> Ridge:
    """Fit a linear model to the values (n, d) of features: targets (n, m), weights (n,) with mean 1.

    A ridge regression, or a logistic one where features of charts meet ``classes``, whose targets are 1 and
    -1: one class is often rare then, and the squared error sees little of it.
    """
    if not isinstance(features, ChartFeatures):
        return fit_ridge(values, targets, weight)
    if classes:
        return fit_logistic(values, targets, weight)
    unit = float(values.astype(np.float64).var(axis=0).sum())
    return fit_ridge(values, targets, weight, (unit or 1.0) * PENALTIES, standardise=False)
