"""LSSL with a fixed system: a dense HiPPO matrix per channel timescale (Gu et al., arXiv 2110.13985)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from tsssm import hippo
from tsssm.discretize import discretize_dense, gbt_alpha
from tsssm.layers.base import SSMLayer, check_steps
from tsssm.ops import causal_conv, dplr_scan, krylov, reversed_gaps


class LSSL(SSMLayer):
    r"""Linear state-space layer with A, B and Delta fixed (LSSL-f); the readout C and D are trained.

    .. math:: \dot x = A x + B u, \qquad y = C x + D u,

    with the dense HiPPO matrix A shared by all channels and timescales Delta spread geometrically over
    them. On a regular grid the layer is a convolution with its Krylov kernel; with a step for every
    sample it is a recurrence that solves :math:`I - \alpha s A` by the Woodbury identity on the normal
    plus low-rank form of A, in O(N) a step. Both are the same function.

    Parameters
    ----------
    d_model, d_state, bidirectional
        See `SSMLayer`.
    measure : {"legs", "legt", "lagt"}
        HiPPO measure of A and B.
    method : {"bilinear", "backward-euler", "euler"} or float in [0, 1]
        Generalised bilinear transform (2110.13985, eq. 3). The holds have no O(N) step for a dense A.
    dt_min, dt_max : float
        Smallest and largest timescale Delta, in 1 / (grid step).

    Notes
    -----
    Trained numbers a channel: N for C (twice when bidirectional) and one for D. The state is
    (batch, d_model, N), real, in HiPPO's own coordinates. The system stays in float64 and complex128
    whatever the module is converted to, because its Krylov vectors are powers of a non-normal matrix;
    everything else is computed at the precision of C, in float32 at least, and y has the dtype of u.
    """

    A: Tensor
    B: Tensor
    log_dt: Tensor
    eigenvalues: Tensor
    low_rank: Tensor
    modal_B: Tensor
    basis: Tensor
    weight: Tensor

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        bidirectional: bool = False,
        measure: str = "legs",
        method: str | float = "bilinear",
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
    ) -> None:
        super().__init__(d_model, d_state, bidirectional=bidirectional)
        alpha = gbt_alpha(method)
        if alpha is None:
            raise ValueError(f"method must be a generalised bilinear transform; got {method!r}.")
        check_steps(dt_min, dt_max)
        self.alpha = alpha
        A, B = hippo.transition(measure, d_state)
        form = hippo.nplr(measure, d_state)
        half = (d_state + 1) // 2
        system = {
            "A": A,
            "B": B,
            "eigenvalues": form.Lambda[:half],
            "low_rank": form.P[:, :half],
            "modal_B": form.B[:half],
            "basis": form.V[:, :half],
            "weight": np.where(np.arange(half) < d_state // 2, 2.0, 1.0),
        }
        for name, value in system.items():
            self.register_buffer(name, torch.as_tensor(value))
        steps = torch.logspace(math.log10(dt_min), math.log10(dt_max), d_model, dtype=torch.float64)
        self.register_buffer("log_dt", torch.log(steps))
        directions = 2 if bidirectional else 1
        self.C = nn.Parameter(torch.randn(directions, d_model, d_state) / d_state**0.5)
        self.D = nn.Parameter(torch.randn(d_model))

    def initial_state(self, batch: int) -> Tensor:
        return self.C.new_zeros(batch, self.d_model, self.d_state)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LSSL:
        # A conversion moves the system to another device but leaves its precision alone; ``to(dtype)`` would
        # also drop the imaginary parts.
        system, self._buffers = self._buffers, {}
        super()._apply(fn, recurse)
        device = self.C.device
        self._buffers = {name: value.to(device) for name, value in system.items() if value is not None}
        return self

    def _run(
        self, u: Tensor, dt: Tensor | None, state: Tensor | None, need_state: bool
    ) -> tuple[Tensor, Tensor]:
        shape = (u.shape[0], self.d_model, self.d_state)
        if state is not None and state.shape != shape:
            raise ValueError(f"state must be {shape}; got {tuple(state.shape)}.")
        inputs = u.to(torch.promote_types(self.C.dtype, torch.float32))
        C = self.C.to(inputs.dtype)
        # Autocast would round the kernel to half precision, which only inputs and outputs may have.
        with torch.autocast(u.device.type, enabled=False):
            y, state = self._scan(inputs, dt, state, C[0])
            if self.bidirectional:
                gaps = None if dt is None else reversed_gaps(dt).flip(1)
                y = y + self._scan(inputs.flip(1), gaps, None, C[1])[0].flip(1)
            return (y + self.D * inputs).to(u.dtype), state

    def _scan(self, u: Tensor, dt: Tensor | None, state: Tensor | None, C: Tensor) -> tuple[Tensor, Tensor]:
        if dt is None and state is None:
            vectors = self._krylov(u.shape[1]).to(u.dtype)
            kernel = torch.einsum("hn,hnl->lh", C, vectors)
            return causal_conv(u, kernel[None])[:, 0], torch.einsum("blh,hnl->bhn", u.flip(1), vectors)
        # Unitary coordinates in which A is diagonal plus low rank, one of each conjugate pair.
        complex_type = torch.promote_types(u.dtype, torch.complex64)
        basis = self.basis.to(complex_type)
        low_rank = self.low_rank[:, None].to(complex_type)
        # A pair counts twice, the real eigenvalue of an odd system once.
        weight = self.weight.to(u.dtype)
        y, x = dplr_scan(
            u,
            self.eigenvalues[None].to(complex_type),
            low_rank,
            weight * low_rank,
            self.modal_B[None].to(complex_type),
            (C.to(complex_type) @ (weight * basis))[None],
            torch.exp(self.log_dt).to(u.dtype),
            dt,
            None if state is None else state.to(complex_type) @ basis.conj(),
            alpha=self.alpha,
        )
        return y[:, 0], (x @ (weight * basis).T).real

    @torch.no_grad()
    def _krylov(self, length: int) -> Tensor:
        system = discretize_dense(self.A, self.B, torch.exp(self.log_dt), self.alpha)
        return krylov(system.A_bar, system.B_bar, length)
