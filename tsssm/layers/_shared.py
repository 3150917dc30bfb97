"""Layers whose channels share one state: all channels drive its modes, and all read them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsssm.layers.base import SSMLayer
from tsssm.ops import ScanState, diagonal_scan
from tsssm.ops.operands import Expected, check
from tsssm.ops.sequence import final_input


class SharedStateLayer(SSMLayer):
    r"""Base of the layers with many inputs, many outputs and P complex modes, one of each conjugate pair.

    .. math::
        \dot x = \Lambda x + B u, \qquad y = \mathrm{Re}(C x) + D u,

    with u and y of H = ``d_model`` channels; mode p is discretised with the step :math:`\Delta_p\,\delta_k`.
    A subclass has the attribute ``method`` and the parameters ``log_dt`` (P,) and ``D`` (H,), and says what
    the system is: ``eigenvalues``, ``inputs`` and ``outputs``. The state is a `ScanState` of x (batch, P),
    complex, and the last input u (batch, H).

    The scan over complex inputs is two scans of `tsssm.ops.diagonal_scan`, which takes real ones: each mode
    is a channel twice, driven by Re(B u) with the input coefficient 1 and by Im(B u) with the coefficient i.
    A real B needs one.
    """

    state_type = ScanState

    method: str | float
    log_dt: nn.Parameter
    D: nn.Parameter

    def eigenvalues(self) -> Tensor:
        """Diagonal Lambda (P,), complex, one of each conjugate pair."""
        raise NotImplementedError

    def inputs(self) -> Tensor:
        """Re B and, unless B is real, Im B: (1 or 2, P, H)."""
        raise NotImplementedError

    def outputs(self) -> tuple[Tensor, Tensor]:
        """Factors f (M, P), complex, and real matrices R (directions, M, H, P): C is the sum of R_m f_m."""
        raise NotImplementedError

    def poles(self) -> Tensor:
        with torch.no_grad():
            return (torch.exp(self.log_dt.double()) * self.eigenvalues())[None]

    def input_matrix(self) -> Tensor:
        """B (P, H), complex."""
        parts = self.inputs()
        return torch.complex(parts[0], parts[1] if len(parts) == 2 else torch.zeros_like(parts[0]))

    def output_matrix(self) -> Tensor:
        """C (directions, H, P), complex, with y = Re(C x): a stored mode counts for its conjugate too."""
        factors, matrices = self.outputs()
        return (matrices * factors[:, None]).sum(1)

    def initial_state(self, batch: int) -> ScanState:
        x = torch.zeros(batch, len(self.log_dt), dtype=self.D.dtype.to_complex(), device=self.D.device)
        return ScanState(x, self.D.new_zeros(batch, self.d_model))

    def _run(
        self, u: Tensor, dt: Tensor | None, state: ScanState | None, need_state: bool
    ) -> tuple[Tensor, ScanState]:
        inputs = u.to(self.D.dtype)
        A, parts = self.eigenvalues(), self.inputs()
        if state is not None:
            expected: Expected = {
                "state.x": (state.x, (u.shape[0], len(A)), A.dtype),
                "state.u": (state.u, (u.shape[0], self.d_model), self.D.dtype),
            }
            check(u, expected)
        # Autocast would round the products with B and C to half precision.
        with torch.autocast(u.device.type, enabled=False):
            B = parts.flatten(0, 1)
            driven = F.linear(inputs, B)
            start = None
            if state is not None:
                # The whole state in the first of the channels of each mode: the scan is linear.
                x = torch.cat([state.x, *[torch.zeros_like(state.x)] * (len(parts) - 1)], dim=1)
                start = ScanState(x[..., None], F.linear(state.u, B))
            factors, matrices = self.outputs()
            forward, end = self._scan(driven, A, factors, dt, start, reverse=False)
            y = self.D * inputs + self._read(forward, matrices[0])
            if self.bidirectional:
                backward, _ = self._scan(driven, A, factors, dt, None, reverse=True)
                y = y + self._read(backward, matrices[1])
            u0 = inputs.new_zeros(u.shape[0], self.d_model) if state is None else state.u
            last = final_input(inputs, u0, dt, reverse=False)
        return y.to(u.dtype), ScanState(end.x.unflatten(1, (len(parts), -1)).sum(1).squeeze(-1), last)

    def _scan(
        self,
        driven: Tensor,
        A: Tensor,
        factors: Tensor,
        dt: Tensor | None,
        start: ScanState | None,
        reverse: bool,
    ) -> tuple[Tensor, ScanState]:
        """Re(f_m x), (batch, M, L, K P), of the parts of x that Re(B u) and, if K = 2, Im(B u) drive."""
        one = torch.ones_like(A)
        copies = driven.shape[-1] // len(A)
        coefficients = torch.cat([one, 1j * one][:copies])
        return diagonal_scan(
            driven,
            A.repeat(copies)[:, None],
            coefficients[:, None],
            factors.repeat(1, copies)[..., None],
            torch.exp(self.log_dt).repeat(copies),
            dt,
            start,
            method=self.method,
            reverse=reverse,
        )

    def _read(self, parts: Tensor, matrices: Tensor) -> Tensor:
        """Re(C x) (batch, L, H), the sum over m of R_m Re(f_m x), summed over the channels of a mode too."""
        batch, readouts, length, modes = parts.shape
        # In the order in which the compiled scan has them in memory, so that nothing is copied.
        rows = parts.transpose(0, 1).flatten(1, 2)
        C = matrices.transpose(1, 2).repeat(1, modes // matrices.shape[-1], 1)
        return torch.bmm(rows, C).sum(0).view(batch, length, self.d_model)
