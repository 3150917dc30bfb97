"""Numbers as targets: standardisation, losses, and what the outputs of a model say about them.

Symbols and shapes: m targets per series, k outputs of a network per target::

    z  (batch, m, k)  outputs of the network
    t  (batch, m)     standardised targets
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy.special import ndtri
from sklearn.utils import check_array
from torch import Tensor
from torch.nn import functional as F

from tsssm.estimators._checks import FloatArray
from tsssm.estimators._closed_form import ALIKE, number_weights
from tsssm.estimators._left_out import Errors
from tsssm.estimators._recipes import Recipe
from tsssm.estimators._targets import Targets
from tsssm.persistence import Fields

Self = TypeVar("Self", bound="Numbers")

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


def moments(y: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weighted mean and standard deviation (m,) of targets (n, m); a constant one has scale 1."""
    mean = np.average(y, axis=0, weights=weight)
    deviation = y - mean
    varies = np.ptp(y, axis=0) > 0
    # Scaled to 1, so that squares neither overflow nor vanish.
    scale = np.where(varies, np.abs(deviation).max(axis=0, initial=0.0), 1.0)
    rms = np.sqrt(np.average((deviation / scale) ** 2, axis=0, weights=weight))
    return mean, np.where(varies, scale * rms, 1.0)


class Numbers(Targets):
    """Numbers in one column of y or several, for a ridge regression.

    Attributes
    ----------
    mean, std : array (m,)
    n_columns, ndim : int
        Columns and dimensions of y.
    columns : Index or None
        Names of the columns, if y was a frame of several.
    """

    are_classes = False
    holds = {
        "mean": "array (m,): mean of each target in training",
        "std": "array (m,): its standard deviation, 1 for a constant; outputs are in these units",
        "n_columns": "number m of targets",
        "ndim": "1 or 2: dimensions of y",
        "columns": "index of the names of several columns of a frame, or null",
        "errors": "LeftOut or null: how wrong answers were for series that were left out",
    }

    mean: FloatArray
    std: FloatArray
    n_columns: int
    ndim: int
    columns: pd.Index | None

    @classmethod
    def read(cls: type[Self], fields: Fields) -> Self:
        targets = cls()
        count = targets.n_columns = fields.count("n_columns", 1)
        targets.ndim = fields.choice("ndim", (1, 2) if count == 1 else (2,))
        targets.mean = fields.array("mean", (count,), np.float64)
        targets.std = fields.array("std", (count,), np.float64, np.finfo(np.float64).tiny)
        columns: Any = fields.take("columns")
        if columns is not None and (not isinstance(columns, pd.Index) or count == 1 or len(columns) != count):
            raise fields.refuse("columns", f"None or an index of {count} columns", columns)
        targets.columns = columns
        targets.errors = fields.maybe("errors", Errors)
        if targets.errors is not None and targets.errors.scores.shape[1] != count:
            raise fields.refuse("errors", f"of {count} targets", targets.errors.scores)
        return targets

    @property
    def n_ridge(self) -> int:
        """Number m of outputs of a ridge regression."""
        return self.n_columns

    def check(self, y: Any, classes: Any = None, *, reset: bool) -> FloatArray:
        """As `Targets.check`; the columns (n, m)."""
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
            self.columns = y.columns if several else None
            self.ndim = 1 if isinstance(y, pd.DataFrame) and not several else values.ndim
            self.n_columns = columns.shape[1]
        elif columns.shape[1] != self.n_columns:
            raise ValueError(
                f"y has {columns.shape[1]} column(s), but the estimator was fitted with {self.n_columns}."
            )
        return columns

    def fit(self, y: FloatArray, weight: FloatArray) -> None:
        """Learn mean and scale."""
        self.mean, self.std = moments(y, weight)

    def ridge(self, y: FloatArray) -> FloatArray:
        """Targets (n, m) of a ridge regression; in standard units, so that none rules over the penalty."""
        return (y - self.mean) / self.std

    def centre(self, outputs: FloatArray) -> FloatArray:
        """Predictions (n, m) that outputs stand for, in units of y."""
        return outputs * self.std + self.mean

    def spread(self, outputs: FloatArray) -> FloatArray:
        """Size of the errors of predictions (n, m), as far as outputs say anything of it."""
        return np.ones((len(outputs), self.n_columns))

    def judge(self, outputs: FloatArray, y: FloatArray, groups: npt.NDArray[Any] | None) -> None:
        self.errors = Errors.of((y - self.centre(outputs)) / self.spread(outputs), groups)

    def calibrate(self, left_out: FloatArray, y: FloatArray, weight: FloatArray) -> None:
        """There is nothing to learn of how much a prediction says."""

    def answers(self, outputs: FloatArray) -> FloatArray:
        """Predictions (n,) or (n, m) that outputs stand for."""
        centre = self.centre(outputs)
        return centre if self.ndim == 2 else centre[:, 0]

    def in_shape_of_y(self, values: FloatArray) -> npt.NDArray[Any] | pd.DataFrame:
        """Values (n, m) in the container that y had in ``fit``."""
        if self.columns is not None:
            return pd.DataFrame(values, columns=self.columns)
        return values if self.ndim == 2 else values[:, 0]


class NetworkNumbers(Numbers):
    """Numbers for a network, which has an output or several for each, as its loss says."""

    parameters = ("loss", "quantiles")

    loss: str
    quantiles: Sequence[float]

    @property
    def n_each(self) -> int:
        """Number k of outputs of the network for a target."""
        return {"gaussian": 2, "quantile": len(self.quantiles)}.get(self.loss, 1)

    @property
    def n_outputs(self) -> int:
        """Number of outputs of the network."""
        return self.n_columns * self.n_each

    def encoded(self, y: FloatArray) -> Tensor:
        """Targets (n, m) of the loss."""
        return torch.as_tensor(self.ridge(y), dtype=torch.float32)

    def origin(self) -> Tensor:
        return torch.as_tensor(self.mean / self.std, dtype=torch.float32)

    def strata(self, y: FloatArray) -> FloatArray:
        """What a validation split should cover evenly (n,): the mean of the targets, in units of ranges."""
        largest = np.abs(y).max(axis=0)
        scaled = y / np.where(largest > 0, largest, 1.0)
        extent = np.ptp(scaled, axis=0)
        return (scaled / np.where(extent > 0, extent, 1.0)).mean(axis=1)

    def loss_of(self, outputs: Tensor, target: Tensor, recipe: Recipe) -> Tensor:
        """Loss (batch,), the mean over the targets."""
        z = outputs.unflatten(1, (self.n_columns, -1))
        return LOSSES[self.loss](z, target, self.quantiles).mean(dim=1)

    def centre(self, outputs: FloatArray) -> FloatArray:
        """Mean or median (n, m) of the targets, in units of y."""
        return super().centre(self._standardised_centre(self._by_target(outputs)))

    def spread(self, outputs: FloatArray) -> FloatArray:
        """As `Numbers.spread`: the standard deviation that a gaussian loss learns."""
        if self.loss != "gaussian":
            return super().spread(outputs)
        return np.sqrt(np.logaddexp(0.0, self._by_target(outputs)[..., 1]) + LEAST_VARIANCE) * self.std

    def check_std(self) -> None:
        """Raise unless the network says standard deviations."""
        if self.loss != "gaussian":
            raise ValueError(f"return_std=True needs loss='gaussian'; it is {self.loss!r}.")

    def check_levels(self, quantiles: Sequence[float] | None) -> FloatArray:
        """Return levels of quantiles that the network can give; by default those that were trained."""
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

    def quantile_values(self, outputs: FloatArray, levels: FloatArray) -> FloatArray:
        """Quantiles (n, m, n_quantiles) of the targets."""
        if self.loss == "gaussian":
            return self.centre(outputs)[..., None] + self.spread(outputs)[..., None] * ndtri(levels)
        trained = list(self.quantiles)
        chosen = np.sort(self._by_target(outputs), axis=-1)[..., [trained.index(level) for level in levels]]
        return chosen * self.std[:, None] + self.mean[:, None]

    def weigh(
        self,
        left_out: FloatArray,
        outputs: FloatArray | None,
        y: FloatArray,
        weight: FloatArray,
        *pull: Any,
    ) -> FloatArray:
        """Weights (m, 2) of a ridge regression and of the network; as `NetworkClasses.weigh`."""
        if outputs is None:
            return np.tile(ALIKE, (self.n_columns, 1))
        centre = self._standardised_centre(self._by_target(outputs))
        columns = zip(left_out.T, centre.T, self.ridge(y).T, strict=True)
        return np.array([number_weights(start, own, target, weight, *pull) for start, own, target in columns])

    def blended(self, closed_form: FloatArray, outputs: FloatArray, blend: FloatArray) -> FloatArray:
        """Outputs (n, n_outputs) whose mean or median is the blend; what they say of its spread stays."""
        z = self._by_target(outputs).copy()
        centre = self._standardised_centre(z)
        moved = blend[:, 0] * closed_form + blend[:, 1] * centre - centre
        # The second output of a gaussian loss is no place.
        z[..., : 1 if self.loss == "gaussian" else None] += moved[..., None]
        return z.reshape(len(outputs), -1)

    def _by_target(self, outputs: FloatArray) -> FloatArray:
        return outputs.reshape(len(outputs), self.n_columns, -1)

    def _standardised_centre(self, z: FloatArray) -> FloatArray:
        if self.loss == "quantile":
            median = np.flatnonzero(np.asarray(self.quantiles) == 0.5)
            z = np.sort(z, axis=-1)[..., median]
        return z[..., 0]
