"""The adjoint pass of the diagonal scan over chunks: what the outputs of each send back to its start."""

from __future__ import annotations

import triton
import triton.language as tl

from tsssm.ops.gpu.arithmetic import add_product, add_product_conjugate, complex_expm1
from tsssm.ops.gpu.diagonal.forward import coefficients, liquid_transition, system_of
from tsssm.ops.gpu.lanes import load_pair, place, state_index, store_pair
from tsssm.ops.gpu.rules import GBT


@triton.jit
def adjoint_chunks(
    gy_ptr: tl.tensor,
    u_ptr: tl.tensor,
    system_ptr: tl.tensor,
    C_ptr: tl.tensor,
    step_ptr: tl.tensor,
    dt_ptr: tl.tensor,
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
    REVERSE: tl.constexpr,
    UNEVEN: tl.constexpr,
    READOUTS: tl.constexpr,
    MODES: tl.constexpr,
    BLOCKS: tl.constexpr,
    LANES: tl.constexpr,
    GROUP: tl.constexpr,
) -> None:
    """What the outputs of every chunk send to the state before it, and the product of its transitions."""
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
        C_index = (2 * size * m)[:, None, :] + index[:, :, None]
        Cr, Ci = load_pair(C_ptr, C_index, size, (m < readouts)[:, None, :] & mask[:, :, None])
        lr = tl.zeros((LANES, MODES), tl.float32)
        li = tl.zeros((LANES, MODES), tl.float32)
        pr = lr + 1.0
        pi = tl.zeros_like(pr)
        elapsed = tl.zeros((LANES,), tl.float32)
        if REGULAR:
            kr, ki, _, _ = coefficients(Ar, Ai, Br, Bi, step[:, None], alpha, RULE)
        for back in range(0, chunk, GROUP):
            us = ()
            gys = ()
            gaps = ()
            for j in tl.static_range(GROUP):
                t = chunk - 1 - back - j
                there = t < valid
                move = direction * t * channels
                gys = gys + (tl.load(gy_ptr + output + move, readable & there[:, None], other=0.0),)
                if LIQUID:
                    us = us + (tl.load(u_ptr + sample + move, there, other=0.0).to(tl.float32),)
                if not REGULAR:
                    gaps = gaps + (tl.load(dt_ptr + time + direction * t, there, other=0.0),)
            for j in tl.static_range(GROUP):
                there = chunk - 1 - back - j < valid
                gy = gys[j].to(tl.float32)[:, None, :]
                lr += tl.sum(Cr * gy, axis=2)
                li -= tl.sum(Ci * gy, axis=2)
                if not REGULAR:
                    elapsed += gaps[j]
                    er, ei, _, _ = coefficients(Ar, Ai, Br, Bi, (step * gaps[j])[:, None], alpha, RULE)
                elif UNEVEN:
                    elapsed += tl.where(there, 1.0, 0.0)
                    er = tl.where(there[:, None], kr, 0.0)
                    ei = tl.where(there[:, None], ki, 0.0)
                else:
                    elapsed += 1.0
                    er = kr
                    ei = ki
                if LIQUID:
                    er, ei, _, _, _ = liquid_transition(er, ei, wr, wi, us[j][:, None])
                if LIQUID or RULE == GBT:
                    pr, pi = add_product(pr, pi, er, ei, pr, pi)
                lr, li = add_product_conjugate(lr, li, er, ei, lr, li)
        if not LIQUID and RULE != GBT:
            whole = (step * elapsed)[:, None]
            pr, pi = complex_expm1(Ar * whole, Ai * whole)
            pr += 1.0
        at = state_index(row, n, h, modes, channels)
        store_pair(end_ptr, at, size, lr, li, mask)
        store_pair(product_ptr, at, size, pr, pi, mask)
