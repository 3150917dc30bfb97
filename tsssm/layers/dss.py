"""DSS: a diagonal state-space model per channel with B = 1 (Gupta, Gu, Berant, arXiv 2203.14343)."""

from __future__ import annotations

import math
from numbers import Real

import torch
from torch import Tensor

from tsssm.discretize import phi1
from tsssm.layers.s4d import S4D

FORMS = ("exp", "softmax")

# Of the regularised reciprocal; the value of the authors' code.
_EPSILON = 1e-7


class DSS(S4D):
    r"""Diagonal state space, in the exponential or in the softmax form.

    .. math::
        \dot x = \Lambda x + \mathbf 1 u, \qquad y = 2\,\mathrm{Re}(C x) + D u,

    one system per channel. By zero-order hold its kernel on a regular grid is that of 2203.14343, Proposition
    1: with z = Delta Lambda and the trained weights w,

    .. math::
        \text{exp:}\quad & K_l = 2\,\mathrm{Re} \sum_n w_n\, \frac{e^{z_n} - 1}{\Lambda_n}\, e^{z_n l},
        && C = w, \\
        \text{softmax:}\quad & K_l = 2\,\mathrm{Re} \sum_n \frac{w_n}{\Lambda_n}\,
        \frac{e^{z_n l}}{\sum_{r < T} e^{z_n r}}
        = 2\,\mathrm{Re} \sum_n \frac{w_n}{e^{z_n T} - 1}\, \frac{e^{z_n} - 1}{\Lambda_n}\, e^{z_n l},
        && C = \frac{w}{e^{z T} - 1}.

    The softmax over the T samples of the horizon is a geometric sum, so that this form too is a state-space
    model: the other one with another readout. Every view of the layer (sequence, step, kernel) and any step
    for every sample follow from that.

    Parameters
    ----------
    d_model, d_state, bidirectional
        See `SSMLayer`; ``d_state`` must be even.
    form : {"exp", "softmax"}
        The readout, see above.
    horizon : float
        T of the softmax form, in grid steps; the other form does not use it. The default is about the
        longest timescale that the layer starts with, 1 / ``dt_min``.
    method : {"zoh", "foh", "bilinear", "backward-euler", "euler"} or float in [0, 1]
        Discretisation; the paper's is zero-order hold.
    dt_min, dt_max : float
        The timescales Delta start log-uniformly distributed between these, in 1 / (grid step).

    Raises
    ------
    ValueError
        If an argument is not one of those above.

    Notes
    -----
    Trained: Lambda and Delta (system group), w and D. Numbers per channel: N each for Lambda and w (twice for
    w when bidirectional), one for Delta and one for D. Lambda starts with the eigenvalues of the normal part
    of HiPPO-LegS ("skew-HiPPO"), and w is standard normal. u and y are (batch, L, d_model), the state is that
    of `S4D`.

    Different from the authors' code:

    - The horizon is an option, not the length of the sequence at hand: a readout that depends on the length
      would change with padding, and a model that steps has no length.
    - :math:`\mathrm{Re}\,\Lambda = -e^a < 0` in both forms. The authors let the softmax form grow, which
      no recurrence over an unknown length can normalise.
    - Each channel has its own Lambda, as in S4D; theirs share one. Modes count for their conjugates, hence
      the factor 2, which they leave to w.
    - The denominator is computed as :math:`zT \varphi_1(zT)`, which does not cancel near 0, and only it,
      without Lambda, is inverted by their regularised reciprocal :math:`\bar x / (|x|^2 + \epsilon)`,
      :math:`\epsilon = 10^{-7}`: it vanishes where :math:`zT` approaches a multiple of :math:`2 \pi i`.
    - A step for every sample. The readout stays as it is, because T is a time and not a number of samples.
    """

    system_names = ("log_dt", "A_real", "A_imag")

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        bidirectional: bool = False,
        form: str = "exp",
        horizon: float = 1024,
        method: str | float = "zoh",
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
    ) -> None:
        if form not in FORMS:
            raise ValueError(f"form must be one of {', '.join(map(repr, FORMS))}; got {form!r}.")
        _check_horizon(horizon)
        super().__init__(
            d_model,
            d_state,
            bidirectional=bidirectional,
            method=method,
            dt_min=dt_min,
            dt_max=dt_max,
        )
        self.form = form
        self.horizon = float(horizon)
        # B = 1 is no parameter here, and no part of a state dict.
        ones = torch.zeros_like(self.B.detach())
        ones[..., 0] = 1
        del self.B
        self.register_buffer("B", ones, persistent=False)

    def readout(self) -> Tensor:
        """C (directions, 1, d_model, N/2) with y = Re(C x), for the form of the layer."""
        weights = super().readout()
        if self.form == "exp":
            return weights
        z = self.horizon * torch.exp(self.log_dt)[:, None] * self.eigenvalues()
        denominator = z * phi1(z)
        squared = denominator.real.square() + denominator.imag.square()
        return weights * (denominator.conj() / (squared + _EPSILON))


def _check_horizon(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < math.inf:
        raise ValueError(f"horizon must be a positive finite number of grid steps; got {value!r}.")
