"""The input of a group and its states over a tile of samples."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from tsssm.ops.gpu.arithmetic import add_product, multiply


@triton.jit
def mix(
    u_ptr: tl.tensor,
    held_ptr: tl.tensor,
    channel_ptr: tl.tensor,
    share_ptr: tl.tensor,
    held_channel_ptr: tl.tensor,
    held_share_ptr: tl.tensor,
    time: tl.tensor,
    there: tl.tensor,
    total: tl.tensor,
    used: tl.tensor,
    held_used: tl.tensor,
    SAMPLES: tl.constexpr,
) -> Any:
    """The input of a group at the beginning and at the end of the step that leads to each sample.

    ``u`` and ``held`` begin with the first sample of the series. Channels, of which the group takes ``used``,
    and their shares are its own. Over the step that leads to the first sample the input counts as constant.
    """
    # 64 bits: channels times samples may be more than 32 hold.
    stride = tl.full((), 1, tl.int64) * total
    earlier = tl.maximum(time - 1, 0)
    before = tl.zeros((SAMPLES,), tl.float32)
    now = tl.zeros((SAMPLES,), tl.float32)
    for c in range(used):
        row = u_ptr + tl.load(channel_ptr + c) * stride
        share = tl.load(share_ptr + c)
        before += share * tl.load(row + earlier, there, other=0.0)
        now += share * tl.load(row + time, there, other=0.0)
    for c in range(held_used):
        row = held_ptr + tl.load(held_channel_ptr + c) * stride
        constant = tl.load(held_share_ptr + c) * tl.load(row + time, there, other=0.0)
        before += constant
        now += constant
    return before, now


@triton.jit
def follow(
    ar: tl.tensor,
    ai: tl.tensor,
    xr: tl.tensor,
    xi: tl.tensor,
    br: tl.tensor,
    bi: tl.tensor,
    yr: tl.tensor,
    yi: tl.tensor,
) -> Any:
    """The map x -> b x + y after x -> a x + x', as factor and constant."""
    cr, ci = multiply(br, bi, ar, ai)
    zr, zi = add_product(yr, yi, br, bi, xr, xi)
    return cr, ci, zr, zi


@triton.jit
def load_plane(
    table_ptr: tl.tensor,
    row: tl.tensor,
    plane: tl.constexpr,
    n: tl.tensor,
    modes: tl.tensor,
    there: tl.tensor,
) -> Any:
    """A row of the table for every sample; zero where there is no mode."""
    return tl.load(table_ptr + row + plane * modes + n, there & (n < modes), other=0.0)


@triton.jit
def run_diagonal(
    table_ptr: tl.tensor,
    row: tl.tensor,
    there: tl.tensor,
    before: tl.tensor,
    now: tl.tensor,
    xr: tl.tensor,
    xi: tl.tensor,
    modes: tl.tensor,
    MODES: tl.constexpr,
    SAMPLES: tl.constexpr,
) -> Any:
    """Complex modes over a tile from the state x: the states, real and imaginary parts in turn, and the last.

    ``row`` is where the system of the step that leads to a sample stands in the table: A_bar, B_prev and
    B_bar, real and imaginary part.
    """
    n = tl.arange(0, MODES)[None, :]
    k = tl.arange(0, SAMPLES)[:, None]
    row = row[:, None]
    there = there[:, None]
    before = before[:, None]
    now = now[:, None]
    ar = load_plane(table_ptr, row, 0, n, modes, there)
    ai = load_plane(table_ptr, row, 1, n, modes, there)
    br = load_plane(table_ptr, row, 2, n, modes, there) * before
    bi = load_plane(table_ptr, row, 3, n, modes, there) * before
    br += load_plane(table_ptr, row, 4, n, modes, there) * now
    bi += load_plane(table_ptr, row, 5, n, modes, there) * now
    cr, ci = multiply(ar, ai, xr[None, :], xi[None, :])
    br += tl.where(k == 0, cr, 0.0)
    bi += tl.where(k == 0, ci, 0.0)
    _, _, zr, zi = tl.associative_scan((ar, ai, br, bi), 0, follow)
    last = k == SAMPLES - 1
    xr = tl.sum(tl.where(last, zr, 0.0), axis=0)
    xi = tl.sum(tl.where(last, zi, 0.0), axis=0)
    return tl.reshape(tl.join(zr, zi), (SAMPLES, 2 * MODES)), xr, xi


@triton.jit
def run_dense(
    table_ptr: tl.tensor,
    index_ptr: tl.tensor,
    before: tl.tensor,
    now: tl.tensor,
    x: tl.tensor,
    count: tl.tensor,
    stride: tl.tensor,
    modes: tl.tensor,
    MODES: tl.constexpr,
    SAMPLES: tl.constexpr,
) -> Any:
    """A real dense system over ``count`` samples of a tile from the state x: the states, and the last.

    ``table`` holds the columns of A_bar, then B_prev and B_bar; ``stride`` numbers on come those of the next
    distinct step.
    """
    i = tl.arange(0, MODES)[None, :]
    j = tl.arange(0, MODES)[:, None]
    k = tl.arange(0, SAMPLES)[:, None]
    columns = j * modes + i
    exists = (i < modes) & (j < modes)
    used = i < modes
    states = tl.zeros((SAMPLES, MODES), tl.float32)
    for step in range(count):
        system = table_ptr + tl.load(index_ptr + step) * stride
        A = tl.load(system + columns, exists, other=0.0)
        earlier = tl.load(system + modes * modes + i, used, other=0.0)
        later = tl.load(system + modes * modes + modes + i, used, other=0.0)
        here = k == step
        drive = tl.sum(tl.where(here, earlier * before[:, None] + later * now[:, None], 0.0), axis=0)
        x = tl.sum(A * x[:, None], axis=0) + drive
        states = tl.where(here, x[None, :], states)
    return states, x
