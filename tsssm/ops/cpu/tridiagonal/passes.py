"""The two passes over a block of W channels: chunk by chunk in time, two series at once, sample by sample.

The forward pass leaves the state before each chunk behind (``saved``), from which the backward pass
recomputes the others, so that no array of size (batch, L, H, N) ever exists. Of an odd number of series the
last one is its own partner: it is computed twice and counted once.

K directions (one or two, the second opposite to the first and always from rest) have readouts of their own
and add up. The system is A = V T^{-1} with V and T tridiagonal and the timescale within V and B, so that
the step of a sample is its gap.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tsssm.ops.cpu.blocks import CHUNK, Span, lookback, read, write
from tsssm.ops.cpu.buffers import arrays
from tsssm.ops.cpu.compiling import inline, kernel, maker
from tsssm.ops.cpu.memory import wipe, zeros
from tsssm.ops.cpu.simd import beside, load, loads, splat, store, stores, width_of
from tsssm.ops.cpu.tridiagonal.bands import (
    factor,
    gather_readout,
    load_state,
    open_bands,
    plane_of,
    scatter_bands,
    scatter_readout,
    store_state,
)
from tsssm.ops.cpu.tridiagonal.recurrence import (
    PART,
    Sample,
    advance,
    collect,
    collect_readout,
    read_out,
    retreat,
    send_readout,
)


class Gaps(NamedTuple):
    """Distinct gaps and which one, ``index`` (K, batch, L), a sample has; or no distinct ones, and those of
    ``each`` sample (K, batch, L)."""

    distinct: Any
    index: Any
    each: Any


class Room(NamedTuple):
    """Buffers (2, CHUNK, W) and (M, 2, CHUNK, W) of a chunk of both series; gaps, and whose factors they
    take."""

    u: Any
    y: Any
    gu: Any
    gap: Any
    which: Any


@maker
def _make_room(signals: Any, readouts: int) -> Any:
    u, size = signals.u, 2 * CHUNK * width_of(signals.u)
    gap, which = zeros((2, CHUNK), u), zeros((2, CHUNK), np.int64)
    for row in range(2):
        for k in range(CHUNK):
            gap[row, k] = 1.0
    return Room(zeros((size,), u), zeros((readouts * size,), u), zeros((size,), u), gap, which)


@inline
def _gather_gaps(gaps: Any, d: int, b: int, length: int, span: Any, row: int, room: Any) -> None:
    """Gap and factors of each sample of a chunk, for one series: its own, if no gaps are shared."""
    for k in range(span.count):
        t = length - 1 - span.start - k if span.backwards else span.start + k
        if gaps.distinct.size == 0:
            room.gap[row, k] = gaps.each[d, b, t]
            room.which[row, k] = row
        else:
            room.which[row, k] = gaps.index[d, b, t] if gaps.distinct.size > 1 else 0
            room.gap[row, k] = gaps.distinct[room.which[row, k]]


@inline
def _sample(bands: Any, gaps: Any, room: Any, k: int) -> Any:
    """A sample of both series, whose factors are computed here unless its gap is a shared one."""
    gap_a, gap_b = room.gap[0, k], room.gap[1, k]
    at, apart = room.which[0, k] * bands.entry, (room.which[1, k] - room.which[0, k]) * bands.entry
    if gaps.distinct.size == 0:
        factor(bands, at, apart, gap_a, gap_b)
    gap = beside(splat(gap_a, room.u), splat(gap_b, room.u))
    return Sample(at, apart, gap, max(gap_a, gap_b) * bands.stiffest > 1)


@inline
def _keep_state(signals: Any, place: Any, modes: int, X: Any, row: int, keep: bool) -> None:
    """Keep the state of one series in ``signals.saved``, or take it from there."""
    saved, width = signals.saved, width_of(X)
    at = lookback(saved, signals.u, place)
    for n in range(modes):
        here, there = (2 * (n + 1) + row) * width, at + n * width
        if keep:
            store(saved, there, load(X, here))
        else:
            store(X, here, load(saved, there))


@kernel
def forward_pass(
    signals: Any, operands: Any, gaps: Any, x: Any, alpha: float, reverse: bool, cut: Any
) -> None:
    """Outputs, states ``x`` (batch, H, N) renewed, and the states that the adjoint needs.

    ``x`` belongs to the first direction.
    """
    signals, operands = arrays(signals, gaps.distinct), arrays(operands, gaps.distinct)
    x = arrays(x, gaps.distinct)
    u, y, width, (batch, length, _) = signals.u, signals.y, width_of(signals.u), signals.u.shape
    readouts, modes, half = operands.C.shape[1], operands.B.shape[1], CHUNK * width
    room = _make_room(signals, readouts)
    for block in range(cut.first, cut.last):
        h0 = block * width
        bands = open_bands(operands, gaps.distinct, alpha, h0)
        for d in range(operands.C.shape[0]):
            gather_readout(operands.C, d, h0, bands.C)
            for b in range(cut.b0, cut.b1, 2):
                series = (b, min(b + 1, cut.b1 - 1))
                X = zeros((plane_of(modes, width),), u)
                for row in range(2 if d == 0 else 0):
                    load_state(x, series[row], h0, X, row)
                for c in range((length + CHUNK - 1) // CHUNK):
                    span = Span(c * CHUNK, min(CHUNK, length - c * CHUNK), reverse != (d == 1))
                    wipe(room.y)
                    for row in range(2):
                        s = series[row]
                        read(u, s, h0, span, room.u, row * half)
                        _gather_gaps(gaps, d, s, length, span, row, room)
                        for m in range(readouts if d > 0 else 0):
                            read(y, m * batch + s, h0, span, room.y, (2 * m + row) * half)
                        if signals.saved.size > 0:
                            _keep_state(signals, (d, s, block, c), modes, X, row, True)
                    for k in range(span.count):
                        sample, uk = _sample(bands, gaps, room, k), loads(room.u, k * width, half, 2)
                        yk = advance(bands, X, 0, 0, bands.Z, -1, sample, uk)
                        for m in range(readouts):
                            if m > 0:
                                yk = read_out(bands, X, 0, m, uk)
                            to = 2 * m * half + k * width
                            stores(room.y, to, loads(room.y, to, half, 2) + yk, half)
                    for row in range(2):
                        for m in range(readouts):
                            write(y, m * batch + series[row], h0, span, room.y, (2 * m + row) * half)
                for row in range(2 if d == 0 else 0):
                    store_state(x, series[row], h0, X, row)


class Work(NamedTuple):
    """States X, zeta, s eta and lambda of a chunk or a part of it, and the gradient G of a state."""

    X: Any
    zeta: Any
    E: Any
    L: Any
    G: Any


@inline
def _retreat_chunk(
    bands: Any, gaps: Any, room: Any, work: Any, plane: int, count: int, sums: Any, gC: Any
) -> None:
    """Adjoint of a chunk from its states, which are computed again; adds to ``room.gu`` and the sums."""
    width, half = width_of(work.X), CHUNK * width_of(work.X)
    for k in range(count):
        sample, uk = _sample(bands, gaps, room, k), loads(room.u, k * width, half, 2)
        advance(bands, work.X, k * plane, (k + 1) * plane, work.zeta, k * plane, sample, uk)
    for m in range(bands.readouts):
        collect_readout(bands, work.X, plane, room.y, gC, m, count)
    for begin in range((count - 1) // PART * PART, -1, -PART):
        end = min(begin + PART, count)
        for k in range(end - 1, begin - 1, -1):
            sample, to = _sample(bands, gaps, room, k), k * width
            for m in range(1, bands.readouts):
                send_readout(bands, work.G, m, loads(room.y, to + 2 * m * half, half, 2))
            g = loads(room.y, to, half, 2)
            gu = retreat(bands, work.G, work.E, work.L, (k - begin) * plane, sample, g)
            stores(room.gu, to, loads(room.gu, to, half, 2) + gu, half)
        collect(bands, work.E, work.L, work.zeta, plane, room.u, (begin, end), sums)


@kernel
def backward_pass(
    signals: Any, operands: Any, gaps: Any, gx: Any, alpha: float, reverse: bool, cut: Any, gradients: Any
) -> None:
    """Adjoint of `forward_pass`.

    ``gx`` (batch, H, N) holds the gradient of the final state and is renewed to that of the first one. The
    others are written, those of the system for this range of series.
    """
    signals, operands = arrays(signals, gaps.distinct), arrays(operands, gaps.distinct)
    gx = arrays(gx, gaps.distinct)
    u, gu, width, (batch, length, _) = signals.u, signals.gu, width_of(signals.u), signals.u.shape
    readouts, modes, half = operands.C.shape[1], operands.B.shape[1], CHUNK * width
    room, plane = _make_room(signals, readouts), plane_of(modes, width)
    E, L = zeros((PART * plane,), u), zeros((PART * plane,), u)
    X, zeta = zeros(((CHUNK + 1) * plane,), u), zeros((CHUNK * plane,), u)
    work = Work(X, zeta, E, L, zeros((plane,), u))
    for block in range(cut.first, cut.last):
        h0 = block * width
        bands = open_bands(operands, gaps.distinct, alpha, h0)
        sums, gC = (zeros(bands.matrix.shape, u), zeros(bands.system.shape, u)), zeros(bands.C.shape, u)
        for d in range(operands.C.shape[0]):
            gather_readout(operands.C, d, h0, bands.C)
            for b in range(cut.b0, cut.b1, 2):
                series = (b, min(b + 1, cut.b1 - 1))
                # A series without a partner is beside itself, where all gradients stay zero.
                counted = min(2, cut.b1 - b)
                wipe(work.G)
                wipe(room.y)
                for row in range(counted if d == 0 else 0):
                    load_state(gx, series[row], h0, work.G, row)
                for c in range((length + CHUNK - 1) // CHUNK - 1, -1, -1):
                    span = Span(c * CHUNK, min(CHUNK, length - c * CHUNK), reverse != (d == 1))
                    wipe(room.gu)
                    for row in range(2):
                        s = series[row]
                        read(u, s, h0, span, room.u, row * half)
                        _gather_gaps(gaps, d, s, length, span, row, room)
                        _keep_state(signals, (d, s, block, c), modes, work.X, row, False)
                    for row in range(counted):
                        for m in range(readouts):
                            read(signals.y, m * batch + series[row], h0, span, room.y, (2 * m + row) * half)
                        if d > 0:
                            read(gu, series[row], h0, span, room.gu, row * half)
                    _retreat_chunk(bands, gaps, room, work, plane, span.count, sums, gC)
                    for row in range(counted):
                        write(gu, series[row], h0, span, room.gu, row * half)
                for row in range(counted if d == 0 else 0):
                    store_state(gx, series[row], h0, work.G, row)
            scatter_readout(gC, gradients.C, d, h0)
        scatter_bands(sums[0], sums[1], gradients, h0)
