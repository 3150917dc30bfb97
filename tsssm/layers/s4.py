"""S4: a diagonal plus low-rank state-space model per channel (Gu, Goel, Re, arXiv 2111.00396)."""

from __future__ import annotations

import torch
from torch import Tensor

from tsssm.discretize import gbt_alpha
from tsssm.layers.modal import ModalLayer, low_rank_parameter, low_rank_system
from tsssm.ops import dplr_kernel, dplr_scan
from tsssm.ops.operands import runs_compiled
from tsssm.ops.paths import prefers_convolution


class S4(ModalLayer):
    r"""Structured state-space layer, one system per channel, with N/2 conjugate pairs of modes.

    .. math::
        \dot x = \Lambda x - \sum_r P_r\,2\,\mathrm{Re}(P_r^* x) + B u, \qquad y = 2\,\mathrm{Re}(C x) + D u,

    with :math:`\Lambda` diagonal and its real part kept negative. The matrix of this real system is a normal
    one, which decays, minus :math:`P P^*`: whatever is trained, no state grows.

    Parameters
    ----------
    d_model, d_state, bidirectional
        See `SSMLayer`; ``d_state`` must be even.
    measure : {"legs", "legt", "lagt", "fourier"}
        HiPPO system to start from, in its normal plus low-rank form (2111.00396, theorem 1); `tsssm.hippo`
        says what each remembers. The rank is 2 for "legt" and 1 for the others.
    method : {"bilinear", "backward-euler", "euler"} or float in [0, 1]
        Generalised bilinear transform (2110.13985, eq. 3). The holds have no O(N) step for this matrix.
        Over a long gap modes keep the share :math:`(1 - \alpha) / \alpha` of what they hold: all with
        "bilinear", the paper's rule, and a third with :math:`\alpha = 0.75`, that of a `Backbone`.
    real_part : {"exp", "softplus"}
        Re Lambda = -exp(a), or -log(1 + exp(a)).
    dt_min, dt_max : float
        The timescales Delta start log-uniformly distributed between these, in 1 / (grid step).

    Raises
    ------
    ValueError
        If ``d_state`` is odd, an option is unknown, or ``method`` is no generalised bilinear transform.

    Notes
    -----
    The modes of "legt", "lagt" and "fourier" have no decay of their own; they start with 0.001. That
    multiplies the impulse responses of the HiPPO system by exp(-t / 1000): by 0.999 at the end
    of the window of "legt" and "fourier".

    Trained: Lambda, P, B, Delta (system group) and C, D. Numbers per channel: N each for Lambda, B and C
    (twice for C when bidirectional), N for each rank of P, one for Delta and one for D. The state is (batch,
    d_model, N/2), complex.

    A step of its own for every sample costs O(N), by the Woodbury identity (`tsssm.ops.dplr_scan`). A regular
    grid from rest is a convolution with `kernel` where that is faster and the final state is not asked for.

    The authors' first code differs in two ways. It trains :math:`\Lambda - P Q^*` with a free Q, which can
    become unstable; here Q = P, as in 2202.09729, section 3. And it trains the readout
    :math:`C (I - \bar A^L)` for one length L and one step; here C itself, which serves every length and grid.
    """

    system_names = (*ModalLayer.system_names, "P")

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        bidirectional: bool = False,
        measure: str = "legs",
        method: str | float = "bilinear",
        real_part: str = "exp",
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
    ) -> None:
        alpha = gbt_alpha(method)
        if alpha is None:
            raise ValueError(f"method must be a generalised bilinear transform; got {method!r}.")
        Lambda, B, P = low_rank_system(measure, d_state)
        super().__init__(
            d_model,
            d_state,
            bidirectional=bidirectional,
            eigenvalues=Lambda,
            input_vector=B,
            real_part=real_part,
            dt_min=dt_min,
            dt_max=dt_max,
        )
        self.measure = measure
        self.method = method
        self.alpha = alpha
        self.P = low_rank_parameter(P, d_model)

    def initial_state(self, batch: int) -> Tensor:
        """The zero state (batch, d_model, N/2), complex."""
        return self.zero_modes(batch)

    def kernel(self, length: int) -> Tensor:
        r"""Impulse response on a regular grid: the layer as a convolution, without D.

        Where the scan is compiled it is the scan of an impulse, elsewhere the generating function of
        `tsssm.ops.dplr_kernel`. Both give the same numbers and gradients.

        Parameters
        ----------
        length : int
            Number of samples L, at least 1.

        Returns
        -------
        Tensor (directions, L, d_model)
            Entry l is :math:`2\,\mathrm{Re}(C \bar A^l \bar B)`; the second direction is convolved with the
            reversed sequence.

        Raises
        ------
        ValueError
            If ``length`` is below 1.
        """
        if length < 1:
            raise ValueError(f"length must be at least 1; got {length}.")
        system, readouts = self._system(), self.readout()[:, 0]
        # Autocast would round products to half precision, which only inputs and outputs may have.
        with torch.autocast(self.D.device.type, enabled=False):
            impulse = torch.zeros(1, length, self.d_model, dtype=self.D.dtype, device=self.D.device)
            if not runs_compiled(impulse):
                return dplr_kernel(*system, readouts, self._steps(), length, alpha=self.alpha)
            impulse[:, 0] = 1
            return dplr_scan(impulse, *system, readouts, self._steps(), alpha=self.alpha)[0][0]

    def _system(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Lambda, P, Q and B of `dplr_scan`."""
        P = torch.view_as_complex(self.P)
        return self.eigenvalues(), P, 2 * P, self.input_vector()

    def _steps(self) -> Tensor:
        return torch.exp(self.log_dt)

    def _run(
        self, u: Tensor, dt: Tensor | None, state: Tensor | None, need_state: bool
    ) -> tuple[Tensor, Tensor | None]:
        batch, length, _ = u.shape
        modes = self.d_state // 2
        if state is not None and state.shape != (batch, self.d_model, modes):
            raise ValueError(f"state must be {(batch, self.d_model, modes)}; got {tuple(state.shape)}.")
        at_rest = dt is None and state is None and not need_state
        if at_rest and prefers_convolution("dplr", batch, length, modes, u.device):
            return self.convolved(u, self.kernel(length)), None
        y, state = dplr_scan(
            u,
            *self._system(),
            self.readout(),
            self._steps(),
            dt,
            state,
            D=self.D[None],
            alpha=self.alpha,
        )
        return y.squeeze(1), state
