r"""The outputs of a network for a time ahead: losses, and quantiles.

Symbols and shapes: q numbers an answer. Everything is in the scale of a window, relative to the forecast that
the network corrects::

    z  (..., q)  answers
    t  (...)     what came
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import ndtri, stdtrit
from torch import Tensor
from torch.nn import functional as F

FloatArray = npt.NDArray[np.float64]

#: Losses, and how many numbers an answer has; None is one a level.
LOSSES: dict[str, int | None] = {
    "quantile": None,
    "gaussian": 2,
    "student_t": 3,
    "absolute_error": 1,
    "squared_error": 1,
}
_LEAST_SCALE = 1e-3
_LEAST_FREEDOM = 2.1  # with fewer degrees there is no variance
# An untrained network answers with this.
_FIRST_SCALE, _FIRST_FREEDOM = 0.5, 8.0


def n_answers(loss: str, levels: Sequence[float]) -> int:
    """Numbers that an answer has."""
    return LOSSES[loss] or len(levels)


def loss_of(z: Tensor, t: Tensor, loss: str, levels: Sequence[float]) -> Tensor:
    """Loss (...) of answers z (..., q).

    "quantile" is the mean pinball loss (Koenker, Bassett, Econometrica 46 (1978), eq. 3.1), the likelihoods
    are without constants (of Student's t: Lange, Little, Taylor, JASA 84 (1989), eq. 1).
    """
    error = t - middle(z, loss, levels)
    if loss == "absolute_error":
        return error.abs()
    if loss == "squared_error":
        return error.square()
    if loss == "quantile":
        level = torch.as_tensor(levels, dtype=z.dtype, device=z.device)
        miss = t[..., None] - quantile_answers(z, levels)
        return torch.maximum(level * miss, (level - 1) * miss).mean(dim=-1)
    scale = spread(z)
    if loss == "gaussian":
        return scale.log() + 0.5 * (error / scale).square()
    nu = freedom(z)
    constant = torch.lgamma(nu / 2) - torch.lgamma((nu + 1) / 2) + 0.5 * (nu * torch.pi).log()
    return constant + scale.log() + (nu + 1) / 2 * ((error / scale).square() / nu).log1p()


def quantile_answers(z: Tensor, levels: Sequence[float]) -> Tensor:
    """Quantiles (..., q): a network that has not learned answers with those of a normal distribution."""
    return z + torch.as_tensor(_FIRST_SCALE * ndtri(np.asarray(levels)), dtype=z.dtype, device=z.device)


def middle(z: Tensor, loss: str, levels: Sequence[float]) -> Tensor:
    """The forecast (...) that answers tell: the median, or the mean."""
    if loss != "quantile":
        return z[..., 0]
    return quantile_answers(z, levels)[..., list(levels).index(0.5)]


def spread(z: Tensor) -> Tensor:
    """Scale (...) of a distribution."""
    return F.softplus(z[..., 1] + float(np.log(np.expm1(_FIRST_SCALE)))) + _LEAST_SCALE


def freedom(z: Tensor) -> Tensor:
    """Degrees of freedom (...) of Student's t."""
    return F.softplus(z[..., 2] + _FIRST_FREEDOM) + _LEAST_FREEDOM


def around(z: FloatArray, loss: str, levels: Sequence[float], asked: FloatArray) -> FloatArray:
    """Quantiles (..., Q) at the levels that are asked for, relative to the middle of answers (..., q)."""
    answers = torch.as_tensor(z, dtype=torch.float64)
    if loss == "quantile":
        found = np.sort(quantile_answers(answers, levels).numpy(), axis=-1)
        return _between(found - found[..., [list(levels).index(0.5)]], np.asarray(levels), asked)
    scale = spread(answers).numpy()[..., None]
    if loss == "gaussian":
        return scale * ndtri(asked)
    return scale * stdtrit(freedom(answers).numpy()[..., None], asked)


def _between(quantiles: FloatArray, levels: FloatArray, asked: FloatArray) -> FloatArray:
    """Quantiles at levels between those that were learned, in straight lines against normal scores.

    Beyond the outermost the line through the last two continues.
    """
    x, wanted = ndtri(levels), ndtri(asked)
    if len(x) == 1:
        return np.zeros((*quantiles.shape[:-1], len(asked)))
    above = np.clip(np.searchsorted(x, wanted), 1, len(x) - 1)
    share = (wanted - x[above - 1]) / (x[above] - x[above - 1])
    return (1 - share) * quantiles[..., above - 1] + share * quantiles[..., above]
