"""The bound of the liquid term: how far the input may act on the transition of a mode."""

from __future__ import annotations

import torch
from torch import Tensor

# |B| below this sets no bound that matters, and the gradient of 1 / |B| stays finite.
_SMALLEST = 1e-12


def liquid_bound(A: Tensor, B: Tensor) -> Tensor:
    r"""The largest input that keeps a mode from growing, :math:`\beta = -\mathrm{Re}\,A / |B|`.

    The liquid transition is :math:`A + B \tilde u` with :math:`\tilde u = \max(-\beta, \min(u, \beta))`: at
    most, an input takes away all of the decay of a mode. By zero-order hold this bounds every step, whatever
    the gap, because with :math:`a = -\mathrm{Re}\,A`

    .. math::
        |\bar B| = |B|\,\Bigl|\int_0^s e^{A \tau}\,d\tau\Bigr| \le |B|\,\frac{1 - e^{-a s}}{a}
        \quad\Rightarrow\quad |\bar A + \bar B \tilde u| \le e^{-a s} + \beta |\bar B| \le 1.

    Parameters
    ----------
    A, B : Tensor (H, N), complex
        Continuous-time diagonal system, Re A <= 0, and input vector.

    Returns
    -------
    Tensor (H, N)
        Not negative; differentiable.
    """
    decay = (-A.real).clamp(min=0)
    return decay / B.abs().clamp(min=_SMALLEST)


def bounded_input(u: Tensor, bound: Tensor) -> Tensor:
    """u clipped to [-bound, bound], with gradients for both."""
    return torch.where(u > bound, bound, torch.where(u < -bound, -bound, u))
