"""The input of a group and its states over a chunk of samples.

The recurrence runs with the modes in the lanes of a register. What it leaves behind is turned, so that the
readouts find the samples in the lanes.
"""

from __future__ import annotations

from typing import Any

from tsssm.ops.cpu.compiling import routine
from tsssm.ops.cpu.simd import BYTES, load, splat, store


@routine
def mix(u: Any, held: Any, weights: Any, group: int, start: int, count: int, at_rest: bool, v: Any) -> None:
    """The input of a group around the samples from ``start`` on.

    ``v[0]`` is the input at the beginning of the step that leads to a sample and ``v[1]`` the one at its end.
    ``weights`` of a group are those of the channels of ``u``, then of ``held``. Over the step that leads to
    the first sample of a series the input counts as constant.
    """
    for k in range(count):
        v[0, k] = 0
        v[1, k] = 0
    channels = u.shape[0]
    for h in range(channels):
        weight = weights[group, h]
        if weight != 0:
            v[0, 0] += weight * u[h, start if at_rest else start - 1]
            for k in range(1, count):
                v[0, k] += weight * u[h, start + k - 1]
            for k in range(count):
                v[1, k] += weight * u[h, start + k]
    for h in range(held.shape[0]):
        weight = weights[group, channels + h]
        if weight != 0:
            for k in range(count):
                constant = weight * held[h, start + k]
                v[0, k] += constant
                v[1, k] += constant


@routine
def run_diagonal(
    table: Any, index: Any, start: int, count: int, group: int, v: Any, x: Any, by_mode: Any, Z: Any
) -> None:
    """Complex modes over a chunk, from the state ``x``, real and imaginary part, which is left at its end.

    ``table`` (K, G, 6, modes) holds A_bar, B_prev and B_bar of every distinct step, real and imaginary part,
    padded to full registers. The rows of Z are the real parts, then the imaginary ones.
    """
    modes, half = table.shape[3], Z.shape[0] // 2
    plane = 6 * modes
    width = BYTES // table.itemsize
    for n in range(0, modes, width):
        xr, xi = load(x, n), load(x, modes + n)
        for k in range(count):
            at = (index[start + k] * table.shape[1] + group) * plane + n
            before, now = splat(v[0, k], x), splat(v[1, k], x)
            ar, ai = load(table, at), load(table, at + modes)
            br = load(table, at + 2 * modes) * before + load(table, at + 4 * modes) * now
            bi = load(table, at + 3 * modes) * before + load(table, at + 5 * modes) * now
            xr, xi = (br - ai * xi) + ar * xr, (bi + ai * xr) + ar * xi
            store(by_mode, 2 * k * width, xr)
            store(by_mode, 2 * k * width + width, xi)
        store(x, n, xr)
        store(x, modes + n, xi)
        used = min(width, half - n)
        turn(by_mode, 0, 2 * width, count, used, Z, n)
        turn(by_mode, width, 2 * width, count, used, Z, half + n)


@routine
def run_dense(
    table: Any, index: Any, start: int, count: int, group: int, v: Any, x: Any, by_mode: Any, Z: Any
) -> None:
    """A real dense system over a chunk, from the state ``x``, which is left at its end.

    ``table`` (K, G, N + 2, rows) holds the columns of A_bar, then B_prev and B_bar, padded to full registers.
    """
    rows, size = table.shape[3], Z.shape[0]
    plane = table.shape[2] * rows
    width = BYTES // table.itemsize
    for k in range(count):
        base = (index[start + k] * table.shape[1] + group) * plane
        before, now = splat(v[0, k], x), splat(v[1, k], x)
        for n in range(0, rows, width):
            at = base + n
            # Two sums, so that a product need not wait for the one before.
            even = load(table, at + size * rows) * before
            odd = load(table, at + (size + 1) * rows) * now
            for j in range(0, size - 1, 2):
                even = even + load(table, at + j * rows) * splat(x[j], x)
                odd = odd + load(table, at + (j + 1) * rows) * splat(x[j + 1], x)
            if size % 2 == 1:
                even = even + load(table, at + (size - 1) * rows) * splat(x[size - 1], x)
            store(by_mode, k * rows + n, even + odd)
        for j in range(rows):
            x[j] = by_mode[k * rows + j]
    turn(by_mode, 0, rows, count, size, Z, 0)


@routine
def turn(by_mode: Any, first: int, stride: int, count: int, used: int, Z: Any, row: int) -> None:
    """Write ``used`` modes of each sample, which stand ``stride`` numbers apart, as rows of Z."""
    for n in range(used):
        for k in range(count):
            Z[row + n, k] = by_mode[first + k * stride + n]
