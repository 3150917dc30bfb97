"""S4D: a diagonal state-space model per channel (Gu, Gupta, Goel, Re, arXiv 2206.11893)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from tsssm import hippo
from tsssm.discretize import discretize_diagonal, gbt_alpha
from tsssm.layers.modal import ModalLayer
from tsssm.ops import ScanState, diagonal_scan, power_sums, vandermonde
from tsssm.ops.paths import prefers_convolution


class S4D(ModalLayer):
    r"""Diagonal state-space layer, one system per channel, with N/2 conjugate pairs of modes.

    .. math::
        \dot x = A x + B u, \qquad y = 2\,\mathrm{Re}(C x) + D u,

    with A diagonal and its real part kept negative, so that every mode decays (2206.11893, section 3). With
    the step s = Delta delta of each sample, zero-order hold makes of it

    .. math::
        x_k = e^{s_k A} x_{k-1} + \frac{e^{s_k A} - 1}{A} B u_k, \qquad y_k = 2\,\mathrm{Re}(C x_k) + D u_k,

    element by element; the other rules are in `tsssm.discretize`. On a regular grid this is the convolution
    with `kernel`.

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

    Raises
    ------
    ValueError
        If an argument is not one of those above.

    Notes
    -----
    A, B and C are (d_model, N/2) complex numbers, one of each conjugate pair, with one C a direction; Delta
    and D are (d_model,). Trained: A, B, Delta (system group) and C, D. Numbers per channel: N each for A, B
    and C (twice for C when bidirectional), one for Delta and one for D. u and y are (batch, L, d_model); the
    state is a `ScanState` of x (batch, d_model, N/2), complex, and the last input u (batch, d_model).

    Different from the authors' code:

    - B is always trained; their short version leaves it out, because on a regular grid it counts only through
      its product with C. But under an optimiser the two are not one parameter: B belongs to the system, which
      trains slowly.
    - A, B and Delta are those of each channel; theirs may be shared by groups of channels.
    - The hold computes :math:`(e^{z} - 1) / z` without the cancellation that a plain difference has at small
      z, and the kernel has no array of all modes at all lags.
    - First-order hold and every generalised bilinear transform, a step for every sample, and calls that take
      and return the state.
    """

    state_type = ScanState

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

    def kernel(self, length: int) -> Tensor:
        r"""The convolution view: the response to an impulse on a regular grid of step 1, without D.

        .. math::
            K_l = 2\,\mathrm{Re} \sum_n C_n \bar A_n^l \bar B_n, \qquad
            y_k = \sum_{l \le k} K_l u_{k-l} + D u_k,

        (2206.11893, section 3.2); first-order hold adds :math:`C_n \bar A_n^{l-1} \bar B'_n` from lag 1 on,
        where the input meets the next sample. The kernel of the second direction acts on the reversed series.

        Parameters
        ----------
        length : int
            Number of lags, at least 1.

        Returns
        -------
        Tensor (directions, length, d_model)

        Raises
        ------
        ValueError
            If ``length`` is below 1.
        """
        step = torch.exp(self.log_dt)[:, None]
        A, alpha = self.eigenvalues(), gbt_alpha(self.method)
        _, now, before = discretize_diagonal(A, self.input_vector(), step, self.method)
        z = step * A
        C = self.readout()[:, 0]
        # Autocast would round products to half precision, which only inputs and outputs may have.
        with torch.autocast(step.device.type, enabled=False):
            if alpha is not None:
                # A bilinear step of two time constants makes A_bar zero, which has no logarithm.
                exact = z.to(torch.complex128)
                bases = (1 + (1 - alpha) * exact) / (1 - alpha * exact)
                return power_sums(C * now, bases, length).transpose(1, 2)
            response = vandermonde(C * now, z, length)
            if before is not None:
                response = response + pad(vandermonde(C * before, z, length)[..., :-1], (1, 0))
        return response.transpose(1, 2)

    def _run(
        self, u: Tensor, dt: Tensor | None, state: ScanState | None, need_state: bool
    ) -> tuple[Tensor, ScanState | None]:
        batch, length, _ = u.shape
        at_rest = dt is None and state is None and not need_state
        if at_rest and prefers_convolution("diagonal", batch, length, self.d_state // 2, u.device):
            return self.convolved(u, self.kernel(length)), None
        y, state = diagonal_scan(
            u,
            self.eigenvalues(),
            self.input_vector(),
            self.readout(),
            torch.exp(self.log_dt),
            dt,
            state,
            D=self.D[None],
            method=self.method,
        )
        return y.squeeze(1), state
