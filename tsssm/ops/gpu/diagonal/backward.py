"""The last pass of the adjoint of the diagonal scan: all gradients of every chunk."""

from __future__ import annotations

import triton
import triton.language as tl

from tsssm.ops.gpu.arithmetic import add_product_conjugate, multiply, multiply_conjugate, to_disc_adjoint
from tsssm.ops.gpu.diagonal.forward import advance
from tsssm.ops.gpu.lanes import VARYING, load_pair, place, state_index, store_by_mode, store_pair
from tsssm.ops.gpu.rules import (
    FOH,
    GBT,
    clipped,
    clipped_adjoint,
    coefficients,
    liquid_term,
    liquid_transition,
    of_A_and_B,
    system_gradients,
    system_of,
)


@triton.jit(do_not_specialize=VARYING)
def gradients(
    gy_ptr: tl.tensor,
    u_ptr: tl.tensor,
    v_ptr: tl.tensor,
    system_ptr: tl.tensor,
    C_ptr: tl.tensor,
    D_ptr: tl.tensor,
    step_ptr: tl.tensor,
    dt_ptr: tl.tensor,
    bound_ptr: tl.tensor,
    saved_ptr: tl.tensor,
    end_ptr: tl.tensor,
    gu_ptr: tl.tensor,
    gv_ptr: tl.tensor,
    by_mode_ptr: tl.tensor,
    by_bound_ptr: tl.tensor,
    by_channel_ptr: tl.tensor,
    gx_ptr: tl.tensor,
    batch: tl.tensor,
    length: tl.tensor,
    channels: tl.tensor,
    modes: tl.tensor,
    readouts: tl.tensor,
    chunk: tl.tensor,
    chunks: tl.tensor,
    alpha: tl.tensor,
    RULE: tl.constexpr,
    REGULAR: tl.constexpr,
    LIQUID: tl.constexpr,
    REVERSE: tl.constexpr,
    UNEVEN: tl.constexpr,
    FEEDTHROUGH: tl.constexpr,
    ADD: tl.constexpr,
    INITIAL: tl.constexpr,
    READOUTS: tl.constexpr,
    MODES: tl.constexpr,
    BLOCKS: tl.constexpr,
    LANES: tl.constexpr,
    SAMPLES: tl.constexpr,
    GROUP: tl.constexpr,
) -> None:
    """All gradients of every chunk, given its states and what comes back to its end (``end``).

    ``by_mode`` (row, 2 + readouts, part, mode, channel) gets the gradients of A, B and C, ``by_channel``
    (row, 1 + readouts, channel) those of the step and of D, and ``by_bound`` (row, mode, channel) those of
    the bounds of a liquid term, to be summed over rows: the chunks of all series.
    """
    active, b, c, h = place(batch, chunks, channels, LANES)
    row = b * chunks + c
    valid = tl.where(active, tl.minimum(chunk, length - c * chunk), 0)
    first = length - 1 - c * chunk if REVERSE else c * chunk
    direction = -1 if REVERSE else 1
    time = b.to(tl.int64) * length + first
    sample = time * channels + h
    step = tl.load(step_ptr + h, active, other=0.0)
    m = tl.arange(0, READOUTS)[None, :]
    readable = (m < readouts) & active[:, None]
    output = tl.max_contiguous(m.to(tl.int64) * batch * length * channels + sample[:, None], [2, 1])
    gstep = tl.zeros((LANES,), tl.float32)
    gD = tl.zeros((LANES, READOUTS), tl.float32)
    kept = b * tl.cdiv(length, SAMPLES) + c * chunk // SAMPLES
    size = modes * channels

    for n0 in range(0, BLOCKS * MODES, MODES):
        n = n0 + tl.arange(0, MODES)[None, :]
        mask = (n < modes) & active[:, None]
        index = tl.max_contiguous(n * channels + h[:, None], [2, 1])
        Ar, Ai, wr, wi, Br, Bi = system_of(system_ptr, index, size, mask)
        bound = wr
        if LIQUID:
            bound = tl.load(bound_ptr + index, mask, other=0.0)
        C_index = (2 * size * m)[:, None, :] + index[:, :, None]
        C_mask = (m < readouts)[:, None, :] & mask[:, :, None]
        Cr, Ci = load_pair(C_ptr, C_index, size, C_mask)
        if FEEDTHROUGH:
            D = tl.load(
                D_ptr + tl.max_contiguous(m * channels + h[:, None], [2, 1]), readable & (n0 == 0), other=0.0
            )
        at = state_index(row, n, h, modes, channels)
        lr, li = load_pair(end_ptr, at, size, mask)
        zero = tl.zeros((LANES, MODES), tl.float32)
        # Sums over time of the arguments of `system_gradients` (regular grid) or of its results.
        g1r = zero
        g1i = zero
        g2r = zero
        g2i = zero
        g3r = zero
        g3i = zero
        g_bound = zero
        # Zero, but computed from C, so that the compiler keeps it where C is, in the same threads.
        gCr = tl.where(C_mask, 0.0, Cr)
        gCi = gCr
        if REGULAR:
            kr, ki, br, bi = coefficients(Ar, Ai, Br, Bi, step[:, None], alpha, RULE)
        for back in range(0, chunk, GROUP):
            t0 = chunk - GROUP - back
            # From the last state that was kept to that before these samples.
            nearest = t0 // SAMPLES * SAMPLES
            keep = state_index(kept + t0 // SAMPLES, n, h, modes, channels)
            alive = mask & (nearest < valid)[:, None]
            xr, xi = load_pair(saved_ptr, keep, size, alive)
            for t in range(nearest, t0):
                there = t < valid
                move = direction * t
                u = tl.load(u_ptr + sample + move * channels, there, other=0.0).to(tl.float32)[:, None]
                v = u
                if RULE == FOH:
                    v = tl.load(v_ptr + sample + move * channels, there, other=0.0)[:, None]
                if not REGULAR:
                    dt = tl.load(dt_ptr + time + move, there, other=0.0)
                    er, ei, br, bi = coefficients(Ar, Ai, Br, Bi, (step * dt)[:, None], alpha, RULE)
                elif UNEVEN:
                    er = tl.where(there[:, None], kr, 0.0)
                    ei = tl.where(there[:, None], ki, 0.0)
                else:
                    er = kr
                    ei = ki
                xr, xi = advance(xr, xi, er, ei, wr, wi, br, bi, u, v, bound, RULE, LIQUID)
            # The states and the coefficients of these samples stay in registers on the way back.
            xrs = (xr,)
            xis = (xi,)
            us = ()
            vs = ()
            dts = ()
            ers = ()
            eis = ()
            brs = ()
            bis = ()
            for j in tl.static_range(GROUP):
                there = t0 + j < valid
                move = direction * (t0 + j)
                us = us + (tl.load(u_ptr + sample + move * channels, there, other=0.0).to(tl.float32),)
                if RULE == FOH:
                    vs = vs + (tl.load(v_ptr + sample + move * channels, there, other=0.0),)
                if not REGULAR:
                    dts = dts + (tl.load(dt_ptr + time + move, there, other=0.0),)
            for j in tl.static_range(GROUP):
                u = us[j][:, None]
                v = u
                if RULE == FOH:
                    v = vs[j][:, None]
                if not REGULAR:
                    er, ei, br, bi = coefficients(Ar, Ai, Br, Bi, (step * dts[j])[:, None], alpha, RULE)
                elif UNEVEN:
                    there = (t0 + j < valid)[:, None]
                    er = tl.where(there, kr, 0.0)
                    ei = tl.where(there, ki, 0.0)
                else:
                    er = kr
                    ei = ki
                ers = ers + (er,)
                eis = eis + (ei,)
                brs = brs + (br,)
                bis = bis + (bi,)
                xr, xi = advance(xr, xi, er, ei, wr, wi, br, bi, u, v, bound, RULE, LIQUID)
                xrs = xrs + (xr,)
                xis = xis + (xi,)
            for k in tl.static_range(GROUP):
                there = t0 + GROUP - 1 - k < valid
                move = direction * (t0 + GROUP - 1 - k) * channels
                write = readable & there[:, None]
                gy = tl.load(gy_ptr + output + move, write, other=0.0).to(tl.float32)
                u = us[GROUP - 1 - k][:, None]
                v = u
                if RULE == FOH:
                    v = vs[GROUP - 1 - k][:, None]
                er = ers[GROUP - 1 - k]
                ei = eis[GROUP - 1 - k]
                br = brs[GROUP - 1 - k]
                bi = bis[GROUP - 1 - k]
                gCr += gy[:, None, :] * xrs[GROUP - k][:, :, None]
                gCi -= gy[:, None, :] * xis[GROUP - k][:, :, None]
                lr += tl.sum(Cr * gy[:, None, :], axis=2)
                li -= tl.sum(Ci * gy[:, None, :], axis=2)
                # t: gradient of the transition; a: of B_bar / B.
                tr, ti = multiply_conjugate(xrs[GROUP - 1 - k], xis[GROUP - 1 - k], lr, li)
                ar = lr * v
                ai = li * v
                if LIQUID:
                    gr, gi = liquid_term(er, ei, wr, wi, u, bound)
                    fr, fi, pr, pi, factor = liquid_transition(er, ei, gr, gi, RULE)
                    if RULE == GBT:
                        tr, ti = to_disc_adjoint(pr, pi, factor, tr, ti)
                    acting = clipped(u, bound)
                    ar += tr * acting
                    ai += ti * acting
                    cr, ci = multiply(er, ei, wr, wi)
                    by_input, by_bound = clipped_adjoint(u, bound, cr * tr + ci * ti)
                    gu = tl.sum(cr * lr + ci * li + by_input, axis=1)
                    g_bound += by_bound
                else:
                    fr = er
                    fi = ei
                    mr, mi = multiply_conjugate(er, ei, lr, li)
                    gu = tl.sum(wr * mr + wi * mi, axis=1)
                dr = zero
                di = zero
                if RULE == FOH:
                    gv = gu
                    gu = tl.sum(br * lr + bi * li, axis=1)
                    gv = gv - gu
                    dr = lr * (u - v)
                    di = li * (u - v)
                if REGULAR:
                    if UNEVEN:
                        tr = tl.where(there[:, None], tr, 0.0)
                        ti = tl.where(there[:, None], ti, 0.0)
                    g1r += tr
                    g1i += ti
                    g2r += ar
                    g2i += ai
                    g3r += dr
                    g3i += di
                else:
                    s = (step * dts[GROUP - 1 - k])[:, None]
                    tr, ti, qr, qi, hr, hi = system_gradients(
                        tr, ti, ar, ai, dr, di, Ar, Ai, er, ei, s, alpha, RULE
                    )
                    g1r += tr
                    g1i += ti
                    g2r += qr
                    g2i += qi
                    g3r += hr
                    g3i += hi
                lr, li = add_product_conjugate(lr, li, fr, fi, lr, li)
                if FEEDTHROUGH:
                    gu += tl.sum(D * gy, axis=1)
                    gD += gy * u
                if ADD:
                    gu += tl.load(gu_ptr + sample + move, there, other=0.0)
                elif BLOCKS > 1:
                    gu += tl.load(gu_ptr + sample + move, there & (n0 > 0), other=0.0)
                tl.store(gu_ptr + sample + move, gu, there)
                if RULE == FOH:
                    if BLOCKS > 1:
                        gv += tl.load(gv_ptr + sample + move, there & (n0 > 0), other=0.0)
                    tl.store(gv_ptr + sample + move, gv, there)
        if REGULAR:
            g1r, g1i, g2r, g2i, g3r, g3i = system_gradients(
                g1r, g1i, g2r, g2i, g3r, g3i, Ar, Ai, kr, ki, step[:, None], alpha, RULE
            )
        gAr, gAi, gBr, gBi = of_A_and_B(g1r, g1i, g2r, g2i, g3r, g3i, Ar, Ai, Br, Bi)
        # Only the products of the step with A and B matter.
        gstep += tl.sum(Ar * gAr + Ai * gAi + Br * gBr + Bi * gBi, axis=1)
        store_by_mode(
            by_mode_ptr, row, n, h, m, modes, channels, readouts, gAr, gAi, gBr, gBi, gCr, gCi, mask, C_mask
        )
        if LIQUID:
            of_bound = (row.to(tl.int64)[:, None] * modes + n) * channels + h[:, None]
            tl.store(by_bound_ptr + tl.max_contiguous(of_bound, [2, 1]), g_bound, mask)
        if FEEDTHROUGH:
            by_channel = tl.max_contiguous(
                (row.to(tl.int64) * (1 + readouts))[:, None] * channels + h[:, None], [2, 1]
            )
            tl.store(by_channel_ptr + by_channel + (1 + m) * channels, gD, readable & (n0 == 0))
        if INITIAL:
            start = mask & (c == 0)[:, None]
            store_pair(gx_ptr, state_index(b, n, h, modes, channels), size, lr, li, start)
    gstep = gstep / tl.maximum(step, 1e-30)
    tl.store(by_channel_ptr + row.to(tl.int64) * (1 + readouts) * channels + h, gstep, active)
