"""The last pass of the adjoint of the scan of Liquid-S4: all gradients of every chunk."""

from __future__ import annotations

import triton
import triton.language as tl

from tsssm.ops.gpu.arithmetic import multiply, multiply_conjugate
from tsssm.ops.gpu.lanes import VARYING, load_pair, place, state_index, store_by_mode, store_pair
from tsssm.ops.gpu.liquid.forms import (
    EXACT,
    advance,
    bounded_adjoint,
    chain_adjoint,
    correlation_adjoint,
    inputs_of,
    step_of,
)
from tsssm.ops.gpu.liquid.past import earlier
from tsssm.ops.gpu.rules import (
    clipped,
    clipped_adjoint,
    coefficients,
    of_A_and_B,
    system_gradients,
    system_of,
)
from tsssm.ops.gpu.slots import load_slots, store_slots


@triton.jit(do_not_specialize=VARYING)
def gradients(
    gy_ptr: tl.tensor,
    u_ptr: tl.tensor,
    system_ptr: tl.tensor,
    C_ptr: tl.tensor,
    D_ptr: tl.tensor,
    step_ptr: tl.tensor,
    dt_ptr: tl.tensor,
    bound_ptr: tl.tensor,
    origin_ptr: tl.tensor,
    saved_ptr: tl.tensor,
    end_ptr: tl.tensor,
    final_ptr: tl.tensor,
    gu_ptr: tl.tensor,
    by_mode_ptr: tl.tensor,
    by_bound_ptr: tl.tensor,
    by_channel_ptr: tl.tensor,
    by_past_ptr: tl.tensor,
    gx_ptr: tl.tensor,
    gpast_ptr: tl.tensor,
    batch: tl.tensor,
    length: tl.tensor,
    channels: tl.tensor,
    modes: tl.tensor,
    readouts: tl.tensor,
    chunk: tl.tensor,
    chunks: tl.tensor,
    alpha: tl.tensor,
    KERNEL: tl.constexpr,
    ORDER: tl.constexpr,
    SLOTS: tl.constexpr,
    RULE: tl.constexpr,
    REGULAR: tl.constexpr,
    REVERSE: tl.constexpr,
    UNEVEN: tl.constexpr,
    FEEDTHROUGH: tl.constexpr,
    ADD: tl.constexpr,
    FINAL: tl.constexpr,
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
    (row, 1 + readouts, channel) those of the step and of D, and ``by_bound`` (row, mode, channel) for EXACT
    those of the bounds, to be summed over rows: the chunks of all series.

    A chunk looks back on the inputs before it. What it sends back to them goes into the gradients of the
    system at once; that of u into ``by_past`` (row, input, channel), because another program has the sample,
    and that of the initial state into ``gpast`` (input, row, part, mode, channel). ``final`` (slot, series,
    part, mode, channel) has the gradients of the inputs in the final state.
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
    saves = tl.cdiv(length, SAMPLES)
    kept = b * saves + c * chunk // SAMPLES
    size = modes * channels

    for n0 in range(0, BLOCKS * MODES, MODES):
        n = n0 + tl.arange(0, MODES)[None, :]
        mask = (n < modes) & active[:, None]
        index = tl.max_contiguous(n * channels + h[:, None], [2, 1])
        Ar, Ai, wr, wi, Br, Bi = system_of(system_ptr, index, size, mask)
        bound = wr
        if KERNEL == EXACT:
            bound = tl.load(bound_ptr + index, mask, other=0.0)
        C_index = (2 * size * m)[:, None, :] + index[:, :, None]
        C_mask = (m < readouts)[:, None, :] & mask[:, :, None]
        Cr, Ci = load_pair(C_ptr, C_index, size, C_mask)
        if FEEDTHROUGH:
            D = tl.load(
                D_ptr + tl.max_contiguous(m * channels + h[:, None], [2, 1]), readable & (n0 == 0), other=0.0
            )
        kr = Ar
        ki = Ai
        if REGULAR:
            kr, ki, _, _ = coefficients(Ar, Ai, Br, Bi, step[:, None], alpha, RULE)
        zero = tl.zeros((LANES, MODES), tl.float32)
        lr, li = load_slots(end_ptr, row, batch * chunks, n, h, modes, channels, mask, SLOTS)
        for q in tl.static_range(ORDER - SLOTS):
            real = zero
            imaginary = zero
            if FINAL:
                at = state_index((SLOTS + q) * batch + b, n, h, modes, channels)
                real, imaginary = load_pair(final_ptr, at, size, mask & (c == chunks - 1)[:, None])
            lr = lr + (real,)
            li = li + (imaginary,)
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
        for back in range(0, chunk, GROUP):
            t0 = chunk - GROUP - back
            # From the last state that was kept to that before these samples.
            nearest = t0 // SAMPLES * SAMPLES
            alive = mask & (nearest < valid)[:, None]
            xr, xi = load_slots(
                saved_ptr, kept + t0 // SAMPLES, batch * saves, n, h, modes, channels, alive, ORDER
            )
            for t in range(nearest, t0):
                there = t < valid
                move = direction * t
                u = tl.load(u_ptr + sample + move * channels, there, other=0.0).to(tl.float32)[:, None]
                s = step[:, None]
                if not REGULAR:
                    s = s * tl.load(dt_ptr + time + move, there, other=0.0)[:, None]
                er, ei, counts = step_of(
                    Ar, Ai, Br, Bi, s, kr, ki, there[:, None], alpha, RULE, REGULAR, UNEVEN
                )
                ar, ai, vr, vi = inputs_of(er, ei, wr, wi, u, bound, KERNEL)
                xr, xi, _, _ = advance(xr, xi, er, ei, ar, ai, vr, vi, counts, KERNEL, ORDER, RULE)
            # The states and the coefficients of these samples stay in registers on the way back.
            xrs = ()
            xis = ()
            us = ()
            gys = ()
            steps = ()
            ers = ()
            eis = ()
            for j in tl.static_range(GROUP):
                there = t0 + j < valid
                move = direction * (t0 + j)
                us = us + (tl.load(u_ptr + sample + move * channels, there, other=0.0).to(tl.float32),)
                gy = tl.load(gy_ptr + output + move * channels, readable & there[:, None], other=0.0)
                gys = gys + (gy.to(tl.float32),)
                s = step
                if not REGULAR:
                    s = s * tl.load(dt_ptr + time + move, there, other=0.0)
                steps = steps + (s,)
            for j in tl.static_range(GROUP):
                there = (t0 + j < valid)[:, None]
                er, ei, counts = step_of(
                    Ar, Ai, Br, Bi, steps[j][:, None], kr, ki, there, alpha, RULE, REGULAR, UNEVEN
                )
                ers = ers + (er,)
                eis = eis + (ei,)
                xrs = xrs + (xr,)
                xis = xis + (xi,)
                ar, ai, vr, vi = inputs_of(er, ei, wr, wi, us[j][:, None], bound, KERNEL)
                xr, xi, sr, si = advance(xr, xi, er, ei, ar, ai, vr, vi, counts, KERNEL, ORDER, RULE)
                gCr += gys[j][:, None, :] * sr[:, :, None]
                gCi -= gys[j][:, None, :] * si[:, :, None]
            for k in tl.static_range(GROUP):
                there = t0 + GROUP - 1 - k < valid
                u = us[GROUP - 1 - k][:, None]
                gy = gys[GROUP - 1 - k]
                s = steps[GROUP - 1 - k][:, None]
                er = ers[GROUP - 1 - k]
                ei = eis[GROUP - 1 - k]
                ar, ai, vr, vi = inputs_of(er, ei, wr, wi, u, bound, KERNEL)
                gr = tl.sum(Cr * gy[:, None, :], axis=2)
                gi = -tl.sum(Ci * gy[:, None, :], axis=2)
                # Gradients; t: of the transition; a: of the input of the mode, v: of its liquid term.
                if KERNEL == EXACT:
                    lr, li, tr, ti, ar, ai, vr, vi = chain_adjoint(
                        lr, li, xrs[GROUP - 1 - k], xis[GROUP - 1 - k], er, ei, vr, vi, gr, gi, ORDER, RULE
                    )
                    br, bi = multiply(er, ei, wr, wi)
                    by_input, by_bound = clipped_adjoint(u, bound, br * vr + bi * vi)
                    gu = tl.sum(br * ar + bi * ai + by_input, axis=1)
                    g_bound += by_bound
                    # From here on a: of B_bar / B.
                    acting = clipped(u, bound)
                    ar = ar * u + vr * acting
                    ai = ai * u + vi * acting
                else:
                    counts = there[:, None]
                    if not REGULAR:
                        counts = s > 0.0
                    lr, li, tr, ti, ar, ai = correlation_adjoint(
                        lr,
                        li,
                        xrs[GROUP - 1 - k],
                        xis[GROUP - 1 - k],
                        er,
                        ei,
                        ar,
                        ai,
                        gr,
                        gi,
                        counts,
                        KERNEL,
                        ORDER,
                    )
                    br, bi = multiply_conjugate(er, ei, ar, ai)
                    gu = tl.sum(wr * br + wi * bi, axis=1)
                    ar *= u
                    ai *= u
                if REGULAR:
                    if UNEVEN:
                        tr = tl.where(there[:, None], tr, 0.0)
                        ti = tl.where(there[:, None], ti, 0.0)
                    g1r += tr
                    g1i += ti
                    g2r += ar
                    g2i += ai
                else:
                    tr, ti, qr, qi, pr, pi = system_gradients(
                        tr, ti, ar, ai, zero, zero, Ar, Ai, er, ei, s, alpha, RULE
                    )
                    g1r += tr
                    g1i += ti
                    g2r += qr
                    g2i += qi
                    g3r += pr
                    g3i += pi
                move = direction * (t0 + GROUP - 1 - k) * channels
                if FEEDTHROUGH:
                    gu += tl.sum(D * gy, axis=1)
                    gD += gy * u
                if ADD:
                    gu += tl.load(gu_ptr + sample + move, there, other=0.0)
                elif BLOCKS > 1:
                    gu += tl.load(gu_ptr + sample + move, there & (n0 > 0), other=0.0)
                tl.store(gu_ptr + sample + move, gu, there)
        for j in tl.static_range(ORDER - SLOTS):
            number, u, s, er, ei, ar, ai = earlier(
                u_ptr,
                dt_ptr,
                origin_ptr,
                j,
                b,
                c,
                h,
                active,
                Ar,
                Ai,
                Br,
                Bi,
                wr,
                wi,
                step,
                kr,
                ki,
                length,
                channels,
                chunk,
                chunks,
                alpha,
                RULE,
                REGULAR,
                REVERSE,
                ORDER - SLOTS,
            )
            if INITIAL:
                at = state_index(row + j * batch * chunks, n, h, modes, channels)
                before = mask & (number < 0)[:, None]
                store_pair(gpast_ptr, at, size, lr[SLOTS + j], li[SLOTS + j], before)
            ar, ai = bounded_adjoint(ar, ai, lr[SLOTS + j], li[SLOTS + j])
            br, bi = multiply_conjugate(er, ei, ar, ai)
            gu = tl.sum(wr * br + wi * bi, axis=1)
            if REGULAR:
                g2r += ar * u
                g2i += ai * u
            else:
                _, _, qr, qi, pr, pi = system_gradients(
                    zero, zero, ar * u, ai * u, zero, zero, Ar, Ai, er, ei, s, alpha, RULE
                )
                g2r += qr
                g2i += qi
                g3r += pr
                g3i += pi
            to = by_past_ptr + (row.to(tl.int64) * (ORDER - SLOTS) + j) * channels + h
            if BLOCKS > 1:
                gu += tl.load(to, active & (n0 > 0), other=0.0)
            tl.store(to, gu, active)
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
        if KERNEL == EXACT:
            of_bound = (row.to(tl.int64)[:, None] * modes + n) * channels + h[:, None]
            tl.store(by_bound_ptr + tl.max_contiguous(of_bound, [2, 1]), g_bound, mask)
        if FEEDTHROUGH:
            by_channel = tl.max_contiguous(
                (row.to(tl.int64) * (1 + readouts))[:, None] * channels + h[:, None], [2, 1]
            )
            tl.store(by_channel_ptr + by_channel + (1 + m) * channels, gD, readable & (n0 == 0))
        if INITIAL:
            start = mask & (c == 0)[:, None]
            store_slots(gx_ptr, b, batch, n, h, modes, channels, lr, li, start, SLOTS)
    gstep = gstep / tl.maximum(step, 1e-30)
    tl.store(by_channel_ptr + row.to(tl.int64) * (1 + readouts) * channels + h, gstep, active)
