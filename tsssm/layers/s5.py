"""S5: one diagonal state-space model for all channels (Smith, Warrington, Linderman, arXiv 2208.04933)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tsssm import hippo
from tsssm.discretize import gbt_alpha
from tsssm.layers._shared import SharedStateLayer
from tsssm.layers.base import check_sizes, default_complex, log_uniform_steps


class S5(SharedStateLayer):
    r"""State-space layer with many inputs and many outputs: the channels share one state.

    .. math::
        \dot x = \Lambda x + B u, \qquad y = 2\,\mathrm{Re}(C x) + D u,

    (2208.04933, section 3) with u and y of H = ``d_model`` channels and x of P = J N / 2 complex modes, one
    of each conjugate pair: the eigenvalues of J = ``n_blocks`` copies of the normal part of HiPPO-LegS of
    order N = ``d_state``. Mode p is discretised with the step :math:`\Delta_p\,\delta_k`.

    Parameters
    ----------
    d_model, bidirectional
        See `SSMLayer`.
    d_state : int
        Order N of each block, even. The state of the layer, which all channels share, has J N real
        dimensions.
    n_blocks : int
        Blocks J of the initial system.
    method : {"zoh", "foh", "bilinear", "backward-euler", "euler"} or float in [0, 1]
        Discretisation.
    dt_min, dt_max : float
        The timescales Delta start log-uniformly distributed between these, in 1 / (grid step).

    Raises
    ------
    ValueError
        If an argument is not one of those above.

    Notes
    -----
    Trained: Lambda (P,), Delta (P,) and B (P, H), the system group; C (directions, H, P) and D (H,). Numbers:
    3 P for Lambda and Delta, 2 P H for B, 2 P H for C (twice when bidirectional), H for D. u and y are
    (batch, L, H). The state is a `ScanState` of x (batch, P), complex, and the last input u (batch, H).

    B and C start as real normal matrices in HiPPO's coordinates, of variance 1 / H and 1 / (J N), turned into
    the modes by the unitary V of each block: :math:`V^* B` and :math:`C V`. The initial layer is therefore
    a real system, and remains one, whatever is learned, because each mode stands for its conjugate too.

    Different from the authors' code:

    - :math:`\mathrm{Re}\,\Lambda = -e^a < 0`. Theirs is free, or clipped by an option.
    - A step for every sample, in both directions, where the authors rescale Delta for a whole data set; and
      calls take and return the state.
    - C starts from a real matrix. Theirs is drawn complex before it is turned, so that it reads no real
      state. B has the variance 1 / H of a layer with H inputs; theirs, drawn with the state size in place of
      H, makes the state grow with the number of channels.
    - First-order hold and every generalised bilinear transform beside zero-order hold and bilinear. The
      input coefficient of the holds does not divide by Lambda, which may approach zero.
    """

    system_names = ("log_dt", "A_real", "A_imag", "B")

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        bidirectional: bool = False,
        n_blocks: int = 1,
        method: str | float = "zoh",
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
    ) -> None:
        gbt_alpha(method)  # raises if it is unknown
        super().__init__(d_model, d_state, bidirectional=bidirectional)
        check_sizes(n_blocks=n_blocks)
        H, N, J = self.d_model, self.d_state, int(n_blocks)
        if N % 2:
            raise ValueError(f"d_state must be even, because a conjugate pair takes two dimensions; got {N}.")
        self.n_blocks = J
        self.method = method
        block = hippo.conjugate_half(hippo.nplr("legs", N))
        Lambda = torch.as_tensor(block.Lambda, dtype=default_complex()).repeat(J)
        V = torch.as_tensor(block.V, dtype=default_complex())
        B = torch.randn(J, N, H) / H**0.5
        C = torch.randn(2 if bidirectional else 1, H, J, N) / (J * N) ** 0.5
        self.log_dt = nn.Parameter(log_uniform_steps(len(Lambda), dt_min, dt_max))
        self.A_real = nn.Parameter(torch.log(-Lambda.real))
        self.A_imag = nn.Parameter(Lambda.imag.clone())
        self.B = nn.Parameter(torch.view_as_real((V.mH @ B.to(V.dtype)).flatten(0, 1)).clone())
        self.C = nn.Parameter(torch.view_as_real((C.to(V.dtype) @ V).flatten(2)).clone())
        self.D = nn.Parameter(torch.randn(H))

    def eigenvalues(self) -> Tensor:
        """Diagonal Lambda (P,), complex, one of each conjugate pair."""
        return torch.complex(-torch.exp(self.A_real), self.A_imag)

    def inputs(self) -> Tensor:
        return self.B.movedim(-1, 0)

    def outputs(self) -> tuple[Tensor, Tensor]:
        one = torch.ones_like(torch.view_as_complex(self.B)[:, 0])
        # 2 Re(C x) = Re(C) 2 Re(x) + Im(C) 2 Re(i x)
        return 2 * torch.stack([one, 1j * one]), self.C.movedim(-1, 1)
