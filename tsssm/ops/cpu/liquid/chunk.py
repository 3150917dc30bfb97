"""What both recurrences of Liquid-S4 share within a chunk of samples: sizes, feedthrough and readout.

Buffers of a chunk are flat and hold W numbers a sample, in the order of the scan. A complex buffer has a real
and then an imaginary plane: ``X`` (states) of `CHUNK` + 1 samples, entry 0 being the state before the chunk;
``R`` (what the readout sees) and the others of `CHUNK`. A state of the scan has ``order`` slots: the chain
for the kernel "exact"; x and then the last order - 1 bounded inputs, newest first, for the others.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from tsssm.ops.cpu.rows import get, put
from tsssm.ops.cpu.simd import load, store

CHUNK = 32
EXACT, KB, PB = range(3)


@njit(forceinline=True)
def look_up(
    gaps: Any, index: Any, dt: Any, d: int, b: int, span: Any, length: int, which: Any, seen: Any
) -> None:
    """The row of each sample of a chunk, and how many samples before it have a positive gap.

    ``gaps``, ``index`` and ``dt`` are those of the passes; ``span`` is that of `tsssm.ops.cpu.blocks.read`.
    """
    start, count, backwards = span
    for k in range(count):
        t = length - 1 - start - k if backwards else start + k
        if gaps.size == 0:
            which[k] = k
            gap = dt[d, b, t]
        else:
            which[k] = index[d, b, t] if gaps.size > 1 else 0
            gap = gaps[which[k]]
        seen[k + 1] = seen[k] + (1 if gap > 0 else 0)


@njit(forceinline=True)
def feed_through(u: Any, D: Any, m: int, y: Any, offset: int, count: int, width: int) -> None:
    """Write D u of a chunk to ``y`` from flat position ``offset`` on."""
    feedthrough = load(D, m * width)
    for k in range(count):
        store(y, offset + k * width, feedthrough * load(u, k * width))


@njit(forceinline=True)
def feed_through_adjoint(
    u: Any, gy: Any, offset: int, D: Any, gD: Any, m: int, gu: Any, count: int, width: int
) -> None:
    """Adjoint of `feed_through`: adds to ``gD`` and ``gu``."""
    feedthrough, total = load(D, m * width), load(gD, m * width)
    for k in range(count):
        g = load(gy, offset + k * width)
        total = total + g * load(u, k * width)
        store(gu, k * width, load(gu, k * width) + feedthrough * g)
    store(gD, m * width, total)


@njit(forceinline=True)
def read_out(R: Any, C: Any, at_c: int, y: Any, offset: int, count: int, width: int) -> None:
    """Add Re(C r) of a chunk to ``y`` from flat position ``offset`` on."""
    imag = CHUNK * width
    cr, ci = load(C, at_c), load(C, at_c + width)
    for k in range(count):
        at = k * width
        store(y, offset + at, load(y, offset + at) + cr * load(R, at) - ci * load(R, imag + at))


@njit(forceinline=True)
def read_out_adjoint(
    R: Any, GR: Any, C: Any, gC: Any, at_c: int, gy: Any, offset: int, count: int, width: int
) -> None:
    """Add the gradient that one readout, at flat position ``at_c``, sends to what it sees and to itself."""
    imag = CHUNK * width
    cr, ci = load(C, at_c), load(C, at_c + width)
    gcr, gci = load(gC, at_c), load(gC, at_c + width)
    for k in range(count):
        at = k * width
        g = load(gy, offset + at)
        gcr = gcr + g * load(R, at)
        gci = gci - g * load(R, imag + at)
        store(GR, at, load(GR, at) + g * cr)
        store(GR, imag + at, load(GR, imag + at) - g * ci)
    store(gC, at_c, gcr)
    store(gC, at_c + width, gci)


@njit(forceinline=True)
def accumulate(grads: Any, plane: int, field: int, at: int, re: Any, im: Any) -> None:
    """Add to the gradient of a field of a row."""
    gr, gi = get(grads, plane, field, at)
    put(grads, plane, field, at, gr + re, gi + im)
