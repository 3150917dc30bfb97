"""What a network adds to forecasts in closed form, as far as that helped on windows it had not seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tsssm.forecasting._answers import around, freedom, loss_of, middle, spread
from tsssm.forecasting._conformal import Errors
from tsssm.forecasting._network import ForecastNetwork
from tsssm.forecasting._tracks import View

FloatArray = npt.NDArray[np.float64]

_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_WIDTHS = np.geomspace(0.3, 3.0, 25)
#: Beyond so many scales of its window, what came counts as being so far away.
LARGEST_TARGET = 50.0


class Correction(NamedTuple):
    """A trained network and how it is used.

    Attributes
    ----------
    net : ForecastNetwork
    view : View
    loss : str
    levels : tuple of float
        Of the quantiles that the network answers with, for ``loss="quantile"``.
    weight : float
        Weight of the held-out windows, in (0, 1]; the rest of an interval is in closed form.
    shares : array (n_targets,)
        Share of the network's correction of the middle that is used, for each target.
    widths : array (n_targets,)
        By how much distances from the middle are multiplied.
    errors : Errors
        Of the middle on held-out windows, in scales of the windows.
    loss_curve : tuple of float
        Mean training loss of each epoch.
    validation_scores : tuple of float
        Minus the loss on the held-out windows after each epoch.
    """

    net: ForecastNetwork
    view: View
    loss: str
    levels: tuple[float, ...]
    weight: float
    shares: FloatArray
    widths: FloatArray
    errors: Errors
    loss_curve: tuple[float, ...]
    validation_scores: tuple[float, ...]

    @property
    def is_distribution(self) -> bool:
        """Whether the network tells more than one number of a time."""
        return self.loss not in ("absolute_error", "squared_error")

    def middle(self, z: FloatArray, target: int) -> FloatArray:
        """What is added to the forecast in closed form (...), in the scale of the window."""
        found = middle(torch.as_tensor(z), self.loss, self.levels).numpy()
        return self.weight * self.shares[target] * found

    def quantiles(self, z: FloatArray, target: int, tau: FloatArray, asked: Sequence[float]) -> FloatArray:
        """Quantiles (k, Q) around the middle at times tau (k,), in the scale of the window.

        Beyond the horizon they go apart as those of a random walk.
        """
        levels = np.asarray(asked, dtype=np.float64)
        beyond = np.sqrt(np.maximum(tau / self.view.horizon, 1.0))[:, None]
        if self.is_distribution:
            return beyond * self.widths[target] * around(z, self.loss, self.levels, levels)
        table = self.errors.quantiles(levels, self.view.horizon)
        steps = np.arange(1, self.view.horizon + 1)
        near = np.clip(tau, 1, self.view.horizon)
        return beyond * np.stack([np.interp(near, steps, column) for column in table.T], axis=1)

    def parameters(self, z: FloatArray, target: int, tau: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Scale (k,), in the scale of the window, and degrees of freedom (k,) of a distribution."""
        answers = torch.as_tensor(z)
        beyond = np.sqrt(np.maximum(tau / self.view.horizon, 1.0))
        free = freedom(answers).numpy() if self.loss == "student_t" else np.full(len(z), np.inf)
        return beyond * self.widths[target] * spread(answers).numpy(), free


def calibrated(
    z: Tensor,
    t: Tensor,
    known: Tensor,
    target: Tensor,
    loss: str,
    levels: Sequence[float],
    n_targets: int,
) -> tuple[FloatArray, FloatArray, Errors]:
    """Shares and widths (n_targets,), and errors, from answers z (N, H, q) for held-out windows.

    ``t`` (N, H) is what came, where ``known``, of ``target`` (N,). A share or width counts that has the
    smallest loss; a width the smallest distance between the share covered and the level of each quantile.
    """
    shares, widths = np.zeros(n_targets), np.ones(n_targets)
    centre = middle(z, loss, levels)
    point = "absolute_error" if loss != "squared_error" else loss
    for number in range(n_targets):
        own = known & (target == number)[:, None]
        if not bool(own.any()):
            continue
        truth, guess = t[own], centre[own]
        losses = [float(loss_of((s * guess)[:, None], truth, point, ()).mean()) for s in _SHARES]
        # Of shares that are about as good the smallest: with few windows the best is the luckiest.
        best = min(losses)
        shares[number] = next(s for s, value in zip(_SHARES, losses, strict=True) if value <= 1.001 * best)
        if loss in ("absolute_error", "squared_error"):
            continue
        asked = np.array([0.1, 0.25, 0.75, 0.9])
        bands = around(z[own].double().numpy(), loss, levels, asked)
        miss = (truth - shares[number] * guess).double().numpy()
        wrong = [np.abs(np.mean(miss[:, None] <= width * bands, axis=0) - asked).sum() for width in _WIDTHS]
        widths[number] = _WIDTHS[int(np.argmin(wrong))]
    errors = t - torch.as_tensor(shares)[target][:, None] * centre
    return shares, widths, Errors.of(errors.double().numpy(), known.numpy())
