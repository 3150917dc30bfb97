"""Passes over chunks of time that are the same for every operation, with states of one or several slots."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from tsssm.ops.gpu.arithmetic import add_product, add_product_conjugate, complex_expm1
from tsssm.ops.gpu.lanes import VARYING, load_pair, place, store_pair
from tsssm.ops.gpu.rules import GBT, coefficients, liquid_term, liquid_transition, system_of
from tsssm.ops.gpu.slots import add_to_each, constant, coupling, store_slots, through, through_adjoint


@triton.jit(do_not_specialize=VARYING)
def join_chunks(
    initial_ptr: tl.tensor,
    end_ptr: tl.tensor,
    product_ptr: tl.tensor,
    start_ptr: tl.tensor,
    batch: tl.tensor,
    chunks: tl.tensor,
    modes: tl.tensor,
    channels: tl.tensor,
    ADJOINT: tl.constexpr,
    INITIAL: tl.constexpr,
    SLOTS: tl.constexpr,
    LANES: tl.constexpr,
    GROUP: tl.constexpr,
) -> None:
    """The state that each chunk starts from, given what each adds to it and by what it multiplies it.

    With ``ADJOINT`` the chunks are taken from the last to the first, with conjugate products. ``end`` and
    ``start`` may be the same array.
    """
    series = tl.program_id(0)
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)
    size = modes * channels
    mask = lane < size
    stride = tl.full((), 2, tl.int64) * size
    slot = batch * chunks * stride
    xr, xi = constant(tl.zeros((LANES,), tl.float32), SLOTS), constant(tl.zeros((LANES,), tl.float32), SLOTS)
    if INITIAL:
        xr, xi = _load_lane(initial_ptr + series * stride + lane, batch * stride, size, mask, SLOTS)
    base = series * chunks * stride + lane
    for c0 in range(0, chunks, GROUP):
        er = ()
        ei = ()
        pr = ()
        pi = ()
        for j in tl.static_range(GROUP):
            c = chunks - 1 - c0 - j if ADJOINT else c0 + j
            at = base + c * stride
            there = mask & (c0 + j < chunks)
            real, imaginary = _load_lane(end_ptr + at, slot, size, there, SLOTS)
            er = er + (real,)
            ei = ei + (imaginary,)
            real, imaginary = _load_lane(product_ptr + at, slot, size, there, SLOTS)
            pr = pr + (real,)
            pi = pi + (imaginary,)
        for j in tl.static_range(GROUP):
            c = chunks - 1 - c0 - j if ADJOINT else c0 + j
            at = base + c * stride
            there = mask & (c0 + j < chunks)
            for q in tl.static_range(SLOTS):
                store_pair(start_ptr + at, q * slot, size, xr[q], xi[q], there)
            yr = ()
            yi = ()
            for q in tl.static_range(SLOTS):
                nr = er[j][q]
                ni = ei[j][q]
                if ADJOINT:
                    for i in tl.static_range(SLOTS - q):
                        nr, ni = add_product_conjugate(nr, ni, pr[j][i], pi[j][i], xr[q + i], xi[q + i])
                else:
                    for i in tl.static_range(q + 1):
                        nr, ni = add_product(nr, ni, pr[j][i], pi[j][i], xr[q - i], xi[q - i])
                yr = yr + (nr,)
                yi = yi + (ni,)
            xr = yr
            xi = yi


@triton.jit
def _load_lane(
    pointer: tl.tensor, slot: tl.tensor, size: tl.tensor, mask: tl.tensor, SLOTS: tl.constexpr
) -> Any:
    """The slots of one mode of one channel, ``slot`` entries apart."""
    xr = ()
    xi = ()
    for q in tl.static_range(SLOTS):
        real, imaginary = load_pair(pointer, q * slot, size, mask)
        xr = xr + (real,)
        xi = xi + (imaginary,)
    return xr, xi


@triton.jit(do_not_specialize=VARYING)
def adjoint_chunks(
    gy_ptr: tl.tensor,
    u_ptr: tl.tensor,
    system_ptr: tl.tensor,
    C_ptr: tl.tensor,
    step_ptr: tl.tensor,
    dt_ptr: tl.tensor,
    bound_ptr: tl.tensor,
    end_ptr: tl.tensor,
    product_ptr: tl.tensor,
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
    SLOTS: tl.constexpr,
    REVERSE: tl.constexpr,
    UNEVEN: tl.constexpr,
    READOUTS: tl.constexpr,
    MODES: tl.constexpr,
    BLOCKS: tl.constexpr,
    LANES: tl.constexpr,
    GROUP: tl.constexpr,
) -> None:
    """What the outputs of every chunk send to the state before it, and the product of its transitions.

    States of several slots are those of the truncated chain, which the readout sees the sum of.
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
        if LIQUID or SLOTS > 1:
            bound = tl.load(bound_ptr + index, mask, other=0.0)
        C_index = (2 * size * m)[:, None, :] + index[:, :, None]
        Cr, Ci = load_pair(C_ptr, C_index, size, (m < readouts)[:, None, :] & mask[:, :, None])
        zero = tl.zeros((LANES, MODES), tl.float32)
        lr = constant(zero, SLOTS)
        li = constant(zero, SLOTS)
        pr = constant(zero + 1.0, SLOTS)
        pi = constant(zero, SLOTS)
        elapsed = tl.zeros((LANES,), tl.float32)
        if REGULAR:
            kr, ki, _, _ = coefficients(Ar, Ai, Br, Bi, step[:, None], alpha, RULE)
        for back in range(0, chunk, GROUP):
            us = ()
            gys = ()
            dts = ()
            for j in tl.static_range(GROUP):
                t = chunk - 1 - back - j
                there = t < valid
                move = direction * t * channels
                gys = gys + (tl.load(gy_ptr + output + move, readable & there[:, None], other=0.0),)
                if LIQUID or SLOTS > 1:
                    us = us + (tl.load(u_ptr + sample + move, there, other=0.0).to(tl.float32),)
                if not REGULAR:
                    dts = dts + (tl.load(dt_ptr + time + direction * t, there, other=0.0),)
            for j in tl.static_range(GROUP):
                there = chunk - 1 - back - j < valid
                gy = gys[j].to(tl.float32)[:, None, :]
                back_r = tl.sum(Cr * gy, axis=2)
                back_i = -tl.sum(Ci * gy, axis=2)
                lr, li = add_to_each(lr, li, back_r, back_i, SLOTS)
                if not REGULAR:
                    elapsed += dts[j]
                    er, ei, _, _ = coefficients(Ar, Ai, Br, Bi, (step * dts[j])[:, None], alpha, RULE)
                elif UNEVEN:
                    elapsed += tl.where(there, 1.0, 0.0)
                    er = tl.where(there[:, None], kr, 0.0)
                    ei = tl.where(there[:, None], ki, 0.0)
                else:
                    elapsed += 1.0
                    er = kr
                    ei = ki
                gr = er
                gi = ei
                if LIQUID or SLOTS > 1:
                    gr, gi = liquid_term(er, ei, wr, wi, us[j][:, None], bound)
                if SLOTS > 1:
                    gr, gi, _, _, _ = coupling(er, ei, gr, gi, RULE)
                elif LIQUID:
                    er, ei, _, _, _ = liquid_transition(er, ei, gr, gi, RULE)
                if (LIQUID or SLOTS > 1) or RULE == GBT:
                    pr, pi = through(pr, pi, er, ei, gr, gi, SLOTS)
                lr, li = through_adjoint(lr, li, er, ei, gr, gi, SLOTS)
        if not (LIQUID or SLOTS > 1) and RULE != GBT:
            whole = (step * elapsed)[:, None]
            real, imaginary = complex_expm1(Ar * whole, Ai * whole)
            pr = (real + 1.0,)
            pi = (imaginary,)
        store_slots(end_ptr, row, batch * chunks, n, h, modes, channels, lr, li, mask, SLOTS)
        store_slots(product_ptr, row, batch * chunks, n, h, modes, channels, pr, pi, mask, SLOTS)
