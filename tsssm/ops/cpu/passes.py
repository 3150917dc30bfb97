"""The two passes over the series of a block of W channels, chunk by chunk in time: written once for all
scans.

The forward pass leaves the state before each chunk behind (``saved``), from which the backward pass
recomputes the others, so that no array of size (batch, L, H, N) ever exists. A call of a kernel handles a
`Cut` of the work; calls on different cuts may run at the same time.

K directions (one or two, the second opposite to the first and always from rest) have readouts of their own
and add up. Complex arrays arrive as real ones with a last axis of two.

What a system does with a chunk is said by its cell, a named tuple for which there are parts of `advance` and
of `retreat`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tsssm.ops.cpu.blocks import CHUNK, Span, clear, feed_through, feed_through_adjoint, lookback, read, write
from tsssm.ops.cpu.buffers import bare
from tsssm.ops.cpu.compiling import Choice, inline, maker
from tsssm.ops.cpu.memory import zeros
from tsssm.ops.cpu.simd import load, store, width_of


class Signals(NamedTuple):
    """What the passes read and write sample by sample.

    ``u`` (batch, L, H); ``v`` (K batch, L, H), the previous inputs of first-order hold, or empty; ``y``
    (M batch, L, H) the outputs, in the backward pass their gradients; ``saved`` (K batch blocks chunks,
    slots N 2 W), empty where nothing is kept; ``gu`` and ``gv`` gradients, used by the backward pass. Fewer
    axes are less to compile.
    """

    u: Any
    v: Any
    y: Any
    saved: Any
    gu: Any
    gv: Any


class Times(NamedTuple):
    """The gaps of a call (see ``tsssm.ops.cpu.gaps``).

    ``gaps`` are the distinct ones and ``index`` (K, batch, L) says which one a sample has; or ``gaps`` is
    empty, and a table of nodes goes up to ``reach``, unless that is infinite. ``typical`` is a gap by which
    rows are told slow ones from others, ``duration`` that of a series.
    """

    gaps: Any
    index: Any
    reach: Any
    typical: Any
    duration: Any


class Cut(NamedTuple):
    """Blocks ``first`` to ``last`` of the channels, and series ``b0`` to ``b1`` of the batch."""

    first: Any
    last: Any
    b0: Any
    b1: Any


class Room(NamedTuple):
    """Buffers of a chunk; ``which`` row a sample has, its gap ``delta``, and how many ``seen`` before it."""

    u: Any
    v: Any
    y: Any
    gu: Any
    gv: Any
    which: Any
    delta: Any
    seen: Any


@maker
def make_room(signals: Any, readouts: int, gaps: Any, gradient: bool) -> Any:
    """Buffers for a chunk; what a single gap says of all chunks stands there already."""
    u, size = signals.u, CHUNK * width_of(signals.u)
    previous = size if signals.v.size > 0 else 0
    room = Room(
        zeros((size,), u),
        zeros((previous,), u),
        zeros((readouts * size,), u),
        zeros((size if gradient else 0,), u),
        zeros((previous if gradient else 0,), u),
        zeros((CHUNK,), np.int64),
        zeros((CHUNK,), u),
        zeros((CHUNK + 1,), np.int64),
    )
    for k in range(CHUNK):
        if gaps.size == 0:
            room.which[k] = k
        elif gaps.size == 1:
            room.delta[k] = gaps[0]
            room.seen[k + 1] = k + 1 if gaps[0] > 0 else 0
    return room


@Choice
def advance(cell: Any, room: Any, state: Any, place: Any, span: Any) -> None:
    """Take the state over a chunk and add its readouts to ``room.y``."""


@Choice
def retreat(cell: Any, room: Any, before: Any, carry: Any, place: Any, span: Any, final: bool) -> None:
    """Adjoint of `advance` from the state ``before`` the chunk; renews ``carry``, what goes back to it.

    ``room.y`` holds the gradients of the outputs; those of the inputs are added to ``room.gu``. ``final``
    says that ``carry`` is the gradient of the state that the scan ends with.
    """


@inline
def _look_up(times: Any, dt: Any, d: int, b: int, span: Any, length: int, room: Any) -> None:
    """Row, gap and count of earlier samples of each sample of a chunk; ``dt`` is None or has all gaps."""
    gaps = times.gaps
    own = dt is not None
    if gaps.size == 1:
        return
    for k in range(span.count):
        t = length - 1 - span.start - k if span.backwards else span.start + k
        if own:
            room.delta[k] = dt[d, b, t]
        else:
            room.which[k] = times.index[d, b, t]
            room.delta[k] = gaps[room.which[k]]
        room.seen[k + 1] = room.seen[k] + (1 if room.delta[k] > 0 else 0)


@inline
def _copy_state(state: Any, saved: Any, at: int, keep: bool) -> None:
    """Keep a state (slots, N', 2, W) in ``saved`` from ``at`` on, or take it from there; N <= N'."""
    width = width_of(saved)
    modes = saved.shape[1] // (2 * state.shape[0] * width)
    for q in range(state.shape[0]):
        for i in range(2 * modes):
            here, there = (2 * q * state.shape[1] + i) * width, at + (2 * q * modes + i) * width
            if keep:
                store(saved, there, load(state, here))
            else:
                store(state, here, load(saved, there))


@inline
def forward_series(
    cell: Any,
    signals: Any,
    times: Any,
    dt: Any,
    buffers: Any,
    D: Any,
    state: Any,
    place: Any,
    backwards: bool,
) -> None:
    """One series of a block, from a state to its last one; ``place`` is (direction, series, block)."""
    u, y, (d, b, block), readouts = signals.u, signals.y, place, D.shape[0]
    light, room, light_state = bare(cell), bare(buffers), bare(state)
    width, (batch, length, _) = width_of(u), u.shape
    h0, size = block * width, CHUNK * width
    for c in range((length + CHUNK - 1) // CHUNK):
        span = Span(c * CHUNK, min(CHUNK, length - c * CHUNK), backwards)
        read(u, b, h0, span, room.u, 0)
        if signals.v.size > 0:
            read(signals.v, d * batch + b, h0, span, room.v, 0)
        for m in range(readouts):
            if d == 0:
                feed_through(room.u, D, m, room.y, m * size, span.count)
            else:
                read(y, m * batch + b, h0, span, room.y, m * size)
        if signals.saved.size > 0:
            _copy_state(state, signals.saved, lookback(signals.saved, u, (d, b, block, c)), True)
        _look_up(times, dt, d, b, span, length, room)
        advance(light, room, light_state, place, span)
        for m in range(readouts):
            write(y, m * batch + b, h0, span, room.y, m * size)


@inline
def backward_series(
    cell: Any,
    signals: Any,
    times: Any,
    dt: Any,
    buffers: Any,
    D: Any,
    gD: Any,
    before: Any,
    carry: Any,
    place: Any,
    backwards: bool,
) -> None:
    """Adjoint of `forward_series`: ``carry``, the gradient of the last state, becomes that of the first.

    ``before`` is left as the first state.
    """
    u, gu, (d, b, block), readouts = signals.u, signals.gu, place, D.shape[0]
    light, room, light_before, light_carry = bare(cell), bare(buffers), bare(before), bare(carry)
    width, (batch, length, _) = width_of(u), u.shape
    h0, size, chunks = block * width, CHUNK * width, (length + CHUNK - 1) // CHUNK
    for c in range(chunks - 1, -1, -1):
        span = Span(c * CHUNK, min(CHUNK, length - c * CHUNK), backwards)
        read(u, b, h0, span, room.u, 0)
        if signals.v.size > 0:
            read(signals.v, d * batch + b, h0, span, room.v, 0)
            clear(room.gv, CHUNK)
        for m in range(readouts):
            read(signals.y, m * batch + b, h0, span, room.y, m * size)
        if d == 0:
            clear(room.gu, CHUNK)
            for m in range(readouts):
                feed_through_adjoint(room.u, room.y, m * size, D, gD, m, room.gu, span.count)
        else:
            read(gu, b, h0, span, room.gu, 0)
        _copy_state(before, signals.saved, lookback(signals.saved, u, (d, b, block, c)), False)
        _look_up(times, dt, d, b, span, length, room)
        retreat(light, room, light_before, light_carry, place, span, c == chunks - 1 and d == 0)
        write(gu, b, h0, span, room.gu, 0)
        if signals.v.size > 0:
            write(signals.gv, d * batch + b, h0, span, room.gv, 0)
