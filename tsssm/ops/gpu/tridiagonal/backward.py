"""All gradients of a tridiagonal system."""

from __future__ import annotations

import triton
import triton.language as tl

from tsssm.ops.gpu.tridiagonal.steps import (
    advance,
    before,
    behind,
    difference,
    load_diagonals,
    solved_transposed,
    times_transposed,
)
from tsssm.ops.gpu.whole import load_outputs, load_samples, place, sample_at


@triton.jit(do_not_specialize=("batch", "length"))
def gradients(
    gy_ptr: tl.tensor,
    u_ptr: tl.tensor,
    T_ptr: tl.tensor,
    V_ptr: tl.tensor,
    B_ptr: tl.tensor,
    C_ptr: tl.tensor,
    dt_ptr: tl.tensor,
    saved_ptr: tl.tensor,
    end_ptr: tl.tensor,
    gu_ptr: tl.tensor,
    by_mode_ptr: tl.tensor,
    gx_ptr: tl.tensor,
    batch: tl.tensor,
    length: tl.tensor,
    channels: tl.tensor,
    modes: tl.tensor,
    alpha: tl.tensor,
    READOUTS: tl.constexpr,
    REGULAR: tl.constexpr,
    REVERSE: tl.constexpr,
    ENDED: tl.constexpr,
    ADD: tl.constexpr,
    INITIAL: tl.constexpr,
    MODES: tl.constexpr,
    LANES: tl.constexpr,
    SAMPLES: tl.constexpr,
) -> None:
    """From the last sample to the first, from the gradient of the final state if ``ENDED``.

    ``by_mode`` (series, row, channel, mode) gets the gradients of the diagonals of T, those of V, of B and of
    the readouts, to be summed over the series.
    """
    active, b, h, mask, at = place(batch, channels, modes, LANES, MODES)
    n = tl.arange(0, MODES)[None, :]
    size = channels * modes
    T = load_diagonals(T_ptr, at, size, n, modes, mask, 1.0)
    V = load_diagonals(V_ptr, at, size, n, modes, mask, 0.0)
    B = tl.load(B_ptr + at, mask, other=0.0)
    zero = tl.zeros((LANES, MODES), tl.float32)
    C = ()
    gC = ()
    for m in tl.static_range(READOUTS):
        C = C + (tl.load(C_ptr + m * size + at, mask, other=0.0),)
        gC = gC + (zero,)
    state = (b * size)[:, None] + at
    back_x = zero
    if ENDED:
        back_x = tl.load(end_ptr + state, mask, other=0.0)
    gT0 = zero
    gT1 = zero
    gT2 = zero
    gV0 = zero
    gV1 = zero
    gV2 = zero
    gB = zero
    pieces = tl.cdiv(length, SAMPLES)
    kept = b * pieces * size
    for back in range(0, pieces):
        piece = pieces - 1 - back
        x = tl.load(saved_ptr + (kept + piece * size)[:, None] + at, mask, other=0.0)
        # What the way back needs of these samples stays in registers.
        xs = ()
        zetas = ()
        inverses = ()
        us, dts = load_samples(
            u_ptr, dt_ptr, piece * SAMPLES, b, h, active, length, channels, REGULAR, REVERSE, SAMPLES
        )
        gys = load_outputs(
            gy_ptr, piece * SAMPLES, b, h, active, batch, length, channels, READOUTS, REVERSE, SAMPLES
        )
        for j in tl.static_range(SAMPLES):
            u = us[j]
            s = dts[j]
            x, zeta, inverse = advance(x, u[:, None], s[:, None], alpha, T, V, B, n, MODES)
            xs = xs + (x,)
            zetas = zetas + (zeta,)
            inverses = inverses + (inverse,)
        for k in tl.static_range(SAMPLES):
            t = piece * SAMPLES + SAMPLES - 1 - k
            there = active & (t < length)
            sample = (b * length + sample_at(t, length, REVERSE)) * channels + h
            u = us[SAMPLES - 1 - k][:, None]
            s = dts[SAMPLES - 1 - k][:, None]
            zeta = zetas[SAMPLES - 1 - k]
            inverse = inverses[SAMPLES - 1 - k]
            sums = ()
            for m in tl.static_range(READOUTS):
                gy = gys[(SAMPLES - 1 - k) * READOUTS + m][:, None]
                sums = sums + (gC[m] + gy * xs[SAMPLES - 1 - k],)
                back_x += gy * C[m]
            gC = sums
            M = difference(T, V, alpha * s)
            rho = solved_transposed(M, inverse, s * times_transposed(V, back_x, n, MODES))
            kappa = s * (back_x + alpha * rho)
            left = before(zeta, n)
            right = behind(zeta, n, MODES)
            gT0 -= rho * left
            gT1 -= rho * zeta
            gT2 -= rho * right
            gV0 += kappa * left
            gV1 += kappa * zeta
            gV2 += kappa * right
            gB += u * kappa
            gu = tl.sum(B * kappa, axis=1)
            if ADD:
                gu += tl.load(gu_ptr + sample, there, other=0.0)
            tl.store(gu_ptr + sample, gu, there)
            back_x += rho
    rows = by_mode_ptr + (b * (7 + READOUTS) * size)[:, None] + at
    inner = mask & (n > 0)
    upper = mask & (n + 1 < modes)
    # The entries outside of the matrices are not used.
    tl.store(rows, tl.where(inner, gT0, 0.0), mask)
    tl.store(rows + size, gT1, mask)
    tl.store(rows + 2 * size, tl.where(upper, gT2, 0.0), mask)
    tl.store(rows + 3 * size, tl.where(inner, gV0, 0.0), mask)
    tl.store(rows + 4 * size, gV1, mask)
    tl.store(rows + 5 * size, tl.where(upper, gV2, 0.0), mask)
    tl.store(rows + 6 * size, gB, mask)
    for m in tl.static_range(READOUTS):
        tl.store(rows + (7 + m) * size, gC[m], mask)
    if INITIAL:
        tl.store(gx_ptr + state, back_x, mask)
