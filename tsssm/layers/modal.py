"""The parameters that layers with complex modes share: A by its eigenvalues, B, C, D and the timescales."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from tsssm import hippo
from tsssm.layers.base import SSMLayer, default_complex, log_uniform_steps
from tsssm.ops import causal_conv


class _RealPart(NamedTuple):
    """A map from an unconstrained number to a positive one, minus which is the real part of an eigenvalue."""

    positive: Callable[[Tensor], Tensor]
    inverse: Callable[[Tensor], Tensor]


#: Ways to keep the real part of A negative.
REAL_PARTS = {
    "exp": _RealPart(torch.exp, torch.log),
    "softplus": _RealPart(F.softplus, lambda value: value + torch.log(-torch.expm1(-value))),
}


# Least decay that modes start with, in 1 / (unit of time). The normal part of some measures does not decay,
# and the parameters have no value for that.
_LEAST_DECAY = 1e-3


def low_rank_system(measure: str, d_state: int) -> tuple[NDArray, NDArray, NDArray]:
    """Lambda (N/2,), B (N/2,) and P (rank, N/2) of a HiPPO system, one of each conjugate pair.

    Raises
    ------
    ValueError
        If ``measure`` is none of `hippo.MEASURES`, or ``d_state`` is not even and at least 2.
    """
    form = hippo.nplr(measure, d_state)
    if d_state % 2:
        raise ValueError(f"d_state must be even, because the modes come in pairs; got {d_state}.")
    half = hippo.conjugate_half(form)
    Lambda = np.minimum(half.Lambda.real, -_LEAST_DECAY) + 1j * half.Lambda.imag
    return Lambda, half.B, half.P


def low_rank_parameter(P: NDArray, d_model: int) -> nn.Parameter:
    """The factor P (rank, N/2) for each of the channels: (rank, d_model, N/2, 2)."""
    copies = torch.as_tensor(P, dtype=default_complex())[:, None].repeat(1, d_model, 1)
    return nn.Parameter(torch.view_as_real(copies).clone())


class ModalLayer(SSMLayer):
    r"""Base of the layers whose system is stored by one of each pair of conjugate modes.

    Parameters
    ----------
    d_model, d_state, bidirectional
        See `SSMLayer`; ``d_state`` is even.
    eigenvalues, input_vector : ndarray (d_state / 2,), complex
        Initial diagonal of A, with a negative real part, and initial B.
    real_part : {"exp", "softplus"}
        How the real part of A is kept negative: -exp(a) or -log(1 + exp(a)).
    dt_min, dt_max : float
        The timescales Delta start log-uniformly distributed between these, in 1 / (grid step).
    """

    system_names: tuple[str, ...] = ("log_dt", "A_real", "A_imag", "B")

    def __init__(
        self,
        d_model: int,
        d_state: int,
        *,
        bidirectional: bool,
        eigenvalues: NDArray,
        input_vector: NDArray,
        real_part: str,
        dt_min: float,
        dt_max: float,
    ) -> None:
        super().__init__(d_model, d_state, bidirectional=bidirectional)
        if real_part not in REAL_PARTS:
            raise ValueError(
                f"real_part must be one of {', '.join(map(repr, REAL_PARTS))}; got {real_part!r}."
            )
        A = torch.as_tensor(eigenvalues, dtype=default_complex()).repeat(d_model, 1)
        B = torch.as_tensor(input_vector, dtype=default_complex()).repeat(d_model, 1)
        self.real_part = real_part
        self.log_dt = nn.Parameter(log_uniform_steps(d_model, dt_min, dt_max))
        self.A_real = nn.Parameter(REAL_PARTS[real_part].inverse(-A.real))
        self.A_imag = nn.Parameter(A.imag.clone())
        self.B = nn.Parameter(torch.view_as_real(B).clone())
        directions = 2 if bidirectional else 1
        self.C = nn.Parameter(torch.randn(directions, d_model, A.shape[1], 2) * 0.5**0.5)
        self.D = nn.Parameter(torch.randn(d_model))

    def eigenvalues(self) -> Tensor:
        """Diagonal of A (d_model, N/2), complex, one of each conjugate pair."""
        return torch.complex(-REAL_PARTS[self.real_part].positive(self.A_real), self.A_imag)

    def input_vector(self) -> Tensor:
        """B (d_model, N/2), complex."""
        return torch.view_as_complex(self.B)

    def readout(self) -> Tensor:
        """C (directions, 1, d_model, N/2) with y = Re(C x): a stored mode counts for its conjugate too."""
        return 2 * torch.view_as_complex(self.C)[:, None]

    def poles(self) -> Tensor:
        with torch.no_grad():
            Lambda = self.eigenvalues().to(torch.complex128)
            if hasattr(self, "P"):
                # A x = Lambda x - sum_r P_r Re(2 P_r^* x) of the real and the imaginary part of x.
                P = torch.view_as_complex(cast(Tensor, self.P)).to(torch.complex128)
                rows = torch.cat([P.real, P.imag], dim=-1)
                A = -2 * torch.einsum("rhi,rhj->hij", rows, rows)
                blocks = ((Lambda.real, -Lambda.imag), (Lambda.imag, Lambda.real))
                A = A + torch.cat(
                    [torch.cat([*map(torch.diag_embed, row)], dim=-1) for row in blocks], dim=-2
                )
                Lambda = torch.linalg.eigvals(A)
            return torch.exp(self.log_dt.double())[:, None] * Lambda

    def zero_modes(self, batch: int) -> Tensor:
        """The zero state (batch, d_model, N/2), complex."""
        shape = (batch, self.d_model, self.A_imag.shape[1])
        return torch.zeros(shape, dtype=self.D.dtype.to_complex(), device=self.D.device)

    def convolved(self, u: Tensor, kernel: Tensor) -> Tensor:
        """The output on a regular grid from rest, by convolution with kernels (directions, L, d_model)."""
        inputs = u.to(kernel.dtype)
        # Autocast would round products to half precision, which only inputs and outputs may have.
        with torch.autocast(u.device.type, enabled=False):
            y = causal_conv(inputs, kernel[:1])[:, 0] + self.D * inputs
            if self.bidirectional:
                y = y + causal_conv(inputs.flip(1), kernel[1:])[:, 0].flip(1)
        return y.to(u.dtype)
