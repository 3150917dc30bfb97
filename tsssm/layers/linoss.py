"""LinOSS: damped oscillators, driven and read by all channels (arXiv 2410.03943 and 2505.12171)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tsssm import hippo
from tsssm.discretize import gbt_alpha
from tsssm.layers._shared import SharedStateLayer
from tsssm.layers.base import check_sizes, log_uniform_steps


class LinOSS(SharedStateLayer):
    r"""State-space layer of P damped oscillators, which all channels drive and read.

    .. math::
        \ddot q + G\,\dot q + A\,q = A^{1/2} B u, \qquad y = C q + D u,

    (D-LinOSS, 2505.12171, eq. 1) with G and A diagonal: a damping and a stiffness for each position q. They
    are those of an under-damped oscillator of decay a > 0 and frequency :math:`\omega > 0`,

    .. math::
        G = 2 a, \qquad A = a^2 + \omega^2, \qquad
        \lambda = -G/2 + i \sqrt{A - G^2/4} = -a + i \omega,

    so that position and velocity are one complex mode z of a diagonal system with a real input,

    .. math::
        \dot z = \lambda z + B u, \qquad z = A^{-1/2} (\dot q + a q + i \omega q), \qquad
        q = A^{1/2}\,\mathrm{Im}(z) / \omega.

    Its hold over a step s is exact, :math:`z \to e^{s \lambda} z`, for any s: an oscillator turns by
    :math:`\omega s` and loses what its damping takes away in that time, whether samples are dense or far
    apart.

    Parameters
    ----------
    d_model, bidirectional
        See `SSMLayer`.
    d_state : int
        Real dimensions N of each block, even: a position and a velocity for each of N / 2 oscillators. The
        state of the layer, which all channels share, has J N of them.
    n_blocks : int
        Blocks J that start with the same frequencies.
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
    Oscillator p is discretised with the step :math:`\Delta_p\,\delta_k`. Trained: the logarithms of a,
    :math:`\omega` and Delta, (P,) each, and B (P, H), the system group; C (directions, H, P) and D (H,). That
    is about half of the numbers that `S5` has for as many modes. u and y are (batch, L, H); the state is a
    `ScanState` of z (batch, P), complex, and the last input u (batch, H).

    A block starts with the modes of S4D-LegS (2206.11893, section 4), a = 1/2 and frequencies from below a
    up to N^2 / 3, and with random B and C. The slowest of them keep levels and trends, which the multiples of
    pi of S4D-Lin would not. The factor :math:`A^{1/2}` gives oscillators of all frequencies impulse responses
    of one size, :math:`A^{1/2} e^{-a t} \sin(\omega t) / \omega`.

    Different from the authors' code:

    - *Exact holds and a step for every sample.* Theirs takes one implicit-explicit Euler step per sample, on
      a regular grid alone.
    - *Under-damped by construction.* They project G and A to where the poles of their Euler step are a
      conjugate pair, a region that depends on the step. Here the continuous oscillator is under-damped, and
      comes as close to critical damping as :math:`\omega \to 0` lets it.
    - B and C are real, as in the paper; in the code they are complex, which makes two oscillators of each.
      Positions alone are read, as in theirs. Their B has no factor :math:`A^{1/2}`.
    - Their poles start at random in a ring of the unit disc; here they are those of S4D-LegS, and the
      timescales are random.
    - Two directions if asked, and calls take and return the state.
    """

    system_names = ("log_dt", "log_decay", "log_frequency", "B")

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
        if self.d_state % 2:
            raise ValueError(
                "d_state must be even, because an oscillator has a position and a velocity; "
                f"got {self.d_state}."
            )
        self.n_blocks = int(n_blocks)
        self.method = method
        modes, _ = hippo.diagonal("legs", self.d_state)
        frequencies = torch.as_tensor(modes.imag, dtype=torch.get_default_dtype()).repeat(self.n_blocks)
        H, P = self.d_model, len(frequencies)
        self.log_dt = nn.Parameter(log_uniform_steps(P, dt_min, dt_max))
        self.log_decay = nn.Parameter(torch.full((P,), math.log(0.5)))
        self.log_frequency = nn.Parameter(torch.log(frequencies))
        self.B = nn.Parameter(torch.randn(P, H) / H**0.5)
        self.C = nn.Parameter(torch.randn(2 if bidirectional else 1, H, P) * (2 / P) ** 0.5)
        self.D = nn.Parameter(torch.randn(H))

    def eigenvalues(self) -> Tensor:
        """Lambda = -a + i omega of each oscillator, (P,), complex."""
        return torch.complex(-torch.exp(self.log_decay), torch.exp(self.log_frequency))

    def inputs(self) -> Tensor:
        return self.B[None]

    def outputs(self) -> tuple[Tensor, Tensor]:
        eigenvalues = self.eigenvalues()
        # q = Re(f z) with f = -i |lambda| / omega, and |lambda| is the square root of A.
        gain = eigenvalues.abs() / eigenvalues.imag
        return torch.complex(torch.zeros_like(gain), -gain)[None], self.C[:, None]
