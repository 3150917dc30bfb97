"""The states and outputs of a diagonal plus low-rank system."""

from __future__ import annotations

import triton
import triton.language as tl

from tsssm.ops.gpu.dplr.steps import advance, load_rows
from tsssm.ops.gpu.lanes import load_pair, store_pair
from tsssm.ops.gpu.whole import load_samples, place, sample_at


@triton.jit(do_not_specialize=("batch", "length"))
def scan_series(
    u_ptr: tl.tensor,
    Lambda_ptr: tl.tensor,
    P_ptr: tl.tensor,
    Q_ptr: tl.tensor,
    B_ptr: tl.tensor,
    C_ptr: tl.tensor,
    D_ptr: tl.tensor,
    dt_ptr: tl.tensor,
    start_ptr: tl.tensor,
    y_ptr: tl.tensor,
    saved_ptr: tl.tensor,
    final_ptr: tl.tensor,
    batch: tl.tensor,
    length: tl.tensor,
    channels: tl.tensor,
    modes: tl.tensor,
    alpha: tl.tensor,
    RANK: tl.constexpr,
    READOUTS: tl.constexpr,
    REGULAR: tl.constexpr,
    REVERSE: tl.constexpr,
    STARTED: tl.constexpr,
    FEEDTHROUGH: tl.constexpr,
    ADD: tl.constexpr,
    SAVE: tl.constexpr,
    FINAL: tl.constexpr,
    MODES: tl.constexpr,
    LANES: tl.constexpr,
    SAMPLES: tl.constexpr,
) -> None:
    """Run whole series; ``saved`` (series, checkpoint, part, channel, mode) gets the states now and then."""
    active, b, h, mask, at = place(batch, channels, modes, LANES, MODES)
    size = channels * modes
    Lr, Li = load_pair(Lambda_ptr, at, size, mask)
    Br, Bi = load_pair(B_ptr, at, size, mask)
    Pr, Pi = load_rows(P_ptr, at, size, mask, RANK)
    Qr, Qi = load_rows(Q_ptr, at, size, mask, RANK)
    Cr, Ci = load_rows(C_ptr, at, size, mask, READOUTS)
    state = (2 * b * size)[:, None] + at
    xr = tl.zeros((LANES, MODES), tl.float32)
    xi = tl.zeros((LANES, MODES), tl.float32)
    if STARTED:
        xr, xi = load_pair(start_ptr, state, size, mask)
    kept = 2 * b * tl.cdiv(length, SAMPLES) * size
    for t0 in range(0, length, SAMPLES):
        if SAVE:
            store_pair(saved_ptr, (kept + 2 * (t0 // SAMPLES) * size)[:, None] + at, size, xr, xi, mask)
        us, dts = load_samples(u_ptr, dt_ptr, t0, b, h, active, length, channels, REGULAR, REVERSE, SAMPLES)
        for j in tl.static_range(SAMPLES):
            there = active & (t0 + j < length)
            sample = (b * length + sample_at(t0 + j, length, REVERSE)) * channels + h
            u = us[j]
            s = dts[j]
            xr, xi, _ = advance(xr, xi, u, s, alpha, Lr, Li, Br, Bi, Pr, Pi, Qr, Qi, RANK)
            for m in tl.static_range(READOUTS):
                y = tl.sum(Cr[m] * xr - Ci[m] * xi, axis=1)
                output = y_ptr + m * batch.to(tl.int64) * length * channels + sample
                if FEEDTHROUGH:
                    y += tl.load(D_ptr + m * channels + h, active, other=0.0) * u
                if ADD:
                    y += tl.load(output, there, other=0.0)
                tl.store(output, y, there)
    if FINAL:
        store_pair(final_ptr, state, size, xr, xi, mask)
