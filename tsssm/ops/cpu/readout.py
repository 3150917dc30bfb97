"""What a readout sees of a chunk of samples, and the way back.

A complex buffer has a real plane and, ``imag`` numbers further, an imaginary one, with W numbers a sample.
"""

from __future__ import annotations

from typing import Any

from tsssm.ops.cpu.compiling import routine
from tsssm.ops.cpu.simd import load, store


@routine
def read_out(
    X: Any, first: int, imag: int, C: Any, at_c: int, y: Any, offset: int, count: int, width: int
) -> None:
    """Add Re(C x) of a chunk to ``y`` from ``offset`` on; the x of the chunk stand from ``first`` on."""
    cr, ci = load(C, at_c), load(C, at_c + width)
    for k in range(count):
        at, to = first + k * width, offset + k * width
        store(y, to, load(y, to) + cr * load(X, at) - ci * load(X, imag + at))


@routine
def read_out_adjoint(
    X: Any,
    first: int,
    G: Any,
    imag: int,
    C: Any,
    gC: Any,
    at_c: int,
    gy: Any,
    offset: int,
    count: int,
    width: int,
) -> None:
    """Add the gradient that one readout, at flat position ``at_c``, sends to what it sees and to itself.

    ``G`` has the planes of ``X`` and starts with the first sample.
    """
    cr, ci = load(C, at_c), load(C, at_c + width)
    gcr, gci = load(gC, at_c), load(gC, at_c + width)
    for k in range(count):
        at = k * width
        g = load(gy, offset + at)
        gcr = gcr + g * load(X, first + at)
        gci = gci - g * load(X, imag + first + at)
        store(G, at, load(G, at) + g * cr)
        store(G, imag + at, load(G, imag + at) - g * ci)
    store(gC, at_c, gcr)
    store(gC, at_c + width, gci)
