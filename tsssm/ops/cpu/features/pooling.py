"""What is kept of the readouts of a group: a block of eight at a time, the samples in the lanes."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from tsssm.ops.cpu.compiling import inline, routine
from tsssm.ops.cpu.memory import piece
from tsssm.ops.cpu.simd import load, splat, store, where, width_of

#: Readouts that compete with one another.
BLOCK = 8


@intrinsic
def sum_lanes(typingctx: Any, a: Any) -> Any:
    """The sum of all lanes, half by half."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector, width = args[0], a.width
        while width > 1:
            width //= 2
            halves = [list(range(first, first + width)) for first in (0, width)]
            masks = [ir.Constant(ir.VectorType(ir.IntType(32), width), half) for half in halves]
            vector = builder.fadd(*(builder.shuffle_vector(vector, vector, mask) for mask in masks))
        return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))

    return a.dtype(a), codegen


@inline
def larger(a: Any, b: Any) -> Any:
    return where(a < b, b, a)


@inline
def smaller(a: Any, b: Any) -> Any:
    return where(a < b, a, b)


@routine
def read_block(Z: Any, v: Any, k: int, C: Any, at_c: int, y: Any) -> None:
    """Eight readouts of the W samples from ``k`` on, into the registers of ``y`` (8, W).

    In ``C`` the coefficients of the eight are neighbours, row after row of Z; those of the input come last.
    """
    width = width_of(Z)
    rows, stride = Z.shape
    z = load(v, stride + k)
    at = at_c + BLOCK * rows
    y0, y1 = splat(C[at], Z) * z, splat(C[at + 1], Z) * z
    y2, y3 = splat(C[at + 2], Z) * z, splat(C[at + 3], Z) * z
    y4, y5 = splat(C[at + 4], Z) * z, splat(C[at + 5], Z) * z
    y6, y7 = splat(C[at + 6], Z) * z, splat(C[at + 7], Z) * z
    for n in range(rows):
        z = load(Z, n * stride + k)
        at = at_c + BLOCK * n
        y0 = y0 + splat(C[at], Z) * z
        y1 = y1 + splat(C[at + 1], Z) * z
        y2 = y2 + splat(C[at + 2], Z) * z
        y3 = y3 + splat(C[at + 3], Z) * z
        y4 = y4 + splat(C[at + 4], Z) * z
        y5 = y5 + splat(C[at + 5], Z) * z
        y6 = y6 + splat(C[at + 6], Z) * z
        y7 = y7 + splat(C[at + 7], Z) * z
    store(y, 0, y0)
    store(y, width, y1)
    store(y, 2 * width, y2)
    store(y, 3 * width, y3)
    store(y, 4 * width, y4)
    store(y, 5 * width, y5)
    store(y, 6 * width, y6)
    store(y, 7 * width, y7)


@routine
def pool_block(
    room: Any, count: int, flat: Any, block: int, kept: Any, out: Any, at_out: int, readouts: int
) -> None:
    """Add what is kept of eight readouts over a chunk to ``out``, in rows of ``readouts`` numbers.

    ``flat`` are the coefficients and thresholds of all blocks: of the latter two for each readout, the eight
    lower ones, then the upper ones. ``room.weight`` is zero from the last sample of the chunk to the end of
    its register.
    """
    Z, (C, thresholds), width = room.Z, flat, width_of(room.Z)
    kinds = 2 * kept.shares + 2 * kept.competition
    y, sums = piece(room.buffers, 0, (BLOCK, width)), piece(room.buffers, BLOCK * width, (4 * BLOCK, width))
    zero, at_c, at_b = splat(0.0, Z), block * (Z.shape[0] + 1) * BLOCK, 2 * block * BLOCK
    for r in range(kinds * BLOCK):
        store(sums, r * width, zero)
    for k in range(0, count, width):
        read_block(Z, room.v, k, C, at_c, y)
        w = load(room.weight, k)
        kind = 0
        if kept.shares:
            for r in range(BLOCK):
                here = load(y, r * width)
                for side in range(2):
                    at = (side * BLOCK + r) * width
                    low = splat(thresholds[at_b + side * BLOCK + r], Z)
                    store(sums, at, load(sums, at) + where(low < here, w, zero))
            kind = 2
        if kept.competition:
            best = worst = load(y, 0)
            for r in range(1, BLOCK):
                here = load(y, r * width)
                best, worst = larger(best, here), smaller(worst, here)
            gain = w * best
            for r in range(BLOCK):
                here = load(y, r * width)
                at = (kind * BLOCK + r) * width
                store(sums, at, load(sums, at) + where(here < best, zero, gain))
                at += BLOCK * width
                store(sums, at, load(sums, at) + where(worst < here, zero, w))
    for kind in range(kinds):
        for r in range(BLOCK):
            out[at_out + kind * readouts + r] += sum_lanes(load(sums, (kind * BLOCK + r) * width))
