r"""Liquid-S4 over a diagonal plus low-rank system, over chunks of time.

The kernels K-B and P-B and the chain of orders are linear in the state: one scan of the system with another
drive, respectively one for each order, driven by the states of the order below.

The full recurrence is not, because :math:`\bar A_k x + w_k \circ x` is shortened to the length of x. It is
solved by Newton's method for all samples of a chunk at once. The derivative of a step is diagonal plus
low-rank again, of one rank more, so that a sweep is a scan of `low_rank_states`. Where no step shortens,
which is nearly everywhere for inputs of unit variance, the first sweep is the solution. In any case a sweep
makes right at least one sample more, so that no chunk takes more sweeps than it has samples, but for one. The
gradient is that of the solution, by the same scan in the other direction.

What a mode might grow within a block, before the others take it away, is limited, as products of it would
lose digits or overflow; the rest of a step is taken from the sweep before.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tsssm.ops.chunked.dplr import (
    block_length,
    low_rank_states,
    samples_of_chunk,
    states_by_matrices,
    steps_of,
)
from tsssm.ops.chunked.linear import over_directions, read
from tsssm.ops.chunked.liquid import correlations
from tsssm.ops.reference.diagonal import project_to_disc
from tsssm.ops.reference.liquid import divided, largest, no_longer, norm

#: d, rows, columns and drive as in `low_rank_states`, the first state, and whether the drive moves the
#: transition too -> all states.
Scan = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, bool], Tensor]

# Natural logarithm of how much a mode by itself may grow within a block.
_GROWTH = 3.0


def liquid_dplr_scan(
    u: Tensor,
    Lambda: Tensor,
    P: Tensor,
    Q: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    step: Tensor,
    dt: Tensor | None,
    start: Tensor | None,
    kernel: str,
    order: int | None,
    alpha: float,
    reverse: bool,
    kernel_of_states: Scan | None = None,
) -> tuple[Tensor, Tensor]:
    """`tsssm.ops.reference.liquid_dplr_scan`; a compiled kernel, if given, goes from state to state."""
    scan = low_rank_states if alpha >= 0.5 else states_by_matrices
    if kernel_of_states is not None:
        scan = partial(_recurrence, kernel_of_states, False)

    def chunk(x: Tensor, C: Tensor, u: Tensor, dt: Tensor | None) -> tuple[Tensor, Tensor]:
        d, rows, columns, B_bar = steps_of(dt, Lambda, P, Q, B, step, alpha)
        w = B_bar * u[..., None]
        if kernel != "exact":
            z, history = correlations(w, x[:, 1:], dt)
            xs = scan(d, rows, columns, w + z if kernel == "kb" else w, x[:, 0])
            seen = xs if kernel == "kb" else xs + z
            return read(C, seen), torch.cat([xs[:, -1:], history], dim=1)
        if order is None:
            xs = _recurrence(kernel_of_states or _by_sweeps, True, d, rows, columns, w, x[:, 0])
            return read(C, xs), xs[:, -1:]
        coupling, drive, ends = project_to_disc(w), w, []
        seen = torch.zeros_like(w)
        for before in x.unbind(1):
            xs = scan(d, rows, columns, drive, before)
            seen = seen + xs
            ends.append(xs[:, -1])
            drive = coupling * torch.cat([before[:, None], xs[:, :-1]], dim=1)
        return read(C, seen), torch.stack(ends, dim=1)

    batch, _, channels = u.shape
    modes = Lambda.shape[1]
    zero = C.new_zeros(batch, order or 1, channels, modes) if start is None else start.transpose(0, 1)
    length = samples_of_chunk(batch, channels, modes, 1.0 if kernel == "exact" and order is None else alpha)
    y, end = over_directions(chunk, (u,), (dt,), C, D, zero, reverse, length)
    return y, end.transpose(0, 1)


def _applied(d: Tensor, rows: Tensor, columns: Tensor, x: Tensor) -> Tensor:
    """The linear part of a step of each state (batch, T, H, N)."""
    return d * x - (columns * (rows * x[..., None, :]).real.sum(-1, keepdim=True)).sum(-2)


def _step(d: Tensor, rows: Tensor, columns: Tensor, w: Tensor, x: Tensor) -> Tensor:
    """A step of the full recurrence from each state (batch, T, H, N)."""
    return no_longer(x, lambda x: _applied(d + w, rows, columns, x)) + w


class _Recurrence(torch.autograd.Function):
    """All states (batch, T, H, N) from the one before, by a scan that has no gradient of its own."""

    @staticmethod
    def forward(
        ctx: Any, scan: Scan, liquid: bool, d: Tensor, rows: Tensor, columns: Tensor, w: Tensor, x: Tensor
    ) -> Tensor:
        xs = scan(d, rows, columns, w, x, liquid)
        ctx.scan, ctx.liquid = scan, liquid
        ctx.save_for_backward(d, rows, columns, w, x, xs)
        return xs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        d, rows, columns, w, x, xs = ctx.saved_tensors
        slope = (d, rows, columns)
        if ctx.liquid:
            slope = _derivative(d, rows, columns, w, _shifted(x, xs))
        # The derivative by each state comes from that by the next one, through its step transposed.
        D, seen, fed = (t.conj().flip(1).roll(1, 1) for t in (slope[0], slope[2], slope[1]))
        adjoint = ctx.scan(D, seen, fed, upstream.flip(1), torch.zeros_like(x), False).flip(1)
        with torch.enable_grad():
            d, rows, columns, w, x = (t.detach().requires_grad_() for t in (d, rows, columns, w, x))
            before = _shifted(x, xs)
            if ctx.liquid:
                value = _step(d, rows, columns, w, before)
            else:
                value = _applied(d, rows, columns, before) + w
        return None, None, *torch.autograd.grad(value, (d, rows, columns, w, x), adjoint)


def _recurrence(scan: Scan, liquid: bool, *operands: Tensor) -> Tensor:
    return _Recurrence.apply(scan, liquid, *operands)


def _shifted(x: Tensor, xs: Tensor) -> Tensor:
    """The state before each sample."""
    return torch.cat([x[:, None], xs[:, :-1]], dim=1)


def _derivative(
    d: Tensor, rows: Tensor, columns: Tensor, w: Tensor, x: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    r"""That of a step by the state x, diagonal, rows and columns as in `low_rank_states`.

    With :math:`v = M x`, where :math:`|v| > |x|`, the step is :math:`|x| v / |v|`, and moves by
    :math:`f M \delta + \hat v\,(\hat x - f M^T \hat v)^T \delta` with :math:`f = |x| / |v|`.
    """
    v = _applied(d + w, rows, columns, divided(x, largest(x)))
    length, limit = norm(v), norm(divided(x, largest(x)))
    longer = length > limit
    f = torch.where(longer, limit, 1) / torch.where(longer, length, 1)
    direction = divided(v, torch.where(longer, length, 1))
    own = divided(divided(x, largest(x)), torch.where(longer, limit, 1))
    back = _applied((d + w).conj(), columns.conj(), rows.conj(), direction)
    turned = torch.where(longer, f * back - own, 0).conj()
    shape = (*x.shape[:3], rows.shape[-2], x.shape[-1])
    return (
        f * (d + w),
        torch.cat([rows.expand(shape), turned[..., None, :]], dim=-2),
        torch.cat([f[..., None] * columns, torch.where(longer, direction, 0)[..., None, :]], dim=-2),
    )


def _by_sweeps(d: Tensor, rows: Tensor, columns: Tensor, drive: Tensor, x: Tensor, liquid: bool) -> Tensor:
    return (_solved if liquid else _linear)(d, rows, columns, drive, x)


def _solved(d: Tensor, rows: Tensor, columns: Tensor, w: Tensor, x: Tensor) -> Tensor:
    """The states of `_Recurrence`, by sweeps.

    A state stays as it is once it has settled, and those before it, so that it depends on no later input and
    on no other series.
    """
    slope = (d + w, rows, columns)
    before, value = torch.zeros_like(w), w
    found, settled = w, _Settled(w)
    # A sweep is right up to the first sample whose step it did not know; the last one finds that out.
    for _ in range(w.shape[1] + 1):
        kept = (_limited(slope[0]), *slope[1:])
        xs = low_rank_states(*kept, value - _applied(*kept, before), x).nan_to_num(0, 0, 0)
        xs = torch.where(settled.samples, found, xs)
        before = _shifted(x, xs)
        value = _step(d, rows, columns, w, before)
        found = torch.where(settled.samples, found, value)
        if settled.by(value - xs, value):
            break
        slope = _derivative(d, rows, columns, w, before)
    return found


def _linear(d: Tensor, rows: Tensor, columns: Tensor, drive: Tensor, x: Tensor) -> Tensor:
    """`low_rank_states` of modes that may grow, by sweeps."""
    limited = _limited(d)
    xs = low_rank_states(limited, rows, columns, drive, x)
    settled = _Settled(xs)
    for _ in range(drive.shape[1]):
        rest = drive + _applied(d, rows, columns, _shifted(x, xs)) - xs
        if settled.by(rest, xs):
            break
        xs = xs + low_rank_states(limited, rows, columns, rest, torch.zeros_like(x))
    return xs


class _Settled:
    """Which samples (batch, T, H, 1) have nothing left but rounding, and none before them either."""

    def __init__(self, xs: Tensor) -> None:
        self.samples = torch.zeros_like(xs[..., :1], dtype=torch.bool)
        self.last = torch.full_like(xs[..., :1].real, torch.inf)

    def by(self, rest: Tensor, xs: Tensor) -> bool:
        """Whether all have, by what is left of the states; this waits for a device."""
        error, size = (t.abs().amax(-1, keepdim=True).cummax(1).values for t in (rest, xs))
        error = error / torch.where(size > 0, size, 1)
        epsilon = torch.finfo(error.dtype).eps
        small = (error < 8 * epsilon) | ((error < 32 * epsilon) & (error > 0.5 * self.last))
        self.samples = (small | self.samples).cummin(1).values
        self.last = error
        return bool(self.samples.all())


def _limited(d: Tensor) -> Tensor:
    """The diagonal (batch, T, H, N), of which no mode grows by more than is allowed within a block."""
    length = d.shape[1]
    growth = torch.log(d.abs().clamp(min=1))
    block = block_length(length)
    filled = torch.nn.functional.pad(growth, (0, 0, 0, 0, 0, -length % block))
    total = filled.unflatten(1, (-1, block)).cumsum(2)
    earlier = (total - filled.unflatten(1, (-1, block))).flatten(1, 2)[:, :length]
    return d * torch.exp(torch.minimum(growth, (_GROWTH - earlier).clamp(min=0)) - growth)
