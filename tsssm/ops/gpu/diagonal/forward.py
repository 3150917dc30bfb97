"""The passes of the diagonal scan over chunks: what each adds to the state, and the outputs."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from tsssm.ops.gpu.arithmetic import add_product, complex_expm1, multiply
from tsssm.ops.gpu.lanes import VARYING, load_pair, place, state_index, store_pair
from tsssm.ops.gpu.rules import FOH, GBT, coefficients, liquid_term, liquid_transition, system_of


@triton.jit
def advance(
    xr: tl.tensor,
    xi: tl.tensor,
    er: tl.tensor,
    ei: tl.tensor,
    wr: tl.tensor,
    wi: tl.tensor,
    br: tl.tensor,
    bi: tl.tensor,
    u: tl.tensor,
    v: tl.tensor,
    bound: tl.tensor,
    RULE: tl.constexpr,
    LIQUID: tl.constexpr,
) -> Any:
    """The state after a sample u; first-order hold alone looks at b and at v, the sample before.

    The bound is that of the liquid term, and ignored without one.
    """
    if LIQUID:
        gr, gi = liquid_term(er, ei, wr, wi, u, bound)
        tr, ti, _, _, _ = liquid_transition(er, ei, gr, gi, RULE)
        cr, ci = multiply(er, ei, wr, wi)
        nr, ni = add_product(xr + cr * u, xi + ci * u, tr, ti, xr, xi)
    elif RULE == FOH:
        drive = u - v
        nr, ni = add_product(xr + br * drive, xi + bi * drive, er, ei, xr + wr * v, xi + wi * v)
    else:
        nr, ni = add_product(xr, xi, er, ei, xr + wr * u, xi + wi * u)
    return nr, ni


@triton.jit(do_not_specialize=VARYING)
def scan_chunks(
    u_ptr: tl.tensor,
    v_ptr: tl.tensor,
    system_ptr: tl.tensor,
    C_ptr: tl.tensor,
    D_ptr: tl.tensor,
    step_ptr: tl.tensor,
    dt_ptr: tl.tensor,
    bound_ptr: tl.tensor,
    start_ptr: tl.tensor,
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
    RULE: tl.constexpr,
    REGULAR: tl.constexpr,
    LIQUID: tl.constexpr,
    REVERSE: tl.constexpr,
    UNEVEN: tl.constexpr,
    OUTPUTS: tl.constexpr,
    STARTED: tl.constexpr,
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

    ``OUTPUTS`` says which: the latter gives outputs, which ``ADD`` adds to those that are there.
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
    for n0 in range(0, BLOCKS * MODES, MODES):
        n = n0 + tl.arange(0, MODES)[None, :]
        mask = (n < modes) & active[:, None]
        index = tl.max_contiguous(n * channels + h[:, None], [2, 1])
        Ar, Ai, wr, wi, Br, Bi = system_of(system_ptr, index, size, mask)
        bound = wr
        if LIQUID:
            bound = tl.load(bound_ptr + index, mask, other=0.0)
        at = state_index(row, n, h, modes, channels)
        xr = tl.zeros((LANES, MODES), tl.float32)
        xi = tl.zeros((LANES, MODES), tl.float32)
        if STARTED and OUTPUTS:
            xr, xi = load_pair(start_ptr, at, size, mask)
        pr = xr + 1.0
        pi = tl.zeros_like(pr)
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
        if REGULAR:
            kr, ki, br, bi = coefficients(Ar, Ai, Br, Bi, step[:, None], alpha, RULE)
        for t0 in range(0, chunk, SAMPLES):
            if SAVE:
                kept = b * tl.cdiv(length, SAMPLES) + (c * chunk + t0) // SAMPLES
                keep = state_index(kept, n, h, modes, channels)
                alive = mask & (t0 < valid)[:, None]
                store_pair(saved_ptr, keep, size, xr, xi, alive)
            for t1 in range(t0, t0 + SAMPLES, GROUP):
                # All loads of a group are under way before the first is needed.
                us = ()
                vs = ()
                dts = ()
                for j in tl.static_range(GROUP):
                    there = t1 + j < valid
                    move = direction * (t1 + j)
                    us = us + (tl.load(u_ptr + sample + move * channels, there, other=0.0).to(tl.float32),)
                    if RULE == FOH:
                        vs = vs + (tl.load(v_ptr + sample + move * channels, there, other=0.0),)
                    if not REGULAR:
                        dts = dts + (tl.load(dt_ptr + time + move, there, other=0.0),)
                for j in tl.static_range(GROUP):
                    there = t1 + j < valid
                    u = us[j][:, None]
                    v = u
                    if RULE == FOH:
                        v = vs[j][:, None]
                    if not REGULAR:
                        elapsed += dts[j]
                        s = (step * dts[j])[:, None]
                        er, ei, br, bi = coefficients(Ar, Ai, Br, Bi, s, alpha, RULE)
                    elif UNEVEN:
                        elapsed += tl.where(there, 1.0, 0.0)
                        er = tl.where(there[:, None], kr, 0.0)
                        ei = tl.where(there[:, None], ki, 0.0)
                    else:
                        elapsed += 1.0
                        er = kr
                        ei = ki
                    if not OUTPUTS:
                        if LIQUID:
                            gr, gi = liquid_term(er, ei, wr, wi, u, bound)
                            tr, ti, _, _, _ = liquid_transition(er, ei, gr, gi, RULE)
                            pr, pi = add_product(pr, pi, tr, ti, pr, pi)
                        elif RULE == GBT:
                            pr, pi = add_product(pr, pi, er, ei, pr, pi)
                    xr, xi = advance(xr, xi, er, ei, wr, wi, br, bi, u, v, bound, RULE, LIQUID)
                    if OUTPUTS:
                        y = tl.sum(Cr * xr[:, :, None] - Ci * xi[:, :, None], axis=1)
                        move = direction * (t1 + j) * channels
                        write = readable & there[:, None]
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
                store_pair(final_ptr, state_index(b, n, h, modes, channels), size, xr, xi, last)
        else:
            if not LIQUID and RULE != GBT:
                whole = step * elapsed
                pr, pi = complex_expm1(Ar * whole[:, None], Ai * whole[:, None])
                pr += 1.0
            store_pair(end_ptr, at, size, xr, xi, mask)
            store_pair(product_ptr, at, size, pr, pi, mask)
