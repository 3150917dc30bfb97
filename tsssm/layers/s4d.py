"""S4D: a diagonal state-space model per channel (Gu, Gupta, Goel, Re, arXiv 2206.11893)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tsssm import hippo
from tsssm.discretize import gbt_alpha
from tsssm.layers.base import SSMLayer, log_uniform_steps
from tsssm.ops import ScanState, diagonal_scan


class S4D(SSMLayer):
    r"""Diagonal state-space layer, one system a channel, with N/2 conjugate pairs of modes.

    .. math::
        \dot x = A x + B u, \qquad y = 2\,\mathrm{Re}(C x) + D u,

    with :math:`A = -\exp(a) + i\,b` diagonal, so that every mode decays.

    Parameters
    ----------
    d_model, d_state, bidirectional
        See `SSMLayer`; ``d_state`` must be even.
    init : {"legs", "lin", "inv"}
        Initial A: the diagonal part of HiPPO-LegS, S4D-Lin or S4D-Inv (2206.11893, section 4).
    method : {"zoh", "foh", "bilinear", "backward-euler", "euler"} or float in [0, 1]
        Discretisation.
    dt_min, dt_max : float
        The timescales Delta start log-uniformly distributed between these, in 1 / (grid step).

    Notes
    -----
    Trained: A, B, Delta (system group) and C, D. Numbers a channel: N each for A, B and C (twice for C
    when bidirectional), one for Delta and one for D. The published
    code leaves B out because it folds into C on a regular grid under a fixed step; with a step for every
    sample it does not, so it stays a parameter here.
    """

    system_names = ("log_A_real", "A_imag", "B", "log_dt")
    liquid = False

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        bidirectional: bool = False,
        init: str = "legs",
        method: str | float = "zoh",
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
    ) -> None:
        super().__init__(d_model, d_state, bidirectional=bidirectional)
        eigenvalues, input_vector = hippo.diagonal(init, d_state)
        A = torch.as_tensor(eigenvalues, dtype=torch.complex64).repeat(d_model, 1)
        B = torch.as_tensor(input_vector, dtype=torch.complex64).repeat(d_model, 1)
        gbt_alpha(method)  # raises if it is unknown
        self.method = method
        self.log_dt = nn.Parameter(log_uniform_steps(d_model, dt_min, dt_max))
        self.log_A_real = nn.Parameter(torch.log(-A.real))
        self.A_imag = nn.Parameter(A.imag.clone())
        self.B = nn.Parameter(torch.view_as_real(B).clone())
        directions = 2 if bidirectional else 1
        self.C = nn.Parameter(torch.randn(directions, d_model, A.shape[1], 2) * 0.5**0.5)
        self.D = nn.Parameter(torch.randn(d_model))

    def initial_state(self, batch: int) -> ScanState:
        shape = (batch, self.d_model, self.A_imag.shape[1])
        x = torch.zeros(shape, dtype=self.D.dtype.to_complex(), device=self.D.device)
        return ScanState(x, self.D.new_zeros(batch, self.d_model))

    def _run(self, u: Tensor, dt: Tensor | None, state: ScanState | None) -> tuple[Tensor, ScanState]:
        # Each stored mode stands for itself and its conjugate.
        C = 2 * torch.view_as_complex(self.C)[:, None]
        y, state = diagonal_scan(
            u,
            torch.complex(-torch.exp(self.log_A_real), self.A_imag),
            torch.view_as_complex(self.B),
            C,
            torch.exp(self.log_dt),
            dt,
            state,
            D=self.D[None],
            method=self.method,
            liquid=self.liquid,
        )
        return y.squeeze(1), state
