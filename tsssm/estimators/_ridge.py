"""Closed-form models of time series: a ridge regression on state-space features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.metaestimators import available_if
from sktime.classification.base import BaseClassifier
from sktime.regression.base import BaseRegressor

from tsssm.estimators import _class_methods, _number_methods
from tsssm.estimators._base import declared_tags, of_one_fit
from tsssm.estimators._checks import FloatArray
from tsssm.estimators._classes import Classes
from tsssm.estimators._features import FEATURE_RULES, FEATURE_TAGS
from tsssm.estimators._numbers import Numbers
from tsssm.estimators._parameters import RULES
from tsssm.estimators._ridge_base import RidgeEstimator

_TINY = {"n_features": 64, "n_scales": 2, "random_state": 0}


def _has_one_column(classifier: SSMFeaturesClassifier) -> bool:
    return not isinstance(getattr(classifier, "classes_", None), list)


class SSMFeaturesClassifier(RidgeEstimator, BaseClassifier, ClassifierMixin, BaseEstimator):
    """Ridge classifier on closed-form state-space features, for scikit-learn and sktime.

    Fits in seconds where `SSMClassifier` takes minutes: nothing is trained by gradients. Series may differ in
    length, be sampled irregularly and have missing values.

    Parameters
    ----------
    n_features : int, default=12288
        Number of features, rounded down to a multiple of what each system gives.
    basis : {"diagonal", "legt", "legs"}, default="diagonal"
        State-space systems; see `SSMFeatures`.
    n_scales : int, default=12
        Timescales of the systems.
    pooling : "auto", "charts" or tuple of {"ppv", "competition"}, default="auto"
        What is kept of the outputs of the systems over time; "auto" recognises clinical charts. See
        `SSMFeatures`.
    normalize : {"auto", "series", "global"} or None, default="auto"
        Which mean and scale are removed before; see `SSMFeatures`.
    class_weight : None, "balanced", dict, or list of dicts for several columns, default=None
        Weights of the classes, as in scikit-learn.
    random_state : int or RandomState, optional
        Seed; the same data and seed give the same predictions, whatever ``n_jobs``. None is a fresh seed.
    n_jobs : int, optional
        Threads that compute features; -1 is one for each processor.
    accelerator : {"auto", "cpu", "gpu", "cuda"}, default="auto"
        Where the features are computed; see `SSMFeatures`. The ridge is solved on the CPU.
    scale : {"auto", "standard", "robust"}, default="auto"
        Scale of a channel: mean and standard deviation without ("auto") or with ("standard") faults (over 100
        ranges off); median and interquartile range without faults ("robust"). Not for charts.
    missing_channels : {"error", "nan"}, default="error"
        Whether a named channel of ``fit`` that later series lack is an error, or missing values.

    Attributes
    ----------
    classes_ : array (n_classes,), or a list of one for each column of y
        Class labels, sorted.
    n_features_in_ : int
        Channels of X; for a two-dimensional X its columns, as scikit-learn counts.
    alpha_ : float
        Penalty of the ridge, of ten from 0.001 to 1000 the one with the smallest leave-one-out error.
    coef_, intercept_ : array (n_features_out, m), (m,)
        Coefficients of the features; m is one per class, or one for two classes.
    features_ : StateSpaceFeatures or ChartFeatures
        The systems and thresholds, or what a chart is measured by.

    Notes
    -----
    Targets are +1 for the class and -1 for the others, as in `sklearn.linear_model.RidgeClassifierCV`, after
    standardising the features. Probabilities are the softmax of the decision values times a slope: the one
    with the smallest log loss on decision values of series that were left out of the fit.

    Examples
    --------
    >>> import numpy as np
    >>> from tsssm import SSMFeaturesClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(20, 2, 30))  # 20 series, 2 channels, 30 samples
    >>> y = np.repeat(["rest", "walk"], 10)
    >>> X[y == "walk"] += 1.0
    >>> clf = SSMFeaturesClassifier(n_features=768, random_state=0).fit(X, y)
    >>> clf.predict(X[[0, -1]])
    array(['rest', 'walk'], dtype='<U4')
    """

    _tags = declared_tags(
        BaseClassifier,
        {
            **FEATURE_TAGS,
            "y_inner_mtype": "numpy2D",
            "capability:multioutput": True,
            "capability:predict_proba": True,
            "capability:class_weight": True,
        },
    )
    rules = {**FEATURE_RULES, "class_weight": RULES["class_weight"]}

    _kind_of_targets = Classes
    _targets: Classes

    def __init__(
        self,
        n_features: int = 12288,
        basis: str = "diagonal",
        n_scales: int = 12,
        pooling: str | Sequence[str] = "auto",
        normalize: str | None = "auto",
        class_weight: str | Mapping[Any, float] | list[Mapping[Any, float]] | None = None,
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
        self.class_weight = class_weight
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.accelerator = accelerator
        self.scale = scale
        self.missing_channels = missing_channels
        super().__init__()

    @available_if(_has_one_column)
    @of_one_fit
    def decision_function(self, X: Any) -> FloatArray:
        """Return the decision values: one for two classes, else one for each class.

        Parameters
        ----------
        X : as in ``fit``
            n series.

        Returns
        -------
        array of shape (n,), positive for the second of two classes, or (n, n_classes)

        Raises
        ------
        NotFittedError, TypeError, ValueError
            Before ``fit``, and for X that is not as documented.
        AttributeError
            If y had several columns; there is `predict_proba`.
        """
        self.check_is_fitted()
        outputs = self._outputs(X)
        return outputs[:, 0] if self.n_classes_ == 2 else outputs

    predict_proba = _class_methods.predict_proba
    predict = _class_methods.predict
    score = _class_methods.score

    def _predict_proba(self, X: Any) -> FloatArray | list[FloatArray]:
        return self._targets.answers(self._outputs(X))

    def _predict(self, X: Any) -> npt.NDArray[Any] | pd.DataFrame:
        return self._targets.most_likely(self._targets.by_class(self._outputs(X)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        # A table whose columns have no order in time is not what the features are for.
        tags.classifier_tags.poor_score = True
        tags.target_tags.multi_output = True
        return tags

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Return parameters for quick test instances, as sktime's test suite asks for."""
        return [_TINY, {**_TINY, "basis": "legs", "pooling": ("competition",), "normalize": "global"}]


class SSMFeaturesRegressor(RidgeEstimator, BaseRegressor, RegressorMixin, BaseEstimator):
    """Ridge regression of one or several numbers on closed-form state-space features.

    For scikit-learn and sktime. Fits in seconds where `SSMRegressor` takes minutes: nothing is trained by
    gradients. Series may differ in length, be sampled irregularly and have missing values.

    Parameters
    ----------
    n_features : int, default=12288
        Number of features, rounded down to a multiple of what each system gives.
    basis : {"diagonal", "legt", "legs"}, default="diagonal"
        State-space systems; see `SSMFeatures`.
    n_scales : int, default=12
        Timescales of the systems.
    pooling : "auto", "charts" or tuple of {"ppv", "competition"}, default="auto"
        What is kept of the outputs of the systems over time; "auto" recognises clinical charts. See
        `SSMFeatures`.
    normalize : {"auto", "series", "global"} or None, default="auto"
        Which mean and scale are removed before; see `SSMFeatures`.
    random_state : int or RandomState, optional
        Seed; the same data and seed give the same predictions, whatever ``n_jobs``. None is a fresh seed.
    n_jobs : int, optional
        Threads that compute features; -1 is one for each processor.
    accelerator : {"auto", "cpu", "gpu", "cuda"}, default="auto"
        Where the features are computed; see `SSMFeatures`. The ridge is solved on the CPU.
    scale : {"auto", "standard", "robust"}, default="auto"
        Scale of a channel: mean and standard deviation without ("auto") or with ("standard") faults (over 100
        ranges off); median and interquartile range without faults ("robust"). Not for charts.
    missing_channels : {"error", "nan"}, default="error"
        Whether a named channel of ``fit`` that later series lack is an error, or missing values.

    Attributes
    ----------
    n_features_in_ : int
        Channels of X; for a two-dimensional X its columns, as scikit-learn counts.
    alpha_ : float
        Penalty of the ridge, of ten from 0.001 to 1000 the one with the smallest leave-one-out error.
    coef_, intercept_ : array (n_features_out, n_outputs), (n_outputs,)
        Coefficients of the features; outputs are standardised targets.
    features_ : StateSpaceFeatures or ChartFeatures
        The systems and thresholds, or what a chart is measured by.

    Examples
    --------
    >>> import numpy as np
    >>> from tsssm import SSMFeaturesRegressor
    >>> rng = np.random.default_rng(0)
    >>> rate = rng.uniform(0.5, 3.0, size=40)
    >>> X = np.sin(rate[:, None] * np.linspace(0.0, 10.0, 50))  # 40 series of 50 samples
    >>> reg = SSMFeaturesRegressor(n_features=768, random_state=0).fit(X, rate)
    >>> reg.predict(X).shape
    (40,)
    """

    _tags = declared_tags(
        BaseRegressor, {**FEATURE_TAGS, "y_inner_mtype": "numpy2D", "capability:multioutput": True}
    )
    rules = FEATURE_RULES

    _kind_of_targets = Numbers
    _targets: Numbers

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

    predict_interval = _number_methods.predict_interval
    score = _number_methods.score

    @of_one_fit
    def predict(self, X: Any) -> npt.NDArray[Any] | pd.DataFrame:
        """Return the predicted targets.

        Parameters
        ----------
        X : as in ``fit``
            n series.

        Returns
        -------
        array of shape (n,) or (n, n_outputs), float64, or DataFrame
            In the shape that y had in ``fit``; a frame if that was one with several columns.

        Raises
        ------
        NotFittedError, TypeError, ValueError
            Before ``fit``, and for X that is not as documented.
        """
        self.check_is_fitted()
        return self._predict(X)

    def _predict(self, X: Any) -> npt.NDArray[Any] | pd.DataFrame:
        return self._targets.in_shape_of_y(self._targets.centre(self._outputs(X)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        # A table whose columns have no order in time is not what the features are for.
        tags.regressor_tags.poor_score = True
        return tags

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Return parameters for quick test instances, as sktime's test suite asks for."""
        return [_TINY, {**_TINY, "basis": "legt", "pooling": ("ppv",), "normalize": "global"}]
