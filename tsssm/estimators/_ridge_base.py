"""What the two estimators with a ridge regression on closed-form features share."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tsssm.estimators._base import PanelEstimator
from tsssm.estimators._checks import FloatArray
from tsssm.estimators._classes import Classes
from tsssm.estimators._closed_form import left_out_by_fold
from tsssm.estimators._features import features_of, fitted_features, restored_features
from tsssm.estimators._numbers import Numbers
from tsssm.estimators._splits import Labelled, group_folds, labelled
from tsssm.features import Features, fit_on_top, predict_ridge
from tsssm.persistence import Fields

Estimator = TypeVar("Estimator", bound="RidgeEstimator")


class RidgeEstimator(PanelEstimator):
    """Base of the models: a ridge regression on features, on those of charts a logistic one for classes."""

    features_: Features
    alpha_: float
    coef_: FloatArray
    intercept_: FloatArray
    _targets: Classes | Numbers

    _holds = {
        "targets": "Classes or Numbers: what is known of y",
        "features_": "StateSpaceFeatures or ChartFeatures: F features of a series",
        "coef_": "array (F, m): outputs are features @ coef_ + intercept_, numbers in standard units, or "
        "decision values of classes",
        "intercept_": "array (m,)",
        "alpha_": "the penalty",
    }

    def fit(
        self: Estimator,
        X: Any,
        y: Any,
        sample_weight: npt.ArrayLike | None = None,
        *,
        groups: npt.ArrayLike | None = None,
    ) -> Estimator:
        """Fit the features to the series, and a ridge regression to the features.

        Parameters
        ----------
        X : Panel, array (n, length) or (n, channels, length), list of arrays or frames, or DataFrame
            n series, in any container that `tsssm.panel.as_panel` takes, among them sktime's. NaN is missing.
        y : array or DataFrame of shape (n,) or (n, n_outputs)
            Targets. Where X has ids, a pandas object whose index holds them is brought into their order, as
            are weights; arrays, lists, and an index 0, 1, 2, ... are in the order of the series.
        sample_weight : array of shape (n,), optional
            Weight of each series in the regression; not negative. A series of weight 0 is left out.
        groups : array of shape (n,), optional
            Which series belong together, such as those of one patient. Probabilities and intervals are then
            calibrated on groups, in place of series, that were left out of a fit.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            For parameters, X, y or weights that are not as documented.
        """
        with self._fitting():
            self._fit_labelled(labelled(self, X, y, sample_weight, groups, reset=True))
        return self

    def _fit_labelled(self, data: Labelled) -> None:
        targets = self._targets
        data = data.weighted(targets.weights(data.y, data.y))
        targets.fit(data.y, data.weight)
        targets.warn_of_one(self, "series")
        self.features_ = fitted_features(self, data.panel)
        values, wanted, weight = features_of(self, data.panel), targets.ridge(data.y), data.weight
        weight = weight / weight.mean()
        ridge = fit_on_top(self.features_, values, wanted, weight, classes=targets.are_classes)
        self.alpha_, self.coef_, self.intercept_ = ridge.alpha, ridge.coef, ridge.intercept
        left_out = ridge.left_out
        fold = group_folds(data, wanted > 0 if targets.are_classes else None)
        if fold is not None:
            left_out = left_out_by_fold(
                self.features_, values, wanted, weight, fold, classes=targets.are_classes
            )
        targets.calibrate(left_out, data.y, data.weight)
        targets.judge(left_out, data.y, data.groups)

    def _restore(self, fields: Fields) -> None:
        targets: Classes | Numbers = self._restore_targets(fields)
        self.features_ = restored_features(self, fields)
        self.alpha_ = fields.number("alpha_", 0.0)
        self.coef_ = fields.array("coef_", (self.features_.n_features_out, targets.n_ridge), np.float64)
        self.intercept_ = fields.array("intercept_", (targets.n_ridge,), np.float64)
        if not targets.calibrated:
            raise fields.refuse("targets", "with slopes", targets)

    def _outputs(self, X: Any) -> FloatArray:
        """Outputs (n, m) of the ridge regression."""
        return predict_ridge(features_of(self, self._panel(X, reset=False)), self.coef_, self.intercept_)
