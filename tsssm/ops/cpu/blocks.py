"""What the passes do for a block of W channels besides the recurrence: gather, copy, fill, collect."""

from __future__ import annotations

from typing import Any

from tsssm.ops.cpu.compiling import inline, maker, routine
from tsssm.ops.cpu.memory import zeros
from tsssm.ops.cpu.rows import fill, pull_back
from tsssm.ops.cpu.simd import load, splat, store

# Samples of a chunk: what a mode needs of it fits the first-level cache.
CHUNK = 32
# An eigenvalue below this is an integrator: the difference is far below rounding, and 1 / |A|^2 stays finite
# in float32.
_SLOWEST = 1e-18


@maker
def gather_system(A: Any, B: Any, step: Any, h0: int, width: int) -> Any:
    """(A, B) of a block as flat registers: Re A, Im A, Re B, Im B of each mode, and the steps."""
    channels, modes = A.shape[0], A.shape[1]
    system = zeros((modes, 4, width), A)
    system[:, 0] = -1.0  # lanes without a channel: any stable system will do
    steps = zeros((width,), A)
    steps[:] = 1.0
    for w in range(min(width, channels - h0)):
        steps[w] = step[h0 + w]
        for n in range(modes):
            system[n, 0, w] = A[h0 + w, n, 0]
            system[n, 1, w] = A[h0 + w, n, 1]
            if max(abs(A[h0 + w, n, 0]), abs(A[h0 + w, n, 1])) < _SLOWEST:
                system[n, 0, w] = -_SLOWEST
            system[n, 2, w] = B[h0 + w, n, 0]
            system[n, 3, w] = B[h0 + w, n, 1]
    return system, steps


@maker
def gather_readout(C: Any, h0: int, width: int) -> Any:
    """Readouts (M, N, 2, W) of a block."""
    readouts, channels, modes = C.shape[0], C.shape[1], C.shape[2]
    out = zeros((readouts, modes, 2, width), C)
    for m in range(readouts):
        for w in range(min(width, channels - h0)):
            for n in range(modes):
                out[m, n, 0, w] = C[m, h0 + w, n, 0]
                out[m, n, 1, w] = C[m, h0 + w, n, 1]
    return out


@maker
def gather_feedthrough(D: Any, readouts: int, h0: int, width: int) -> Any:
    """Feedthrough (M, W) of a block; zero if there is none."""
    out = zeros((readouts, width), D)
    for m in range(D.shape[0]):
        for w in range(min(width, D.shape[1] - h0)):
            out[m, w] = D[m, h0 + w]
    return out


@inline
def load_mode(system: Any, n: int, width: int) -> Any:
    """(A, B) of one mode as four registers."""
    at = 4 * n * width
    return (
        load(system, at),
        load(system, at + width),
        load(system, at + 2 * width),
        load(system, at + 3 * width),
    )


@routine
def fill_table(
    rows: Any,
    plane: int,
    gaps: Any,
    system: Any,
    steps: Any,
    width: int,
    kind: int,
    alpha: float,
    gradient: bool,
) -> None:
    for n in range(system.shape[0]):
        for r in range(gaps.size):
            s = load(steps, 0) * splat(gaps[r], steps)
            fill(
                rows,
                plane,
                (n * gaps.size + r) * width,
                width,
                kind,
                alpha,
                gradient,
                load_mode(system, n, width),
                s,
            )


@routine
def read(source: Any, b: int, h0: int, span: Any, out: Any, offset: int, width: int) -> None:
    """Copy a chunk of (batch, L, H) into a buffer, in the order of the scan.

    ``span`` is where the chunk starts in that order, its length, and whether the order is backwards.
    """
    start, count, backwards = span
    length, channels = source.shape[1], source.shape[2]
    lanes = min(width, channels - h0)
    for k in range(count):
        t = length - 1 - start - k if backwards else start + k
        if lanes == width:
            store(out, offset + k * width, load(source, (b * length + t) * channels + h0))
        else:
            for w in range(lanes):
                out[offset + k * width + w] = source[b, t, h0 + w]


@routine
def write(target: Any, b: int, h0: int, span: Any, values: Any, offset: int, width: int) -> None:
    """The way back of `read`."""
    start, count, backwards = span
    length, channels = target.shape[1], target.shape[2]
    lanes = min(width, channels - h0)
    for k in range(count):
        t = length - 1 - start - k if backwards else start + k
        if lanes == width:
            store(target, (b * length + t) * channels + h0, load(values, offset + k * width))
        else:
            for w in range(lanes):
                target[b, t, h0 + w] = values[offset + k * width + w]


@routine
def feed_through(u: Any, D: Any, m: int, y: Any, offset: int, count: int, width: int) -> None:
    """Write D u of a chunk to ``y`` from flat position ``offset`` on."""
    feedthrough = load(D, m * width)
    for k in range(count):
        store(y, offset + k * width, feedthrough * load(u, k * width))


@routine
def feed_through_adjoint(
    u: Any, gy: Any, offset: int, D: Any, gD: Any, m: int, gu: Any, count: int, width: int
) -> None:
    """Adjoint of `feed_through`: adds to ``gD`` and ``gu``."""
    feedthrough, total = load(D, m * width), load(gD, m * width)
    for k in range(count):
        g = load(gy, offset + k * width)
        total = total + g * load(u, k * width)
        store(gu, k * width, load(gu, k * width) + feedthrough * g)
    store(gD, m * width, total)


@routine
def load_state(x: Any, b: int, h0: int, width: int, state: Any) -> None:
    """Copy the states (batch, H, N, 2) of one series to registers (N, 2, W)."""
    for n in range(x.shape[2]):
        for w in range(min(width, x.shape[1] - h0)):
            state[n, 0, w] = x[b, h0 + w, n, 0]
            state[n, 1, w] = x[b, h0 + w, n, 1]


@routine
def store_state(x: Any, b: int, h0: int, width: int, state: Any) -> None:
    """The way back of `load_state`."""
    for n in range(x.shape[2]):
        for w in range(min(width, x.shape[1] - h0)):
            x[b, h0 + w, n, 0] = state[n, 0, w]
            x[b, h0 + w, n, 1] = state[n, 1, w]


@inline
def fill_chunk(
    rows: Any,
    plane: int,
    base: int,
    dt: Any,
    span: Any,
    steps: Any,
    width: int,
    kind: int,
    alpha: float,
    gradient: bool,
    mode: Any,
) -> None:
    """Rows of one mode from ``base`` on for the samples of a chunk, whose gaps are in ``dt`` (L,)."""
    start, count, backwards = span
    for k in range(count):
        gap = dt[dt.size - 1 - start - k if backwards else start + k]
        s = load(steps, 0) * splat(gap, steps)
        fill(rows, plane, base + k * width, width, kind, alpha, gradient, mode, s)


@inline
def pull_chunk(
    rows: Any,
    grads: Any,
    plane: int,
    dt: Any,
    span: Any,
    steps: Any,
    width: int,
    kind: int,
    mode: Any,
    g_system: Any,
    g_steps: Any,
    n: int,
) -> None:
    """Send the gradients of the rows that `fill_chunk` made to the system."""
    start, count, backwards = span
    for k in range(count):
        gap = dt[dt.size - 1 - start - k if backwards else start + k]
        _collect(rows, grads, plane, k * width, kind, mode, steps, gap, g_system, g_steps, n, width)


@routine
def collect_table(
    rows: Any,
    grads: Any,
    plane: int,
    gaps: Any,
    system: Any,
    steps: Any,
    width: int,
    kind: int,
    g_system: Any,
    g_steps: Any,
) -> None:
    """Send the gradients of the rows that `fill_table` made to the system."""
    for n in range(system.shape[0]):
        mode = load_mode(system, n, width)
        for r in range(gaps.size):
            at = (n * gaps.size + r) * width
            _collect(rows, grads, plane, at, kind, mode, steps, gaps[r], g_system, g_steps, n, width)


@inline
def _collect(
    rows: Any,
    grads: Any,
    plane: int,
    at: int,
    kind: int,
    mode: Any,
    steps: Any,
    gap: float,
    g_system: Any,
    g_steps: Any,
    n: int,
    width: int,
) -> None:
    """Send the gradients of one row to the system and clear them."""
    delta = splat(gap, steps)
    glr, gli, gbr, gbi, gs = pull_back(rows, grads, plane, at, kind, mode, load(steps, 0) * delta)
    to = 4 * n * width
    store(g_system, to, load(g_system, to) + glr)
    store(g_system, to + width, load(g_system, to + width) + gli)
    store(g_system, to + 2 * width, load(g_system, to + 2 * width) + gbr)
    store(g_system, to + 3 * width, load(g_system, to + 3 * width) + gbi)
    store(g_steps, 0, load(g_steps, 0) + delta * gs)
