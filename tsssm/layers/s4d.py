"""S4D: a diagonal state-space model per channel (Gu, Gupta, Goel, Re, arXiv 2206.11893)."""

from __future__ import annotations

import torch
from torch import Tensor

from tsssm import hippo
from tsssm.discretize import gbt_alpha
from tsssm.layers.modal import ModalLayer
from tsssm.ops import ScanState, diagonal_scan


class S4D(ModalLayer):
    r"""Diagonal state-space layer, one system a channel, with N/2 conjugate pairs of modes.

    .. math::
        \dot x = A x + B u, \qquad y = 2\,\mathrm{Re}(C x) + D u,

    with A diagonal and its real part kept negative, so that every mode decays.

    Parameters
    ----------
    d_model, d_state, bidirectional
        See `SSMLayer`; ``d_state`` must be even.
    init : {"legs", "lin", "inv"}
        Initial A: the diagonal part of HiPPO-LegS, S4D-Lin or S4D-Inv (2206.11893, section 4).
    method : {"zoh", "foh", "bilinear", "backward-euler", "euler"} or float in [0, 1]
        Discretisation.
    real_part : {"exp", "softplus"}
        Re A = -exp(a), or -log(1 + exp(a)).
    dt_min, dt_max : float
        The timescales Delta start log-uniformly distributed between these, in 1 / (grid step).

    Notes
    -----
    Trained: A, B, Delta (system group) and C, D. Numbers a channel: N each for A, B and C (twice for C
    when bidirectional), one for Delta and one for D. The published
    code leaves B out because it folds into C on a regular grid under a fixed step; with a step for every
    sample it does not, so it stays a parameter here.
    """

    liquid = False

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        bidirectional: bool = False,
        init: str = "legs",
        method: str | float = "zoh",
        real_part: str = "exp",
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
    ) -> None:
        gbt_alpha(method)  # raises if it is unknown
        eigenvalues, input_vector = hippo.diagonal(init, d_state)
        super().__init__(
            d_model,
            d_state,
            bidirectional=bidirectional,
            eigenvalues=eigenvalues,
            input_vector=input_vector,
            real_part=real_part,
            dt_min=dt_min,
            dt_max=dt_max,
        )
        self.method = method

    def initial_state(self, batch: int) -> ScanState:
        return ScanState(self.zero_modes(batch), self.D.new_zeros(batch, self.d_model))

    def _run(
        self, u: Tensor, dt: Tensor | None, state: ScanState | None, need_state: bool
    ) -> tuple[Tensor, ScanState]:
        y, state = diagonal_scan(
            u,
            self.eigenvalues(),
            torch.view_as_complex(self.B),
            self.readout(),
            torch.exp(self.log_dt),
            dt,
            state,
            D=self.D[None],
            method=self.method,
            liquid=self.liquid,
        )
        return y.squeeze(1), state
