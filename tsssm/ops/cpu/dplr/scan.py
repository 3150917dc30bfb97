"""`tsssm.ops.reference.dplr_scan` and its adjoint on CPU tensors, in units of the channel's timescale.

Lambda and B (H, N) and P (R, H, N) are multiplied by the timescale; Q is (R, H, N). C (K, M, H, N) and dt
(K, batch, L) are those of each of K directions, of which the second runs opposite to the first and from rest.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tsssm.ops.cpu.allocation import empty, empty_like
from tsssm.ops.cpu.calls import contiguous, joined, place, renewed, run_backward, run_forward, signals
from tsssm.ops.cpu.dplr.passes import Operands, backward_pass, forward_pass
from tsssm.ops.cpu.gaps import own_gaps
from tsssm.ops.cpu.layout import ranges, samples, saved_states
from tsssm.ops.cpu.passes import Times

# Below this alpha a mode on its own can be unstable, |E| > 1, where the coupled system is stable: what it
# would read uncoupled for a chunk is then no number to start from.
_LOWEST_ALPHA_BY_CHUNKS = 0.5

Shape = tuple[int, ...]


def saved_shapes(
    u: Tensor, P: Tensor, C: Tensor, dt: Tensor | None, alpha: float, save: bool
) -> tuple[Shape, Shape, Shape]:
    """Shapes of what is kept for the adjoint.

    States before each chunk, the coupling v of every sample and, on an irregular grid, the inverses of the
    systems that it was found by; nothing unless ``save``.
    """
    rank, directions = P.shape[0], C.shape[0] if save else 0
    inverses = directions if _sample_by_sample(dt, alpha) else 0
    return (
        saved_states(u, directions, 1, C.shape[3]),
        (directions, rank, *u.shape),
        (inverses, rank * rank, *u.shape),
    )


def _sample_by_sample(dt: Tensor | None, alpha: float) -> bool:
    return dt is not None or alpha < _LOWEST_ALPHA_BY_CHUNKS


def _work(u: Tensor, P: Tensor, C: Tensor) -> int:
    directions, readouts, _, modes = C.shape
    return directions * (12 + 2 * readouts + 6 * P.shape[0]) * samples(u) * modes


def _inputs(u: Tensor, system: Any, D: Tensor | None, dt: Tensor | None, alpha: float) -> tuple[Any, ...]:
    """Operands, gaps and alpha as the kernels take them; ``system`` is Lambda, P, Q, B and C, contiguous."""
    if dt is None and _sample_by_sample(dt, alpha):
        dt = u.new_ones((system[-1].shape[0], *u.shape[:2]))
    gaps, index, own = own_gaps(u, dt)
    operands = Operands._make([*(place(t, 0) for t in system), place(D, 2)])
    return operands, Times(gaps, index, 0.0, 0.0, 0.0), own, alpha


def dplr_scan(
    u: Tensor,
    Lambda: Tensor,
    P: Tensor,
    Q: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    dt: Tensor | None,
    x0: Tensor | None,
    alpha: float,
    reverse: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Outputs (batch, M, L, H), final states (batch, H, N) and, if ``save``, what the adjoint needs."""
    u, *system = map(contiguous, (u, Lambda, P, Q, B, C))
    D = None if D is None else contiguous(D)
    y = empty((C.shape[1], *u.shape), u.dtype)
    x = C.new_zeros(u.shape[0], *C.shape[2:]) if x0 is None else renewed(x0)
    saved, v, inverses = (empty(shape, u.dtype) for shape in saved_shapes(u, P, C, dt, alpha, save))
    inputs = _inputs(u, system, D, dt, alpha)
    inputs = (signals(u, y, saved, None), *inputs, (joined(v, 3), joined(inverses, 3)), place(x, 3))
    key = u.dtype, inputs[3] is None
    run_forward(forward_pass, key, (*inputs, (x0 is None, reverse)), ranges(u, _work(u, P, C)))
    return y.transpose(0, 1), x, saved, v, inverses


def dplr_scan_adjoint(
    gy: Tensor,
    gx: Tensor,
    saved: Tensor,
    v: Tensor,
    inverses: Tensor,
    u: Tensor,
    Lambda: Tensor,
    P: Tensor,
    Q: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    dt: Tensor | None,
    alpha: float,
    reverse: bool,
) -> tuple[Tensor, ...]:
    """Gradients of u, Lambda, P, Q, B, C, D and x0 from those of the outputs and of the final states.

    That of an absent D is empty.
    """
    u, gy, saved, v, inverses, *system = map(
        contiguous, (u, gy.transpose(0, 1), saved, v, inverses, Lambda, P, Q, B, C)
    )
    D = None if D is None else contiguous(D)
    gx, gu = renewed(gx), empty_like(u)
    operands, times, own, _ = _inputs(u, system, D, dt, alpha)
    kept = (joined(v, 3), joined(inverses, 3))
    inputs = (signals(u, gy, saved, None, gu), operands, times, own, alpha, kept, place(gx, 3), reverse)
    key, cut = (u.dtype, own is None), ranges(u, 2 * _work(u, P, C))
    *gradients, gD = run_backward(backward_pass, key, inputs, operands, u.dtype, cut)
    return gu, *map(torch.view_as_complex, gradients), gD, gx
