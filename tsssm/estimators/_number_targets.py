"""Numbers as targets of a network: standardisation, losses, and what the outputs say about them.

Symbols and shapes: m targets per series, k outputs per target::

    z  (batch, m, k)  outputs of the network
    t  (batch, m)     standardised targets
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.utils import check_array
from torch import Tensor
from torch.nn import functional as F

from tsssm.estimators._checks import FloatArray
from tsssm.estimators._closed_form import ALIKE, number_weights
from tsssm.persistence import Fields

#: Smallest variance of a standardised target: a constant one would have none, and an infinite likelihood.
LEAST_VARIANCE = 1e-6


def _elementwise(loss: Callable[..., Tensor]) -> Callable[[Tensor, Tensor, Sequence[float]], Tensor]:
    return lambda z, t, quantiles: loss(z[..., 0], t, reduction="none")


def gaussian_loss(z: Tensor, t: Tensor, quantiles: Sequence[float]) -> Tensor:
    """Negative log-likelihood of a normal distribution, without its constant; (batch, m).

    Mean z_0 and variance softplus(z_1): Nix, Weigend, *Estimating the mean and variance of the target
    probability distribution*, ICNN 1994, eq. 2, with the variance of Lakshminarayanan, Pritzel, Blundell,
    arXiv 1612.01474, section 2.2.1.
    """
    variance = F.softplus(z[..., 1]) + LEAST_VARIANCE
    return 0.5 * (variance.log() + (t - z[..., 0]).square() / variance)


def quantile_loss(z: Tensor, t: Tensor, quantiles: Sequence[float]) -> Tensor:
    """Pinball loss, the mean over the k quantiles; (batch, m).

    Koenker, Bassett, *Regression quantiles*, Econometrica 46 (1978), eq. 3.1.
    """
    level = torch.as_tensor(quantiles, dtype=z.dtype, device=z.device)
    error = t[..., None] - z
    return torch.maximum(level * error, (level - 1) * error).mean(dim=-1)


#: Training losses (batch, m) of outputs, standardised targets and the levels of quantiles.
LOSSES: dict[str, Callable[[Tensor, Tensor, Sequence[float]], Tensor]] = {
    "squared_error": _elementwise(F.mse_loss),
    "absolute_error": _elementwise(F.l1_loss),
    "huber": _elementwise(F.huber_loss),
    "quantile": quantile_loss,
    "gaussian": gaussian_loss,
}


class NumberTargets:
    """Mixin in front of `SSMEstimator` for targets that are numbers, in one column or several."""

    loss: str
    quantiles: Sequence[float]

    _y_mean: FloatArray
    _y_std: FloatArray
    _y_ndim: int
    _y_columns: Any
    _n_targets: int
    blend_: Any
    _targets_are_classes = False

    def _checked_targets(self, y: Any, classes: Any, *, reset: bool) -> FloatArray:
        try:
            values = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        except ValueError as error:
            if " y" in str(error) or "Complex" in str(error):
                raise
            raise ValueError(f"y must hold real numbers, one or one row per series: {error}") from error
        if values.ndim > 2:
            raise ValueError(f"y must have shape (n,) or (n, n_outputs); got {values.shape}.")
        columns = values.reshape(len(values), -1)
        if reset:
            # sktime's rule: a frame with several columns comes back as such a frame, with one as an array.
            several = isinstance(y, pd.DataFrame) and columns.shape[1] > 1
            self._y_columns = y.columns if several else None
            self._y_ndim = 1 if isinstance(y, pd.DataFrame) and not several else values.ndim
            self._n_targets = columns.shape[1]
        elif columns.shape[1] != self._n_targets:
            raise ValueError(
                f"y has {columns.shape[1]} column(s), but the estimator was fitted with {self._n_targets}."
            )
        return columns

    def _restore(self, fields: Fields) -> None:
        count = self._n_targets = fields.count("_n_targets", 1)
        self._y_ndim = fields.choice("_y_ndim", (1, 2) if count == 1 else (2,))
        self._y_mean = fields.array("_y_mean", (count,), np.float64)
        self._y_std = fields.array("_y_std", (count,), np.float64, np.finfo(np.float64).tiny)
        columns = self._y_columns = fields.take("_y_columns")
        if columns is not None and (not isinstance(columns, pd.Index) or count == 1 or len(columns) != count):
            raise fields.refuse("_y_columns", f"None or an index of {count} columns", columns)
        super()._restore(fields)  # type: ignore[misc]

    def _restore_slopes(self, fields: Fields) -> None:
        """Outputs are numbers: there is nothing to restore."""

    def _n_columns(self) -> int:
        return self._n_targets

    def _n_ridge_outputs(self) -> int:
        return self._n_targets

    def _fit_targets(self, y: FloatArray, weight: FloatArray) -> None:
        """Learn mean and scale; a constant target has scale 1."""
        self._y_mean = np.average(y, axis=0, weights=weight)
        deviation = y - self._y_mean
        varies = np.ptp(y, axis=0) > 0
        # Scaled to 1, so that squares neither overflow nor vanish.
        scale = np.where(varies, np.abs(deviation).max(axis=0, initial=0.0), 1.0)
        rms = np.sqrt(np.average((deviation / scale) ** 2, axis=0, weights=weight))
        self._y_std = np.where(varies, scale * rms, 1.0)

    def _encoded_targets(self, y: FloatArray) -> Tensor:
        return torch.as_tensor(self._ridge_targets(y), dtype=torch.float32)

    def _origin(self) -> Tensor:
        return torch.as_tensor(self._y_mean / self._y_std, dtype=torch.float32)

    def _strata(self, y: FloatArray) -> FloatArray:
        """Return the mean of the targets, each in units of its range."""
        largest = np.abs(y).max(axis=0)
        scaled = y / np.where(largest > 0, largest, 1.0)
        extent = np.ptp(scaled, axis=0)
        return (scaled / np.where(extent > 0, extent, 1.0)).mean(axis=1)

    def _outputs_per_target(self) -> int:
        return {"gaussian": 2, "quantile": len(self.quantiles)}.get(self.loss, 1)

    def _n_outputs(self) -> int:
        return self._n_targets * self._outputs_per_target()

    def _loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Loss of each series, the mean over the targets."""
        z = outputs.unflatten(1, (self._n_targets, -1))
        return LOSSES[self.loss](z, target, self.quantiles).mean(dim=1)

    def _in_units_of_y(self, z: npt.NDArray[Any]) -> FloatArray:
        """Undo the standardisation of values (n, m, k)."""
        return z * self._y_std[:, None] + self._y_mean[:, None]

    def _standard_deviation(self, z: FloatArray) -> FloatArray:
        """Standard deviation (n, m) that outputs (n, m, 2) of a gaussian loss say."""
        return np.sqrt(np.logaddexp(0.0, z[..., 1]) + LEAST_VARIANCE) * self._y_std

    def _in_shape_of_y(self, values: FloatArray) -> npt.NDArray[Any] | pd.DataFrame:
        """Return values (n, m) in the container that y had in ``fit``."""
        if self._y_columns is not None:
            return pd.DataFrame(values, columns=self._y_columns)
        return values if self._y_ndim == 2 else values[:, 0]

    def _centre(self, z: FloatArray) -> FloatArray:
        """Mean or median (n, m) of the targets of which outputs (n, m, k) speak."""
        return self._in_units_of_y(self._standardised_centre(z)[..., None])[..., 0]

    def _standardised_centre(self, z: FloatArray) -> FloatArray:
        if self.loss == "quantile":
            median = np.flatnonzero(np.asarray(self.quantiles) == 0.5)
            z = np.sort(z, axis=-1)[..., median]
        return z[..., 0]

    def _ridge_targets(self, y: FloatArray) -> FloatArray:
        """Targets (n, m) of a ridge regression; in standard units, so that none rules over the penalty."""
        return (y - self._y_mean) / self._y_std

    def _weights_of(
        self,
        left_out: FloatArray,
        outputs: FloatArray | None,
        y: FloatArray,
        weight: FloatArray,
        *pull: Any,
    ) -> FloatArray:
        if outputs is None:
            return np.tile(ALIKE, (self._n_targets, 1))
        centre = self._standardised_centre(outputs.reshape(len(outputs), self._n_targets, -1))
        columns = zip(left_out.T, centre.T, self._ridge_targets(y).T, strict=True)
        return np.array([number_weights(start, own, target, weight, *pull) for start, own, target in columns])

    def _blended(self, closed_form: FloatArray, outputs: FloatArray) -> FloatArray:
        """Outputs (n, n_outputs) whose mean or median is the blend; what they say of its spread stays."""
        z = outputs.reshape(len(outputs), self._n_targets, -1).copy()
        centre = self._standardised_centre(z)
        blend = self.blend_[:, 0] * closed_form + self.blend_[:, 1] * centre
        # The second output of a gaussian loss is no place.
        z[..., : 1 if self.loss == "gaussian" else None] += (blend - centre)[..., None]
        return z.reshape(len(outputs), -1)

    def _answers(self, outputs: FloatArray) -> FloatArray:
        """Predictions (n,) or (n, m) that outputs (n, n_outputs) of the network stand for."""
        centre = self._centre(outputs.reshape(len(outputs), self._n_targets, -1))
        return centre if self._y_ndim == 2 else centre[:, 0]
