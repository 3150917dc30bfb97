"""Closed-form features of time series as a transformer, and what the models on top of them share."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from joblib import effective_n_jobs
from sklearn.base import BaseEstimator, TransformerMixin
from sktime.transformations.base import BaseTransformer

from tsssm.estimators._base import PANEL_TAGS, PanelEstimator, declared_tags, of_one_fit
from tsssm.estimators._checks import (
    check_finite,
    is_table,
    seed_of,
)
from tsssm.estimators._parameters import RULES, Rule, one_of
from tsssm.features import (
    BASES,
    KINDS,
    POOLINGS,
    ChartFeatures,
    Features,
    StateSpaceFeatures,
    fit_features,
)
from tsssm.panel import Panel
from tsssm.persistence import Fields, ModelFileError
from tsssm.training import prediction_device, resolve_device

# What a file may ask for.
_MOST_JOBS = 1024
_COUNT = Rule((Integral,), lambda value: value >= 1, "an integer of at least 1")

FEATURE_RULES: dict[str, Rule] = {
    "n_features": _COUNT,
    "basis": one_of(BASES),
    "n_scales": _COUNT,
    "pooling": Rule(
        (tuple, list, str),
        lambda value: (
            value in KINDS
            if isinstance(value, str)
            else len(value) > 0 and set(value) <= set(POOLINGS) and len(set(value)) == len(value)
        ),
        f"{', '.join(map(repr, KINDS))} or a tuple of one or both of {', '.join(map(repr, POOLINGS))}",
    ),
    "normalize": Rule(
        (str, type(None)),
        lambda value: value in ("auto", "series", "global", None),
        "'auto', 'series', 'global' or None",
    ),
    "n_jobs": Rule((Integral, type(None)), lambda value: value != 0, "None or an integer other than 0"),
    "accelerator": RULES["accelerator"],
    "scale": RULES["scale"],
    "missing_channels": RULES["missing_channels"],
}

FEATURE_TAGS = {**PANEL_TAGS, "python_dependencies": ["torch", "numba"]}


def fitted_features(estimator: Any, panel: Panel) -> Features:
    """Return the features that the parameters of an estimator ask for, fitted to a panel."""
    resolve_device(estimator.accelerator)  # raises where there is none
    seed = seed_of(estimator.random_state)
    options = (estimator.basis, estimator.n_scales, estimator.pooling, estimator.normalize)
    return fit_features(panel, estimator.n_features, *options, seed, estimator.scale)


def features_of(estimator: Any, panel: Panel) -> npt.NDArray[np.float32]:
    """Return the features (n, n_features_out) of a fitted estimator for a panel."""
    threads, device = effective_n_jobs(estimator.n_jobs), prediction_device(estimator.accelerator)
    return check_finite(estimator.features_.transform(panel, threads, device), panel, "features")


def restored_features(estimator: Any, fields: Fields) -> Any:
    """Return the features in a model file, and what is known there of the training panel to the estimator."""
    features: Any = fields.instance("features_", StateSpaceFeatures, ChartFeatures)
    estimator._restore_panel(fields, features.encoder)
    if estimator.n_jobs is not None and estimator.n_jobs > _MOST_JOBS:
        raise ModelFileError(f"its n_jobs is {estimator.n_jobs}, more threads than any machine has.")
    return features


class SSMFeatures(PanelEstimator, BaseTransformer, TransformerMixin, BaseEstimator):
    """Closed-form state-space features of time series, for scikit-learn and sktime.

    Fixed random state-space systems filter the series, and their outputs are pooled over time: ROCKET with
    the systems of LSSL and S4D in place of convolutions. Nothing is trained by gradients; series may differ
    in length, be sampled irregularly and have missing values. Averages are over time and not over samples,
    and the systems are also evaluated between samples, so that the features of a series depend little on how
    it was sampled.

    Parameters
    ----------
    n_features : int, default=12288
        Number of features, rounded down to a multiple of what each system gives.
    basis : {"diagonal", "legt", "legs"}, default="diagonal"
        Systems: diagonal with random frequencies (S4D), or HiPPO's, which remember a window ("legt") or the
        whole past ("legs") in Legendre polynomials.
    n_scales : int, default=12
        Timescales of the systems, from a few gaps between samples to the duration of a series.
    pooling : "auto", "charts" or tuple of {"ppv", "competition"}, default="auto"
        What is kept of an output: the share of time above thresholds, how often and how strongly it is the
        largest and how often the smallest of eight, or both. "charts" is for clinical charts: every variable
        has systems of its own, which run with its own gaps, and their final states are kept
        (`ChartFeatures`); ``n_features``, ``basis``, ``n_scales`` and ``normalize`` are then ignored. "auto"
        is "charts" where at least four channels vary, at least half of their values are missing, in the
        samples that have any, and half of them have fewer than 16 values per series; else it is both of the
        first two.
    normalize : {"auto", "series", "global"} or None, default="auto"
        "series" removes mean and scale of every channel of every series, "global" those of the training
        series, None nothing. "auto" is "global", but with one channel the slopes of every series have a scale
        of their own. A `tsssm.Stream` cannot know the scale of a whole series: it takes "global" and None.
    random_state : int or RandomState, optional
        Seed; the same data and seed give the same features, whatever ``n_jobs``. None is a fresh seed.
    n_jobs : int, optional
        Threads; -1 is one for each processor, None is one unless a joblib context says otherwise.
    accelerator : {"auto", "cpu", "gpu", "cuda"}, default="auto"
        Where the features are computed, as in `SSMClassifier`; they are the same up to rounding. Where there
        is no CUDA device, or no Triton to compile for it, a fitted transformer computes on the CPU.
    scale : {"auto", "standard", "robust"}, default="auto"
        Scale of a channel: mean and standard deviation without ("auto") or with ("standard") faults (over 100
        ranges off); median and interquartile range without faults ("robust"). Not for charts.
    missing_channels : {"error", "nan"}, default="error"
        Whether a named channel of ``fit`` that later series lack is an error, or missing values.

    Attributes
    ----------
    n_features_in_ : int
        Channels of X; for a two-dimensional X its columns, as scikit-learn counts.
    n_features_out_ : int
        Number of features.
    features_ : StateSpaceFeatures or ChartFeatures
        The systems and thresholds, or what a chart is measured by.

    Notes
    -----
    Between its values a channel is interpolated, between straight lines and a smooth curve, with the weight
    that predicts left-out samples of the training series best; before the first value and after the last it
    is constant. The unit of time is the sampling step or, for irregular times, a typical short gap of the
    training series; times are rounded to a 64th of it. Series without times lie on the regular grid of the
    training series.

    A flat frame of numbers or an array (n, length) holds one series per row, as in scikit-learn. A pandas
    Series, and a flat frame with an index of dates, are one series to sktime, and so they are here.

    Examples
    --------
    >>> import numpy as np
    >>> from tsssm import SSMFeatures
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(20, 2, 30))  # 20 series, 2 channels, 30 samples
    >>> SSMFeatures(n_features=768, random_state=0).fit_transform(X).shape
    (20, 768)
    """

    _tags = declared_tags(
        BaseTransformer,
        {
            **FEATURE_TAGS,
            "y_inner_mtype": "None",
            "scitype:transform-input": "Series",
            "scitype:transform-output": "Primitives",
            "scitype:instancewise": False,
            "capability:categorical_in_X": False,
            "fit_is_empty": False,
        },
    )
    rules = FEATURE_RULES
    _holds = {"features_": "StateSpaceFeatures or ChartFeatures: features of a series"}

    features_: Features

    def __init__(
        self,
        n_features: int = 12288,
        basis: str = "diagonal",
        n_scales: int = 12,
        pooling: str | Sequence[str] = "auto",
        normalize: str | None = "auto",
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
        accelerator: str = "auto",
        scale: str = "auto",
        missing_channels: str = "error",
    ) -> None:
        self.n_features = n_features
        self.basis = basis
        self.n_scales = n_scales
        self.pooling = pooling
        self.normalize = normalize
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.accelerator = accelerator
        self.scale = scale
        self.missing_channels = missing_channels
        super().__init__()

    def fit(self, X: Any, y: Any = None) -> SSMFeatures:
        """Draw the systems, and learn scales and thresholds from the series.

        Parameters
        ----------
        X : Panel, array (n, length) or (n, channels, length), list of arrays or frames, or DataFrame
            n series, in any container that `tsssm.panel.as_panel` takes, among them sktime's. NaN is missing.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            For parameters and X that are not as documented.
        """
        if _is_for_sktime(X):
            return BaseTransformer.fit(self, X)
        with self._fitting():
            self.features_ = fitted_features(self, self._panel(X, reset=True))
            self.n_features_out_ = self.features_.n_features_out
        return self

    def _restore(self, fields: Fields) -> None:
        self.features_ = restored_features(self, fields)
        self.n_features_out_ = self.features_.n_features_out

    @of_one_fit
    def transform(self, X: Any, y: Any = None) -> npt.NDArray[np.float32] | pd.DataFrame:
        """Return the features.

        Parameters
        ----------
        X : as in ``fit``
            n series.
        y : ignored

        Returns
        -------
        array of shape (n, n_features_out_), float32
            Or a frame, if ``set_output`` asks for it.

        Raises
        ------
        NotFittedError, TypeError, ValueError
            Before ``fit``, and for X that is not as documented.
        """
        self.check_is_fitted()
        if _is_for_sktime(X) or getattr(self, "_is_vectorized", None) is True:
            return BaseTransformer.transform(self, X)
        return features_of(self, self._panel(X, reset=False))

    def _transform(self, X: Any, y: Any = None) -> pd.DataFrame:
        return pd.DataFrame(features_of(self, self._panel(X, reset=False)), columns=self.features_.names())

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Return a name for each feature: system, what is kept, readout. ``input_features`` is ignored."""
        self.check_is_fitted()
        return np.asarray(self.features_.names(), dtype=object)

    @property
    def _n_features_out(self) -> int:
        return self.n_features_out_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Return parameters for quick test instances, as sktime's test suite asks for."""
        tiny = {"n_features": 64, "n_scales": 2, "random_state": 0}
        return [tiny, {**tiny, "basis": "legt", "pooling": ("ppv",), "normalize": "global"}]


def _is_for_sktime(X: Any) -> bool:
    """Whether X is one series, or a hierarchy of panels: containers that only sktime has."""
    if isinstance(X, pd.Series):
        return X.dtype.kind != "O"
    if not isinstance(X, pd.DataFrame):
        return False
    if X.index.nlevels > 1:
        return X.index.nlevels > 2
    dated = isinstance(X.index, (pd.DatetimeIndex, pd.TimedeltaIndex, pd.PeriodIndex))
    return dated and X.size > 0 and is_table(X)
