"""The passes over series and groups: pooled, and as they are."""

from __future__ import annotations

from typing import Any, NamedTuple

from tsssm.ops.cpu.buffers import bare
from tsssm.ops.cpu.compiling import kernel, maker, routine
from tsssm.ops.cpu.features.pooling import BLOCK, pool_block, read_block
from tsssm.ops.cpu.features.states import mix, run_dense, run_diagonal
from tsssm.ops.cpu.memory import piece, wipe, zeros
from tsssm.ops.cpu.simd import load, store, width_of

# Samples whose states stand in the cache at one time: 32 KiB for 16 real states in float32.
CHUNK = 512


class Scanned(NamedTuple):
    """Signals and systems.

    ``mixing`` is (G, H + H'), ``table`` what `run_diagonal` or `run_dense` takes, and ``C``
    (G, R / 8, states + 1, 8).
    """

    u: Any
    held: Any
    index: Any
    mixing: Any
    table: Any
    diagonal: Any
    C: Any


class Kept(NamedTuple):
    """What is kept of the readouts; the weight of each sample, and ``thresholds`` (G, R / 8, 2, 8)."""

    weight: Any
    thresholds: Any
    shares: Any
    competition: Any


class Room(NamedTuple):
    """Input, states, weights, states mode by mode, and registers (40, W): readouts, sums of four kinds."""

    v: Any
    Z: Any
    weight: Any
    by_mode: Any
    buffers: Any


@maker
def _make_room(scanned: Any) -> Any:
    u, padded = scanned.u, scanned.table.shape[3]
    return Room(
        zeros((2, CHUNK), u),
        zeros((scanned.C.shape[2] - 1, CHUNK), u),
        zeros((CHUNK,), u),
        zeros((2 * CHUNK * padded,), u),
        zeros((5 * BLOCK, width_of(u)), u),
    )


@routine
def _run_chunk(scanned: Any, group: int, start: int, count: int, at_rest: bool, x: Any, room: Any) -> None:
    """States of a group over a chunk, from ``x`` on; ``at_rest`` says that nothing was before it."""
    table, index = scanned.table, scanned.index
    mix(scanned.u, scanned.held, scanned.mixing, group, start, count, at_rest, room.v)
    if scanned.diagonal:
        run_diagonal(table, index, start, count, group, room.v, x, room.by_mode, room.Z)
    else:
        run_dense(table, index, start, count, group, room.v, x, room.by_mode, room.Z)


@routine
def _pool_span(
    scanned: Any, kept: Any, group: int, span: Any, x: Any, out: Any, at_out: int, readouts: int, room: Any
) -> None:
    """Add what is kept of the readouts of a group over a span of samples to ``out``, which is flat.

    ``span`` is its first sample, its end, and whether that is the first one of its series; ``x`` is the state
    before and after.
    """
    first, last, at_rest = span
    flat, blocks = (bare(scanned.C), bare(kept.thresholds)), readouts // BLOCK
    for start in range(first, last, CHUNK):
        count = min(CHUNK, last - start)
        wipe(room.weight)
        for k in range(count):  # a slice in place of it compiles a message with shapes, for a second
            room.weight[k] = kept.weight[start + k]
        _run_chunk(scanned, group, start, count, at_rest and start == first, x, room)
        for b in range(blocks):
            pool_block(room, count, flat, group * blocks + b, kept, out, at_out + b * BLOCK, readouts)


@routine
def _read_span(scanned: Any, group: int, span: Any, x: Any, every: Any, room: Any) -> None:
    """Every readout of a group over a span of samples, into ``every``; ``span`` and ``x`` as above."""
    (first, last, at_rest), length, width = span, every.shape[2], width_of(every)
    blocks, rows = scanned.C.shape[1], scanned.C.shape[2] - 1
    y, flat_C, flat_out = room.buffers, bare(scanned.C), bare(every)
    for start in range(first, last, CHUNK):
        count = min(CHUNK, last - start)
        _run_chunk(scanned, group, start, count, at_rest and start == first, x, room)
        for b in range(blocks):
            at_c = (group * blocks + b) * (rows + 1) * BLOCK
            for k in range(0, count, width):
                read_block(room.Z, room.v, k, flat_C, at_c, y)
                to = (group * blocks + b) * BLOCK * length + start + k
                for r in range(BLOCK):
                    if k + width <= count:
                        store(flat_out, to, load(y, r * width))
                    else:
                        for j in range(count - k):
                            flat_out[to + j] = y[r, j]
                    to += length


@kernel
def pooled_pass(scanned: Any, kept: Any, offsets: Any, part: Any, out: Any, every: Any) -> None:
    """Series and groups of a ``part``, from first to last, into ``out`` (n, G, kinds, R), zero before.

    Or, unless ``every`` (G, R, total) is empty, every readout of every sample into that: by the same kernel,
    because few calls ask for it, and to compile another takes as long.
    """
    groups, kinds, readouts = out.shape[1:]
    first, last, group_first, group_last = part
    room, x, flat_out = _make_room(scanned), zeros((2 * scanned.table.shape[3],), out), bare(out)
    for i in range(first, last):
        for group in range(group_first, group_last):
            wipe(x)
            span, to = (offsets[i], offsets[i + 1], True), (i * groups + group) * kinds * readouts
            if every.size > 0:
                _read_span(scanned, group, span, x, every, room)
            else:
                _pool_span(scanned, kept, group, span, x, flat_out, to, readouts, room)


@kernel
def resumed_pass(scanned: Any, kept: Any, first: int, at_rest: bool, states: Any, out: Any) -> None:
    """All groups from sample ``first`` of a series on, from ``states`` (G, 2 modes), which move on with it.

    Unless the series is ``at_rest`` before, the sample before the first one has to be there. What is kept is
    added to ``out`` (G, kinds, R).
    """
    groups, kinds, readouts = out.shape
    room, flat_out, span = _make_room(scanned), bare(out), (first, scanned.u.shape[1], at_rest)
    size = states.shape[1]
    for group in range(groups):
        to = group * kinds * readouts
        x = piece(states, group * size, (size,))
        _pool_span(scanned, kept, group, span, x, flat_out, to, readouts, room)
