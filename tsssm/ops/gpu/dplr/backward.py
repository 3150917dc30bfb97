"""All gradients of a diagonal plus low-rank system."""

from __future__ import annotations

import triton
import triton.language as tl

from tsssm.ops.gpu.arithmetic import add_product_conjugate, multiply, multiply_conjugate
from tsssm.ops.gpu.dplr.steps import (
    advance,
    coefficients,
    combined,
    drive,
    load_rows,
    matrix_of,
    real_parts,
    solved,
)
from tsssm.ops.gpu.lanes import load_pair, store_pair
from tsssm.ops.gpu.whole import load_outputs, load_samples, place, sample_at


@triton.jit(do_not_specialize=("batch", "length"))
def gradients(
    gy_ptr: tl.tensor,
    u_ptr: tl.tensor,
    Lambda_ptr: tl.tensor,
    P_ptr: tl.tensor,
    Q_ptr: tl.tensor,
    B_ptr: tl.tensor,
    C_ptr: tl.tensor,
    D_ptr: tl.tensor,
    dt_ptr: tl.tensor,
    saved_ptr: tl.tensor,
    end_ptr: tl.tensor,
    gu_ptr: tl.tensor,
    by_mode_ptr: tl.tensor,
    gD_ptr: tl.tensor,
    gx_ptr: tl.tensor,
    batch: tl.tensor,
    length: tl.tensor,
    channels: tl.tensor,
    modes: tl.tensor,
    alpha: tl.tensor,
    RANK: tl.constexpr,
    READOUTS: tl.constexpr,
    REGULAR: tl.constexpr,
    REVERSE: tl.constexpr,
    ENDED: tl.constexpr,
    FEEDTHROUGH: tl.constexpr,
    ADD: tl.constexpr,
    INITIAL: tl.constexpr,
    MODES: tl.constexpr,
    LANES: tl.constexpr,
    SAMPLES: tl.constexpr,
) -> None:
    """From the last sample to the first, from the gradient of the final state if ``ENDED``.

    ``by_mode`` (series, row, part, channel, mode) gets the gradients of Lambda, B, the rows of P, those of Q
    and the readouts, and ``gD`` (series, readout, channel), both to be summed over the series.
    """
    active, b, h, mask, at = place(batch, channels, modes, LANES, MODES)
    size = channels * modes
    Lr, Li = load_pair(Lambda_ptr, at, size, mask)
    Br, Bi = load_pair(B_ptr, at, size, mask)
    Pr, Pi = load_rows(P_ptr, at, size, mask, RANK)
    Qr, Qi = load_rows(Q_ptr, at, size, mask, RANK)
    Cr, Ci = load_rows(C_ptr, at, size, mask, READOUTS)
    state = (2 * b * size)[:, None] + at
    zero = tl.zeros((LANES, MODES), tl.float32)
    lr = zero
    li = zero
    if ENDED:
        lr, li = load_pair(end_ptr, state, size, mask)
    gLr = zero
    gLi = zero
    gBr = zero
    gBi = zero
    gPr = ()
    gPi = ()
    gQr = ()
    gQi = ()
    for _ in tl.static_range(RANK):
        gPr = gPr + (zero,)
        gPi = gPi + (zero,)
        gQr = gQr + (zero,)
        gQi = gQi + (zero,)
    gCr = ()
    gCi = ()
    gD = ()
    for _ in tl.static_range(READOUTS):
        gCr = gCr + (zero,)
        gCi = gCi + (zero,)
        gD = gD + (tl.zeros((LANES,), tl.float32),)
    pieces = tl.cdiv(length, SAMPLES)
    kept = 2 * b * pieces * size
    for back in range(0, pieces):
        piece = pieces - 1 - back
        xr, xi = load_pair(saved_ptr, (kept + 2 * piece * size)[:, None] + at, size, mask)
        # The states of these samples stay in registers on the way back.
        xrs = (xr,)
        xis = (xi,)
        vs = ()
        us, dts = load_samples(
            u_ptr, dt_ptr, piece * SAMPLES, b, h, active, length, channels, REGULAR, REVERSE, SAMPLES
        )
        gys = load_outputs(
            gy_ptr, piece * SAMPLES, b, h, active, batch, length, channels, READOUTS, REVERSE, SAMPLES
        )
        for j in tl.static_range(SAMPLES):
            u = us[j]
            s = dts[j]
            xr, xi, v = advance(xr, xi, u, s, alpha, Lr, Li, Br, Bi, Pr, Pi, Qr, Qi, RANK)
            xrs = xrs + (xr,)
            xis = xis + (xi,)
            vs = vs + (v,)
        for k in tl.static_range(SAMPLES):
            t = piece * SAMPLES + SAMPLES - 1 - k
            there = active & (t < length)
            sample = (b * length + sample_at(t, length, REVERSE)) * channels + h
            u = us[SAMPLES - 1 - k]
            s = dts[SAMPLES - 1 - k]
            v = vs[SAMPLES - 1 - k]
            gu = tl.zeros((LANES,), tl.float32)
            sums_r = ()
            sums_i = ()
            sums = ()
            for m in tl.static_range(READOUTS):
                gy = gys[(SAMPLES - 1 - k) * READOUTS + m]
                sums_r = sums_r + (gCr[m] + gy[:, None] * xrs[SAMPLES - k],)
                sums_i = sums_i + (gCi[m] - gy[:, None] * xis[SAMPLES - k],)
                sums = sums + (gD[m] + gy * u,)
                lr += gy[:, None] * Cr[m]
                li -= gy[:, None] * Ci[m]
                if FEEDTHROUGH:
                    gu += gy * tl.load(D_ptr + m * channels + h, active, other=0.0)
            gCr = sums_r
            gCi = sums_i
            gD = sums
            er, ei, zr, zi = coefficients(Lr, Li, s[:, None], alpha)
            matrix = matrix_of(er, ei, s, alpha, Pr, Pi, Qr, Qi, RANK)
            pr, pi = multiply_conjugate(er, ei, lr, li)
            back_v = real_parts(Pr, Pi, -s[:, None] * pr, -s[:, None] * pi, RANK)
            c = solved(matrix, back_v, True, RANK)
            hr, hi = combined(Qr, Qi, c, RANK)
            hr, hi = multiply_conjugate(er, ei, hr, hi)
            kr = s[:, None] * (pr + alpha * hr)
            ki = s[:, None] * (pi + alpha * hi)
            wr, wi = drive(v, u, s, Br, Bi, Pr, Pi, RANK)
            x0r = xrs[SAMPLES - 1 - k]
            x0i = xis[SAMPLES - 1 - k]
            gr, gi = multiply(er, ei, x0r + alpha * wr, x0i + alpha * wi)
            gLr, gLi = add_product_conjugate(gLr, gLi, gr, gi, kr, ki)
            gBr += u[:, None] * kr
            gBi += u[:, None] * ki
            sums_r = ()
            sums_i = ()
            more_r = ()
            more_i = ()
            for r in tl.static_range(RANK):
                sums_r = sums_r + (gPr[r] - v[r][:, None] * kr,)
                sums_i = sums_i + (gPi[r] - v[r][:, None] * ki,)
                more_r = more_r + (gQr[r] + c[r][:, None] * gr,)
                more_i = more_i + (gQi[r] + c[r][:, None] * gi,)
            gPr = sums_r
            gPi = sums_i
            gQr = more_r
            gQi = more_i
            gu += tl.sum(Br * kr + Bi * ki, axis=1)
            if ADD:
                gu += tl.load(gu_ptr + sample, there, other=0.0)
            tl.store(gu_ptr + sample, gu, there)
            nr, ni = add_product_conjugate(lr, li, zr, zi, lr, li)
            lr = nr + hr
            li = ni + hi
    rows = (b * (2 + 2 * RANK + READOUTS) * 2 * size)[:, None] + at
    store_pair(by_mode_ptr, rows, size, gLr, gLi, mask)
    store_pair(by_mode_ptr, rows + 2 * size, size, gBr, gBi, mask)
    for r in tl.static_range(RANK):
        store_pair(by_mode_ptr, rows + (4 + 2 * r) * size, size, gPr[r], gPi[r], mask)
        store_pair(by_mode_ptr, rows + (4 + 2 * RANK + 2 * r) * size, size, gQr[r], gQi[r], mask)
    for m in tl.static_range(READOUTS):
        store_pair(by_mode_ptr, rows + (4 + 4 * RANK + 2 * m) * size, size, gCr[m], gCi[m], mask)
        tl.store(gD_ptr + (b * READOUTS + m) * channels + h, gD[m], active)
    if INITIAL:
        store_pair(gx_ptr, state, size, lr, li, mask)
