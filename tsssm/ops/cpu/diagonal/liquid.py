"""The liquid recurrence of one mode over a chunk of samples, and its adjoint.

The transition is F = Abar + Bbar u, shortened to the closed unit disc. Buffers are those of ``recurrence``;
``F`` holds the transition of each sample (real plane, then imaginary) and what it was shortened by.
"""

from __future__ import annotations

from typing import Any

from tsssm.ops.cpu.blocks import CHUNK
from tsssm.ops.cpu.compiling import inline
from tsssm.ops.cpu.disc import to_disc, to_disc_adjoint
from tsssm.ops.cpu.rows import A, B, P, conj_times, get
from tsssm.ops.cpu.simd import load, store
from tsssm.ops.cpu.sums import ONE, add_to_sums, load_sums, store_sums


@inline
def advance_liquid(
    X: Any, F: Any, u: Any, rows: Any, plane: int, base: int, index: Any, count: int, width: int, keep: bool
) -> None:
    """States of a chunk whose samples use a row each and, if ``keep``, the transitions."""
    imag, half = (CHUNK + 1) * width, CHUNK * width
    xr, xi = load(X, 0), load(X, imag)
    for k in range(count):
        at = k * width
        row = base + index[k] * width
        uk = load(u, at)
        ar, ai = get(rows, plane, A, row)
        br, bi = get(rows, plane, B, row)
        br, bi = br * uk, bi * uk
        fr, fi, factor = to_disc(ar + br, ai + bi)
        if keep:
            store(F, at, fr)
            store(F, half + at, fi)
            store(F, 2 * half + at, factor)
        xr, xi = br + fr * xr - fi * xi, bi + fr * xi + fi * xr
        store(X, at + width, xr)
        store(X, imag + at + width, xi)


@inline
def adjoint_liquid(
    X: Any,
    F: Any,
    G: Any,
    u: Any,
    gu: Any,
    rows: Any,
    grads: Any,
    index: Any,
    delta: Any,
    sums: Any,
    place: Any,
    way: int,
    h: Any,
) -> Any:
    """Adjoint of `advance_liquid`; ``h`` is what later samples send back, and is returned renewed.

    ``place`` is (mode, position of its first row, plane, count, width). ``way`` is where the gradients of the
    rows go, one of those of ``tsssm.ops.cpu.sums``; given as a constant it is worth a copy of the loop.
    """
    n, base, plane, count, width = place
    imag, half = (CHUNK + 1) * width, CHUNK * width
    hr, hi = h
    held = load_sums(way, grads, plane, base, sums, n, width)
    br, bi = get(rows, plane, B, base)
    for k in range(count - 1, -1, -1):
        at = k * width
        row = base
        if way != ONE:
            row = base + index[k] * width
            br, bi = get(rows, plane, B, row)
        hr, hi = hr + load(G, at), hi + load(G, imag + at)
        xr, xi = load(X, at), load(X, imag + at)
        uk = load(u, at)
        fr, fi = load(F, at), load(F, half + at)
        # Gradient of the transition, then of what the transition is made of.
        tr, ti = conj_times(xr, xi, hr, hi)
        tr, ti = to_disc_adjoint(fr, fi, load(F, 2 * half + at), tr, ti)
        sr, si = hr + tr, hi + ti
        held = add_to_sums(
            held,
            way,
            grads,
            plane,
            row,
            delta[k],
            get(rows, plane, A, row),
            get(rows, plane, P, row),
            (tr, ti),
            (uk * sr, uk * si),
        )
        store(gu, at, load(gu, at) + br * sr + bi * si)
        hr, hi = conj_times(fr, fi, hr, hi)
    store_sums(held, way, grads, plane, base, sums, n, width)
    return hr, hi
