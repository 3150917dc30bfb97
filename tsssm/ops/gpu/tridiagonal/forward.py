"""The states and outputs of a tridiagonal system."""

from __future__ import annotations

import triton
import triton.language as tl

from tsssm.ops.gpu.tridiagonal.steps import advance, load_diagonals
from tsssm.ops.gpu.whole import load_samples, place, sample_at


@triton.jit(do_not_specialize=("batch", "length"))
def scan_series(
    u_ptr: tl.tensor,
    T_ptr: tl.tensor,
    V_ptr: tl.tensor,
    B_ptr: tl.tensor,
    C_ptr: tl.tensor,
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
    READOUTS: tl.constexpr,
    REGULAR: tl.constexpr,
    REVERSE: tl.constexpr,
    STARTED: tl.constexpr,
    ADD: tl.constexpr,
    SAVE: tl.constexpr,
    FINAL: tl.constexpr,
    MODES: tl.constexpr,
    LANES: tl.constexpr,
    SAMPLES: tl.constexpr,
) -> None:
    """Run whole series; ``saved`` (series, checkpoint, channel, mode) gets the states now and then."""
    active, b, h, mask, at = place(batch, channels, modes, LANES, MODES)
    n = tl.arange(0, MODES)[None, :]
    size = channels * modes
    T = load_diagonals(T_ptr, at, size, n, modes, mask, 1.0)
    V = load_diagonals(V_ptr, at, size, n, modes, mask, 0.0)
    B = tl.load(B_ptr + at, mask, other=0.0)
    C = ()
    for m in tl.static_range(READOUTS):
        C = C + (tl.load(C_ptr + m * size + at, mask, other=0.0),)
    state = (b * size)[:, None] + at
    x = tl.zeros((LANES, MODES), tl.float32)
    if STARTED:
        x = tl.load(start_ptr + state, mask, other=0.0)
    kept = b * tl.cdiv(length, SAMPLES) * size
    for t0 in range(0, length, SAMPLES):
        if SAVE:
            tl.store(saved_ptr + (kept + t0 // SAMPLES * size)[:, None] + at, x, mask)
        us, dts = load_samples(u_ptr, dt_ptr, t0, b, h, active, length, channels, REGULAR, REVERSE, SAMPLES)
        for j in tl.static_range(SAMPLES):
            there = active & (t0 + j < length)
            sample = (b * length + sample_at(t0 + j, length, REVERSE)) * channels + h
            u = us[j]
            s = dts[j]
            x, _, _ = advance(x, u[:, None], s[:, None], alpha, T, V, B, n, MODES)
            for m in tl.static_range(READOUTS):
                y = tl.sum(C[m] * x, axis=1)
                output = y_ptr + m * batch.to(tl.int64) * length * channels + sample
                if ADD:
                    y += tl.load(output, there, other=0.0)
                tl.store(output, y, there)
    if FINAL:
        tl.store(final_ptr + state, x, mask)
