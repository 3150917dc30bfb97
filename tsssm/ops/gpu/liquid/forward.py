"""The forward pass of the scan of Liquid-S4 over chunks: what each adds to the state, and the outputs."""

from __future__ import annotations

import triton
import triton.language as tl

from tsssm.ops.gpu.arithmetic import bounded, complex_expm1
from tsssm.ops.gpu.lanes import VARYING, load_pair, place, state_index
from tsssm.ops.gpu.liquid.forms import EXACT, advance, inputs_of, step_of
from tsssm.ops.gpu.liquid.past import earlier
from tsssm.ops.gpu.rules import GBT, coefficients, system_of
from tsssm.ops.gpu.slots import constant, coupling, load_slots, store_slots, through


@triton.jit(do_not_specialize=VARYING)
def scan_chunks(
    u_ptr: tl.tensor,
    system_ptr: tl.tensor,
    C_ptr: tl.tensor,
    D_ptr: tl.tensor,
    step_ptr: tl.tensor,
    dt_ptr: tl.tensor,
    bound_ptr: tl.tensor,
    origin_ptr: tl.tensor,
    start_ptr: tl.tensor,
    past_ptr: tl.tensor,
    y_ptr: tl.tensor,
    end_ptr: tl.tensor,
    product_ptr: tl.tensor,
    saved_ptr: tl.tensor,
    final_ptr: tl.tensor,
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
    OUTPUTS: tl.constexpr,
    STARTED: tl.constexpr,
    REMEMBERED: tl.constexpr,
    FEEDTHROUGH: tl.constexpr,
    ADD: tl.constexpr,
    SAVE: tl.constexpr,
    FINAL: tl.constexpr,
    READOUTS: tl.constexpr,
    MODES: tl.constexpr,
    BLOCKS: tl.constexpr,
    LANES: tl.constexpr,
    SAMPLES: tl.constexpr,
    GROUP: tl.constexpr,
) -> None:
    """Run every chunk: from rest, for its end and the product of its transitions, or from its start.

    ``OUTPUTS`` says which: the latter gives outputs, which ``ADD`` adds to those that are there. Slots are
    what passes from chunk to chunk: the chain, or x alone, because past inputs are known beforehand; those
    before the first sample are in ``past`` (slot, series, part, mode, channel) if they are ``REMEMBERED``.
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

    size = modes * channels
    saves = tl.cdiv(length, SAMPLES)
    for n0 in range(0, BLOCKS * MODES, MODES):
        n = n0 + tl.arange(0, MODES)[None, :]
        mask = (n < modes) & active[:, None]
        index = tl.max_contiguous(n * channels + h[:, None], [2, 1])
        Ar, Ai, wr, wi, Br, Bi = system_of(system_ptr, index, size, mask)
        bound = wr
        if KERNEL == EXACT:
            bound = tl.load(bound_ptr + index, mask, other=0.0)
        kr = Ar
        ki = Ai
        if REGULAR:
            kr, ki, _, _ = coefficients(Ar, Ai, Br, Bi, step[:, None], alpha, RULE)
        zero = tl.zeros((LANES, MODES), tl.float32)
        xr = constant(zero, SLOTS)
        xi = constant(zero, SLOTS)
        if STARTED and OUTPUTS:
            xr, xi = load_slots(start_ptr, row, batch * chunks, n, h, modes, channels, mask, SLOTS)
        for j in tl.static_range(ORDER - SLOTS):
            number, _, _, _, _, ar, ai = earlier(
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
            ar, ai, _ = bounded(ar, ai)
            if REMEMBERED:
                old = (number < 0)[:, None]
                at = state_index((-1 - number) * batch + b, n, h, modes, channels)
                br, bi = load_pair(past_ptr, at, size, mask & old)
                ar = tl.where(old, br, ar)
                ai = tl.where(old, bi, ai)
            xr = xr + (ar,)
            xi = xi + (ai,)
        pr = constant(zero + 1.0, SLOTS)
        pi = constant(zero, SLOTS)
        elapsed = tl.zeros((LANES,), tl.float32)
        if OUTPUTS:
            C_index = (2 * size * m)[:, None, :] + index[:, :, None]
            Cr, Ci = load_pair(C_ptr, C_index, size, (m < readouts)[:, None, :] & mask[:, :, None])
            if FEEDTHROUGH:
                D = tl.load(
                    D_ptr + tl.max_contiguous(m * channels + h[:, None], [2, 1]),
                    readable & (n0 == 0),
                    other=0.0,
                )
        for t0 in range(0, chunk, SAMPLES):
            if SAVE:
                kept = b * saves + (c * chunk + t0) // SAMPLES
                alive = mask & (t0 < valid)[:, None]
                store_slots(saved_ptr, kept, batch * saves, n, h, modes, channels, xr, xi, alive, ORDER)
            for t1 in range(t0, t0 + SAMPLES, GROUP):
                # All loads of a group are under way before the first is needed.
                us = ()
                dts = ()
                for j in tl.static_range(GROUP):
                    there = t1 + j < valid
                    move = direction * (t1 + j)
                    us = us + (tl.load(u_ptr + sample + move * channels, there, other=0.0).to(tl.float32),)
                    if REGULAR:
                        dts = dts + (tl.where(there, 1.0, 0.0),)
                    else:
                        dts = dts + (tl.load(dt_ptr + time + move, there, other=0.0),)
                for j in tl.static_range(GROUP):
                    there = (t1 + j < valid)[:, None]
                    u = us[j][:, None]
                    elapsed += dts[j]
                    s = (step * dts[j])[:, None]
                    er, ei, counts = step_of(Ar, Ai, Br, Bi, s, kr, ki, there, alpha, RULE, REGULAR, UNEVEN)
                    ar, ai, vr, vi = inputs_of(er, ei, wr, wi, u, bound, KERNEL)
                    if not OUTPUTS:
                        if KERNEL == EXACT:
                            gr, gi, _, _, _ = coupling(er, ei, vr, vi, RULE)
                            pr, pi = through(pr, pi, er, ei, gr, gi, SLOTS)
                        elif RULE == GBT:
                            pr, pi = through(pr, pi, er, ei, ar, ai, SLOTS)
                    xr, xi, sr, si = advance(xr, xi, er, ei, ar, ai, vr, vi, counts, KERNEL, ORDER, RULE)
                    if OUTPUTS:
                        y = tl.sum(Cr * sr[:, :, None] - Ci * si[:, :, None], axis=1)
                        move = direction * (t1 + j) * channels
                        write = readable & there
                        if FEEDTHROUGH:
                            y += D * u
                        if ADD:
                            y += tl.load(y_ptr + output + move, write, other=0.0)
                        elif BLOCKS > 1:
                            y += tl.load(y_ptr + output + move, write & (n0 > 0), other=0.0)
                        tl.store(y_ptr + output + move, y, write)
        if OUTPUTS:
            if FINAL:
                last = mask & (c == chunks - 1)[:, None]
                store_slots(final_ptr, b, batch, n, h, modes, channels, xr, xi, last, ORDER)
        else:
            if KERNEL != EXACT and RULE != GBT:
                whole = (step * elapsed)[:, None]
                real, imaginary = complex_expm1(Ar * whole, Ai * whole)
                pr = (real + 1.0,)
                pi = (imaginary,)
            store_slots(end_ptr, row, batch * chunks, n, h, modes, channels, xr, xi, mask, SLOTS)
            store_slots(product_ptr, row, batch * chunks, n, h, modes, channels, pr, pi, mask, SLOTS)
