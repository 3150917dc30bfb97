"""How a chunk looks back on the inputs before it, for the kernels K-B and P-B, and what it sends to them."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from tsssm.ops.gpu.lanes import VARYING, place
from tsssm.ops.gpu.rules import coefficients, input_of


def previous_samples(dt: Tensor, backwards: list[bool], chunk: int, past: int) -> Tensor:
    """The last samples of positive gap before each chunk, newest first, (K, batch, chunks, past).

    They are numbered in the order of the scan; -1 - i stands for the i-th before the first sample of all.
    """
    there = torch.stack(
        [positive.flip(-1) if back else positive for positive, back in zip(dt > 0, backwards, strict=True)]
    )
    counted = there.cumsum(-1)
    before = torch.cat([torch.zeros_like(counted[..., :1]), counted[..., chunk - 1 : -1 : chunk]], dim=-1)
    # The r-th sample that counts is the first up to which r do.
    rank = before[..., None] - torch.arange(past, device=dt.device)
    number = torch.searchsorted(counted, rank.flatten(-2)).view_as(rank)
    return torch.where(rank > 0, number, rank - 1).int().contiguous()


@triton.jit
def earlier(
    u_ptr: tl.tensor,
    dt_ptr: tl.tensor,
    origin_ptr: tl.tensor,
    j: tl.constexpr,
    b: tl.tensor,
    c: tl.tensor,
    h: tl.tensor,
    active: tl.tensor,
    Ar: tl.tensor,
    Ai: tl.tensor,
    Br: tl.tensor,
    Bi: tl.tensor,
    wr: tl.tensor,
    wi: tl.tensor,
    step: tl.tensor,
    kr: tl.tensor,
    ki: tl.tensor,
    length: tl.tensor,
    channels: tl.tensor,
    chunk: tl.tensor,
    chunks: tl.tensor,
    alpha: tl.tensor,
    RULE: tl.constexpr,
    REGULAR: tl.constexpr,
    REVERSE: tl.constexpr,
    PAST: tl.constexpr,
) -> Any:
    """The sample j + 1 before the first of a chunk: its number in the order of the scan, u, step, e and w.

    A negative number -1 - i is no sample but the bounded input i of the initial state, and u is 0.
    """
    if REGULAR:
        number = c * chunk - 1 - j
    else:
        number = tl.load(origin_ptr + (b * chunks + c) * PAST + j, active, other=-1)
    known = active & (number >= 0)
    natural = length - 1 - number if REVERSE else number
    at = b.to(tl.int64) * length + natural
    u = tl.load(u_ptr + at * channels + h, known, other=0.0).to(tl.float32)[:, None]
    s = step[:, None]
    er = kr
    ei = ki
    if not REGULAR:
        s = s * tl.load(dt_ptr + at, known, other=0.0)[:, None]
        er, ei, _, _ = coefficients(Ar, Ai, Br, Bi, s, alpha, RULE)
    ar, ai = input_of(er, ei, wr, wi, u)
    return number, u, s, er, ei, ar, ai


@triton.jit(do_not_specialize=VARYING)
def add_past(
    by_past_ptr: tl.tensor,
    origin_ptr: tl.tensor,
    gu_ptr: tl.tensor,
    batch: tl.tensor,
    length: tl.tensor,
    channels: tl.tensor,
    chunk: tl.tensor,
    chunks: tl.tensor,
    REGULAR: tl.constexpr,
    REVERSE: tl.constexpr,
    PAST: tl.constexpr,
    LANES: tl.constexpr,
) -> None:
    """Add what chunks send back to the inputs before them, chunk by chunk: two may send to one sample."""
    active, b, _, h = place(batch, 1, channels, LANES)
    for c in range(1, chunks):
        row = b * chunks + c
        for j in tl.static_range(PAST):
            if REGULAR:
                number = tl.zeros((LANES,), tl.int32) + (c * chunk - 1 - j)
            else:
                number = tl.load(origin_ptr + row * PAST + j, active, other=-1)
            known = active & (number >= 0)
            natural = length - 1 - number if REVERSE else number
            at = gu_ptr + (b.to(tl.int64) * length + natural) * channels + h
            sent = tl.load(by_past_ptr + (row.to(tl.int64) * PAST + j) * channels + h, known, other=0.0)
            tl.store(at, tl.load(at, known, other=0.0) + sent, known)
