"""Quantiles of the targets, for the losses that give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import ndtri

from tsssm.estimators._base import of_one_fit
from tsssm.estimators._checks import FloatArray
from tsssm.estimators._number_targets import NumberTargets


class QuantileTargets(NumberTargets):
    """Mixin in front of `SSMEstimator` for targets of which the network may also predict quantiles."""

    @of_one_fit
    def predict_quantiles(self, X: Any, quantiles: Sequence[float] | None = None) -> FloatArray:
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
        self.check_is_fitted()  # type: ignore[attr-defined]
        levels = self._checked_levels(quantiles)
        outputs = self._outputs(X)  # type: ignore[attr-defined]
        values = self._quantile_values(outputs, levels)
        return values[:, 0] if self._y_ndim == 1 else values

    def _checked_levels(self, quantiles: Sequence[float] | None) -> FloatArray:
        """Levels that the network can give."""
        levels = np.asarray(self.quantiles if quantiles is None else quantiles, dtype=np.float64)
        if levels.ndim != 1 or levels.size == 0 or not ((levels > 0) & (levels < 1)).all():
            raise ValueError(f"quantiles must be a sequence of numbers in (0, 1); got {quantiles!r}.")
        if self.loss not in ("quantile", "gaussian"):
            raise ValueError(f"predict_quantiles needs loss='quantile' or 'gaussian'; it is {self.loss!r}.")
        trained = list(self.quantiles)
        unknown = [float(level) for level in levels if level not in trained]
        if self.loss == "quantile" and unknown:
            raise ValueError(
                f"quantiles must be among those that were trained, {trained}; got {unknown}. Add them to "
                "the parameter quantiles and fit again."
            )
        return levels

    def _quantile_values(self, outputs: FloatArray, levels: FloatArray) -> FloatArray:
        """Quantiles (n, m, n_quantiles) of m targets, from outputs (n, n_outputs)."""
        z = outputs.reshape(len(outputs), self._n_targets, -1)
        if self.loss == "gaussian":
            mean, std = self._in_units_of_y(z[..., :1]), self._standard_deviation(z)
            return mean + std[..., None] * ndtri(levels)
        trained = list(self.quantiles)
        return self._in_units_of_y(np.sort(z, axis=-1)[..., [trained.index(level) for level in levels]])

    def _target_outputs(self, X: Any) -> FloatArray:
        """Outputs (n, m, k) of the network for m targets."""
        outputs = self._outputs(X)  # type: ignore[attr-defined]
        return outputs.reshape(len(outputs), self._n_targets, -1)
