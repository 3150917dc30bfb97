"""What all passes do for a block of W channels besides the recurrence: gather, copy, read out, scatter.

A chunk of samples stands in buffers in the order of the scan, W numbers a sample, 2 W where they are complex.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tsssm.ops.cpu.compiling import inline, maker, routine
from tsssm.ops.cpu.memory import piece, wipe, zeros
from tsssm.ops.cpu.simd import conj, load, pair, plus, plus_real, splat, store, width_of

# Samples of a chunk: what a mode needs of it fits the first-level cache.
CHUNK = 32
# Modes whose moves are computed together. Those of a block are as many as fill whole groups; the last ones
# may be none of the system's, but stable ones without input.
GROUP = 4
# An eigenvalue below this is an integrator: the difference is far below rounding, and 1 / |A|^2 stays finite
# in float32.
_SLOWEST = 1e-18


class Span(NamedTuple):
    """Where a chunk starts in the order of the scan, its length, and whether that order is backwards."""

    start: Any
    count: Any
    backwards: Any


@inline
def padded(modes: int) -> int:
    """Modes in whole groups."""
    return (modes + GROUP - 1) // GROUP * GROUP


@maker
def gather_system(A: Any, B: Any, step: Any, h0: int) -> Any:
    """(A, B) of a block as flat registers: Re A, Im A, Re B, Im B of each mode, and the steps."""
    channels, modes, width = A.shape[0], A.shape[1], width_of(A)
    count = padded(modes)
    room = zeros(((4 * count + 1) * width,), A)
    system, steps = piece(room, 0, (count, 4, width)), piece(room, 4 * count * width, (width,))
    for n in range(count):  # lanes without a channel: any stable system will do
        store(system, 4 * n * width, splat(-1.0, system))
    store(steps, 0, splat(1.0, steps))
    for w in range(min(width, channels - h0)):
        steps[w] = step[h0 + w]
        for n in range(modes):
            for part in range(2):
                system[n, part, w] = A[h0 + w, n, part]
                system[n, 2 + part, w] = B[h0 + w, n, part]
            if max(abs(A[h0 + w, n, 0]), abs(A[h0 + w, n, 1])) < _SLOWEST:
                system[n, 0, w] = -_SLOWEST
    return system, steps


@routine
def scatter_system(g_system: Any, g_steps: Any, gA: Any, gB: Any, g_step: Any, h0: int) -> None:
    """The way back of `gather_system`."""
    for w in range(min(width_of(gA), gA.shape[0] - h0)):
        g_step[h0 + w] = g_steps[w]
        for n in range(gA.shape[1]):
            for part in range(2):
                gA[h0 + w, n, part] = g_system[n, part, w]
                gB[h0 + w, n, part] = g_system[n, 2 + part, w]


@routine
def gather_readout(C: Any, d: int, h0: int, out: Any) -> None:
    """Readouts (M, N, 2, W) of a direction and block, zero where there is no mode or channel."""
    wipe(out)
    for m in range(C.shape[1]):
        for w in range(min(width_of(C), C.shape[2] - h0)):
            for n in range(C.shape[3]):
                for part in range(2):
                    out[m, n, part, w] = C[d, m, h0 + w, n, part]


@routine
def scatter_readout(g_readout: Any, gC: Any, d: int, h0: int) -> None:
    """The way back of `gather_readout`; clears what it was given."""
    for m in range(gC.shape[1]):
        for w in range(min(width_of(gC), gC.shape[2] - h0)):
            for n in range(gC.shape[3]):
                for part in range(2):
                    gC[d, m, h0 + w, n, part] = g_readout[m, n, part, w]
    wipe(g_readout)


@maker
def gather_rows(values: Any, rows: int, by_channel: bool, h0: int) -> Any:
    """Rows (R, W) of a block from those (r, H) of all channels, or (H, r); zero where there is none."""
    out = zeros((rows, width_of(values)), values)
    channels, given = values.shape if by_channel else (values.shape[1], values.shape[0])
    for r in range(min(rows, given)):
        for w in range(min(width_of(values), channels - h0)):
            out[r, w] = values[h0 + w, r] if by_channel else values[r, h0 + w]
    return out


@routine
def scatter_rows(values: Any, target: Any, by_channel: bool, h0: int) -> None:
    """The way back of `gather_rows`."""
    channels, given = target.shape if by_channel else (target.shape[1], target.shape[0])
    for r in range(given):
        for w in range(min(width_of(target), channels - h0)):
            if by_channel:
                target[h0 + w, r] = values[r, w]
            else:
                target[r, h0 + w] = values[r, w]


@routine
def read(source: Any, b: int, h0: int, span: Any, out: Any, offset: int) -> None:
    """Copy a chunk of series ``b`` of (batch, L, H) into a buffer, in the order of the scan."""
    start, count, backwards = span
    length, channels, width = source.shape[1], source.shape[2], width_of(source)
    lanes = min(width, channels - h0)
    for k in range(count):
        t = length - 1 - start - k if backwards else start + k
        if lanes == width:
            store(out, offset + k * width, load(source, (b * length + t) * channels + h0))
        else:
            for w in range(lanes):
                out[offset + k * width + w] = source[b, t, h0 + w]


@routine
def write(target: Any, b: int, h0: int, span: Any, values: Any, offset: int) -> None:
    """The way back of `read`."""
    start, count, backwards = span
    length, channels, width = target.shape[1], target.shape[2], width_of(target)
    lanes = min(width, channels - h0)
    for k in range(count):
        t = length - 1 - start - k if backwards else start + k
        if lanes == width:
            store(target, (b * length + t) * channels + h0, load(values, offset + k * width))
        else:
            for w in range(lanes):
                target[b, t, h0 + w] = values[offset + k * width + w]


@routine
def feed_through(u: Any, D: Any, m: int, y: Any, offset: int, count: int) -> None:
    """Write D u of a chunk to ``y`` from flat position ``offset`` on."""
    width = width_of(u)
    feedthrough = load(D, m * width)
    for k in range(count):
        store(y, offset + k * width, feedthrough * load(u, k * width))


@routine
def feed_through_adjoint(u: Any, gy: Any, offset: int, D: Any, gD: Any, m: int, gu: Any, count: int) -> None:
    """Adjoint of `feed_through`: adds to ``gD`` and ``gu``."""
    width = width_of(u)
    feedthrough, total = load(D, m * width), load(gD, m * width)
    for k in range(count):
        g = load(gy, offset + k * width)
        total = plus(total, g, load(u, k * width))
        store(gu, k * width, plus(load(gu, k * width), feedthrough, g))
    store(gD, m * width, total)


@routine
def load_state(x: Any, b: int, h0: int, state: Any, q: int) -> None:
    """Copy the states (batch, H, N, 2) of one series to slot ``q`` of registers (slots, N, 2, W)."""
    for n in range(x.shape[2]):
        for w in range(min(width_of(x), x.shape[1] - h0)):
            for part in range(2):
                state[q, n, part, w] = x[b, h0 + w, n, part]


@routine
def store_state(x: Any, b: int, h0: int, state: Any, q: int) -> None:
    """The way back of `load_state`."""
    for n in range(x.shape[2]):
        for w in range(min(width_of(x), x.shape[1] - h0)):
            for part in range(2):
                x[b, h0 + w, n, part] = state[q, n, part, w]


@routine
def read_out(seen: Any, first: int, C: Any, at_c: int, y: Any, offset: int, count: int) -> None:
    """Add Re(C x) of a chunk to ``y`` from ``offset`` on; the x of the chunk stand from ``first`` on."""
    width, c = width_of(C), pair(C, at_c)
    for k in range(count):
        to = offset + k * width
        store(y, to, plus_real(load(y, to), c, pair(seen, first + 2 * k * width)))


@routine
def read_out_adjoint(
    seen: Any, first: int, G: Any, C: Any, gC: Any, at_c: int, gy: Any, offset: int, count: int
) -> None:
    """Add the gradient that one readout, at flat position ``at_c``, sends to what it sees and to itself.

    ``G`` starts with the first sample.
    """
    width, c, total = width_of(C), conj(pair(C, at_c)), pair(gC, at_c)
    for k in range(count):
        at, g = 2 * k * width, load(gy, offset + k * width)
        total = plus(total, g, conj(pair(seen, first + at)))
        store(G, at, plus(pair(G, at), g, c))
    store(gC, at_c, total)


@inline
def clear(buffer: Any, count: int) -> None:
    """Fill so many registers with zeros."""
    zero = splat(0.0, buffer)
    for i in range(count):
        store(buffer, i * width_of(buffer), zero)


@inline
def lookback(saved: Any, u: Any, place: Any) -> int:
    """Flat position in ``saved``, rows for (K, batch, blocks, chunks), of what belongs to a chunk."""
    (d, b, block, c), (batch, length, channels), width = place, u.shape, width_of(u)
    blocks, chunks = (channels + width - 1) // width, (length + CHUNK - 1) // CHUNK
    return (((d * batch + b) * blocks + block) * chunks + c) * saved.shape[1]
