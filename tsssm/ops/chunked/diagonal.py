"""The diagonal scan over chunks of time."""

from __future__ import annotations

from torch import Tensor

from tsssm.discretize import discretize_diagonal
from tsssm.ops.bounds import bounded_input
from tsssm.ops.chunked.linear import NUMBERS, chunk_length, over_directions, read, states
from tsssm.ops.reference.diagonal import project_to_disc


def diagonal_scan(
    u: Tensor,
    u_prev: Tensor | None,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    step: Tensor,
    dt: Tensor | None,
    bound: Tensor | None,
    x0: Tensor | None,
    method: str | float,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """`tsssm.ops.reference.diagonal_scan`; no transition depends on the state, with a liquid term or not."""

    def chunk(
        x: Tensor, C: Tensor, u: Tensor, u_prev: Tensor | None, dt: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        s = step if dt is None else dt[..., None] * step
        transition, B_bar, B_prev = discretize_diagonal(A, B, s[..., None], method)
        drive = B_bar * u[..., None]
        if B_prev is not None and u_prev is not None:
            drive = drive + B_prev * u_prev[..., None]
        if bound is not None:
            transition = transition + B_bar * bounded_input(u[..., None], bound)
            if method != "zoh":
                transition = project_to_disc(transition)
        elif dt is None:
            transition = transition.expand(1, u.shape[1], *A.shape)
        xs = states(NUMBERS, transition, drive, x)
        return read(C, xs), xs[:, -1]

    start = A.new_zeros(u.shape[0], *A.shape) if x0 is None else x0
    length = chunk_length(u.shape[0], *A.shape)
    return over_directions(chunk, (u,), (u_prev, dt), C, D, start, reverse, length)
