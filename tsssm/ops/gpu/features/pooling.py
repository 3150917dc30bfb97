"""The kernel: one series through one group, and what is kept of a block of its readouts."""

from __future__ import annotations

import triton
import triton.language as tl

from tsssm.ops.gpu.features.states import mix, run_dense, run_diagonal


@triton.jit
def pool_series(
    u_ptr: tl.tensor,
    held_ptr: tl.tensor,
    offsets_ptr: tl.tensor,
    index_ptr: tl.tensor,
    weight_ptr: tl.tensor,
    channel_ptr: tl.tensor,
    share_ptr: tl.tensor,
    held_channel_ptr: tl.tensor,
    held_share_ptr: tl.tensor,
    table_ptr: tl.tensor,
    C_ptr: tl.tensor,
    D_ptr: tl.tensor,
    thresholds_ptr: tl.tensor,
    out_ptr: tl.tensor,
    total: tl.tensor,
    groups: tl.tensor,
    used: tl.tensor,
    held_used: tl.tensor,
    modes: tl.tensor,
    readouts: tl.tensor,
    DIAGONAL: tl.constexpr,
    SHARES: tl.constexpr,
    COMPETITION: tl.constexpr,
    COMPETITORS: tl.constexpr,
    MODES: tl.constexpr,
    READOUTS: tl.constexpr,
    SAMPLES: tl.constexpr,
) -> None:
    """Write what is kept of ``READOUTS`` readouts of a group for one series, tile after tile of its samples.

    ``C`` is (G, states, R), ``table`` what `run_diagonal` or `run_dense` takes, and ``out`` (n, G, kinds, R);
    `mix` takes the rows of ``channel`` and ``share`` (G, used) and of those for what is held. Sums are kept
    apart for every sample of a tile and added up at the end, always in the same order.
    """
    BLOCKS: tl.constexpr = READOUTS // COMPETITORS
    KINDS: tl.constexpr = 2 * SHARES + 2 * COMPETITION
    PLANES: tl.constexpr = 6 if DIAGONAL else 2
    STATES: tl.constexpr = 2 * MODES if DIAGONAL else MODES
    tiles = tl.cdiv(readouts, READOUTS)
    tile = tl.program_id(0) % tiles
    group = tl.program_id(0) // tiles % groups
    series = tl.program_id(0) // tiles // groups
    first = tl.load(offsets_ptr + series)
    length = (tl.load(offsets_ptr + series + 1) - first).to(tl.int32)

    # Readouts are padded to whole tiles by such that are zero; blocks of competitors are never cut.
    r = tile * READOUTS + tl.arange(0, READOUTS)
    readable = r < readouts
    states = 2 * modes if DIAGONAL else modes
    n = tl.arange(0, STATES)[:, None]
    C = tl.load(
        C_ptr + (group * states + n) * readouts + r[None, :], (n < states) & readable[None, :], other=0.0
    )
    D = tl.load(D_ptr + group * readouts + r, readable, other=0.0)[None, :]
    if SHARES:
        level = thresholds_ptr + group * 2 * readouts + r
        low = tl.load(level, readable, other=0.0)[None, :]
        high = tl.load(level + readouts, readable, other=0.0)[None, :]
        over_low = tl.zeros((SAMPLES, READOUTS), tl.float32)
        over_high = tl.zeros((SAMPLES, READOUTS), tl.float32)
    if COMPETITION:
        gains = tl.zeros((SAMPLES, BLOCKS, COMPETITORS), tl.float32)
        losses = tl.zeros((SAMPLES, BLOCKS, COMPETITORS), tl.float32)

    size = modes * PLANES if DIAGONAL else modes * (modes + PLANES)
    stride = tl.full((), 1, tl.int64) * groups * size
    table = table_ptr + group * size
    x = tl.zeros((MODES,), tl.float32)
    xi = x
    for start in range(0, length, SAMPLES):
        time = start + tl.arange(0, SAMPLES)
        there = time < length
        before, now = mix(
            u_ptr + first,
            held_ptr + first,
            channel_ptr + group * used,
            share_ptr + group * used,
            held_channel_ptr + group * held_used,
            held_share_ptr + group * held_used,
            time,
            there,
            total,
            used,
            held_used,
            SAMPLES,
        )
        if DIAGONAL:
            row = tl.load(index_ptr + first + time, there, other=0) * stride
            z, x, xi = run_diagonal(table, row, there, before, now, x, xi, modes, MODES, SAMPLES)
        else:
            count = tl.minimum(SAMPLES, length - start)
            z, x = run_dense(
                table, index_ptr + first + start, before, now, x, count, stride, modes, MODES, SAMPLES
            )
        # In full precision: a readout is compared with thresholds and with its neighbours.
        y = tl.dot(z, C, input_precision="ieee") + D * now[:, None]
        # Without weight, what lies past the end of the series counts for nothing.
        weight = tl.load(weight_ptr + first + time, there, other=0.0)
        if SHARES:
            over_low += tl.where(y > low, weight[:, None], 0.0)
            over_high += tl.where(y > high, weight[:, None], 0.0)
        if COMPETITION:
            rivals = tl.reshape(y, (SAMPLES, BLOCKS, COMPETITORS))
            best = tl.max(rivals, axis=2)[:, :, None]
            worst = tl.min(rivals, axis=2)[:, :, None]
            gains += tl.where(rivals == best, weight[:, None, None] * best, 0.0)
            losses += tl.where(rivals == worst, weight[:, None, None], 0.0)

    to = out_ptr + (series.to(tl.int64) * groups + group) * (KINDS * readouts) + r
    if SHARES:
        tl.store(to, tl.sum(over_low, axis=0), readable)
        tl.store(to + readouts, tl.sum(over_high, axis=0), readable)
        to += 2 * readouts
    if COMPETITION:
        tl.store(to, tl.reshape(tl.sum(gains, axis=0), (READOUTS,)), readable)
        tl.store(to + readouts, tl.reshape(tl.sum(losses, axis=0), (READOUTS,)), readable)
