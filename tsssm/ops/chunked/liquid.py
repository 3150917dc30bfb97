"""The truncated recurrence and the kernels of Liquid-S4 over chunks of time."""

from __future__ import annotations

import torch
from torch import Tensor

from tsssm.discretize import discretize_diagonal
from tsssm.ops.bounds import bounded_input
from tsssm.ops.chunked.linear import NUMBERS, POLYNOMIALS, chunk_length, over_directions, read, states
from tsssm.ops.reference.diagonal import project_to_disc
from tsssm.ops.reference.liquid import liquid_term


def liquid_scan(
    u: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    step: Tensor,
    dt: Tensor | None,
    bound: Tensor | None,
    start: Tensor | None,
    kernel: str,
    order: int,
    method: str | float,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """`tsssm.ops.reference.liquid_scan`.

    A step of the chain multiplies by a polynomial in the shift from one order to the next (see
    ``gpu/slots.py``); the correlations of the other kernels need past inputs alone, and no recurrence.
    """

    def chunk(x: Tensor, C: Tensor, u: Tensor, dt: Tensor | None) -> tuple[Tensor, Tensor]:
        s = step if dt is None else dt[..., None] * step
        A_bar, B_bar, _ = discretize_diagonal(A, B, s[..., None], method)
        w = B_bar * u[..., None]
        A_bar = A_bar.expand(w.shape) if dt is not None else A_bar.expand(1, *w.shape[1:])
        if kernel == "exact":
            assert bound is not None  # by the public scan
            coupling = B_bar * bounded_input(u[..., None], bound)
            if method != "zoh":
                coupling = liquid_term(A_bar, coupling)
            none = [torch.zeros_like(w)] * (order - 2)
            transition = torch.stack([A_bar.expand_as(w), coupling, *none], dim=2)
            drive = torch.stack([w, torch.zeros_like(w), *none], dim=2)
            xs = states(POLYNOMIALS, transition, drive, x)
            return read(C, xs.sum(2)), xs[:, -1]
        z, history = correlations(w, x[:, 1:], dt)
        xs = states(NUMBERS, A_bar, w + z if kernel == "kb" else w, x[:, 0])
        seen = xs if kernel == "kb" else xs + z
        return read(C, seen), torch.cat([xs[:, -1:], history], dim=1)

    batch = u.shape[0]
    zero = A.new_zeros(batch, order, *A.shape) if start is None else start.transpose(0, 1)
    length = chunk_length(batch, *A.shape, order if kernel == "exact" else 1)
    y, end = over_directions(chunk, (u,), (dt,), C, D, zero, reverse, length)
    return y, end.transpose(0, 1)


def correlations(w: Tensor, history: Tensor, dt: Tensor | None) -> tuple[Tensor, Tensor]:
    r"""The products z (batch, T, H, N) of each w with its predecessors, and the history after the last.

    The ``history`` (batch, R, H, N) is that of :math:`\pi(w)` before the first sample, newest first. Samples
    of zero gap precede no other sample.
    """
    batch, length = w.shape[:2]
    kept = history.shape[1]
    past = torch.cat([history.flip(1), project_to_disc(w)], dim=1)
    if dt is None:
        earlier = [past[:, kept - i : kept - i + length] for i in range(1, kept + 1)]
        newest = past[:, length:].flip(1)
    else:
        valid = torch.cat([dt.new_ones(batch, kept, dtype=torch.bool), dt > 0], dim=1)
        # Places of those that count, in their order, and how many come before each sample.
        places = torch.argsort(~valid, dim=1, stable=True)
        count = valid.cumsum(1)
        rows = torch.arange(batch, device=w.device)[:, None]
        before = count[:, kept - 1 : -1] if kept else count
        back = range(1, kept + 1)
        earlier = [past[rows, places.gather(1, before - i)] for i in back]
        newest = torch.cat([past[rows, places.gather(1, count[:, -1:] - i)] for i in back], dim=1)
    product = torch.zeros_like(w)
    for factor in reversed(earlier):
        product = factor * (1 + product)
    return w * product, newest
