"""The passes over series and groups: pooled, and as they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from tsssm.ops.cpu.compiling import kernel, maker
from tsssm.ops.cpu.features.pooling import BLOCK, pool_block, read_block
from tsssm.ops.cpu.features.states import mix, run_dense, run_diagonal
from tsssm.ops.cpu.simd import BYTES, load, store

# Samples whose states stand in the cache at one time: 32 KiB for 16 real states in float32.
CHUNK = 512


@maker
def pool_span(
    u: Any,
    held: Any,
    index: Any,
    weight: Any,
    mixing: Any,
    table: Any,
    diagonal: bool,
    C: Any,
    thresholds: Any,
    shares: bool,
    competition: bool,
    group: int,
    first: int,
    last: int,
    at_rest: bool,
    x: Any,
    out: Any,
    at_out: int,
    readouts: int,
    room: Any,
) -> None:
    """Add what is kept of the readouts of a group from one sample to another to ``out``, which is flat.

    ``x`` is the state before and after. With ``at_rest`` the first sample is the first one of its series.
    """
    v, Z, w, by_mode, buffers = room
    rows = Z.shape[0]
    flat_C, flat_thresholds = C.reshape(-1), thresholds.reshape(-1)
    for start in range(first, last, CHUNK):
        count = min(CHUNK, last - start)
        w[:count] = weight[start : start + count]
        w[count:] = 0
        mix(u, held, mixing[group], start, count, at_rest and start == first, v)
        if diagonal:
            run_diagonal(table, index, start, count, group, v, x, by_mode, Z)
        else:
            run_dense(table, index, start, count, group, v, x, by_mode, Z)
        for b in range(readouts // BLOCK):
            block = group * (readouts // BLOCK) + b
            pool_block(
                Z,
                v,
                w,
                count,
                flat_C,
                block * (rows + 1) * BLOCK,
                flat_thresholds,
                block * 2 * BLOCK,
                shares,
                competition,
                buffers,
                out,
                at_out + b * BLOCK,
                readouts,
            )


@maker
def make_room(u: Any, rows: int, padded: int) -> Any:
    """Buffers that `pool_span` works in: input, states, weights, states mode by mode, and registers."""
    return (
        np.zeros((2, CHUNK), u.dtype),
        np.zeros((rows, CHUNK), u.dtype),
        np.zeros(CHUNK, u.dtype),
        np.empty(2 * CHUNK * padded, u.dtype),
        np.empty((5 * BLOCK, BYTES // u.itemsize), u.dtype),
    )


@kernel
def pooled_pass(
    u: Any,
    held: Any,
    offsets: Any,
    index: Any,
    weight: Any,
    mixing: Any,
    table: Any,
    diagonal: bool,
    C: Any,
    thresholds: Any,
    shares: bool,
    competition: bool,
    first: int,
    last: int,
    group_first: int,
    group_last: int,
    out: Any,
) -> None:
    """Series ``first`` to ``last`` and some of the groups, into ``out`` (n, G, kinds, R), zero before.

    ``C`` is (G, R / 8, states + 1, 8), ``thresholds`` (G, R / 8, 2, 8), ``mixing`` (G, H + H') and
    ``table`` what `run_diagonal` or `run_dense` takes.
    """
    groups, kinds, readouts = out.shape[1:]
    padded = table.shape[3]
    room = make_room(u, C.shape[2] - 1, padded)
    x = np.empty(2 * padded, u.dtype)
    flat_out = out.reshape(-1)
    for i in range(first, last):
        for group in range(group_first, group_last):
            x[:] = 0
            pool_span(
                u,
                held,
                index,
                weight,
                mixing,
                table,
                diagonal,
                C,
                thresholds,
                shares,
                competition,
                group,
                offsets[i],
                offsets[i + 1],
                True,
                x,
                flat_out,
                (i * groups + group) * kinds * readouts,
                readouts,
                room,
            )


@kernel
def resumed_pass(
    u: Any,
    held: Any,
    index: Any,
    weight: Any,
    mixing: Any,
    table: Any,
    diagonal: bool,
    C: Any,
    thresholds: Any,
    shares: bool,
    competition: bool,
    first: int,
    at_rest: bool,
    states: Any,
    out: Any,
) -> None:
    """All groups from sample ``first`` of a series on, from ``states`` (G, 2 modes), which move on with it.

    Unless the series is ``at_rest`` before, the sample before the first one has to be there. What is kept is
    added to ``out`` (G, kinds, R); the other operands are as in `pooled_pass`.
    """
    groups, kinds, readouts = out.shape
    room = make_room(u, C.shape[2] - 1, table.shape[3])
    flat_out = out.reshape(-1)
    for group in range(groups):
        pool_span(
            u,
            held,
            index,
            weight,
            mixing,
            table,
            diagonal,
            C,
            thresholds,
            shares,
            competition,
            group,
            first,
            u.shape[1],
            at_rest,
            states[group],
            flat_out,
            group * kinds * readouts,
            readouts,
            room,
        )


@kernel
def readout_pass(
    u: Any,
    held: Any,
    offsets: Any,
    index: Any,
    mixing: Any,
    table: Any,
    diagonal: bool,
    C: Any,
    out: Any,
) -> None:
    """Every readout of every sample, into ``out`` (G, R, total); the other operands as in `pooled_pass`."""
    groups, blocks, rows = C.shape[0], C.shape[1], C.shape[2] - 1
    width = BYTES // u.itemsize
    padded = table.shape[3]
    v = np.zeros((2, CHUNK), u.dtype)
    Z = np.zeros((rows, CHUNK), u.dtype)
    by_mode = np.empty(2 * CHUNK * padded, u.dtype)
    x = np.empty(2 * padded, u.dtype)
    y = np.empty((BLOCK, width), u.dtype)
    flat_C, flat_out = C.reshape(-1), out.reshape(-1)
    length = out.shape[2]
    for i in range(len(offsets) - 1):
        for group in range(groups):
            x[:] = 0
            for start in range(offsets[i], offsets[i + 1], CHUNK):
                count = min(CHUNK, offsets[i + 1] - start)
                mix(u, held, mixing[group], start, count, start == offsets[i], v)
                if diagonal:
                    run_diagonal(table, index, start, count, group, v, x, by_mode, Z)
                else:
                    run_dense(table, index, start, count, group, v, x, by_mode, Z)
                for b in range(blocks):
                    at_c = (group * blocks + b) * (rows + 1) * BLOCK
                    for k in range(0, count, width):
                        read_block(Z, v, k, flat_C, at_c, y)
                        to = (group * blocks + b) * BLOCK * length + start + k
                        for r in range(BLOCK):
                            if k + width <= count:
                                store(flat_out, to, load(y, r * width))
                            else:
                                for j in range(count - k):
                                    flat_out[to + j] = y[r, j]
                            to += length
