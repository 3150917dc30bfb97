"""The liquid recurrence of one mode over a chunk of samples, and its adjoint.

The transition is F = Abar + Bbar v with the clipped input v and, if ``project``, shortened to the closed unit
disc. Buffers are those of ``recurrence``; ``F`` holds the transition of each sample (real plane, then
imaginary) and what it was shortened by.
"""

from __future__ import annotations

from typing import Any

from tsssm.ops.cpu.blocks import CHUNK
from tsssm.ops.cpu.bounds import clipped, clipped_adjoint
from tsssm.ops.cpu.compiling import inline
from tsssm.ops.cpu.disc import to_disc, to_disc_adjoint
from tsssm.ops.cpu.rows import A, B, P, conj_times, get
from tsssm.ops.cpu.simd import load, store
from tsssm.ops.cpu.sums import ONE, add_to_sums, load_sums, store_sums


@inline
def advance_liquid(
    X: Any,
    F: Any,
    u: Any,
    bound: Any,
    rows: Any,
    plane: int,
    base: int,
    index: Any,
    count: int,
    width: int,
    project: bool,
    keep: bool,
) -> None:
    """States of a chunk whose samples use a row each and, if ``keep``, the transitions.

    ``bound`` is a register.
    """
    imag, half = (CHUNK + 1) * width, CHUNK * width
    xr, xi = load(X, 0), load(X, imag)
    for k in range(count):
        at = k * width
        row = base + index[k] * width
        uk = load(u, at)
        v = clipped(uk, bound)
        ar, ai = get(rows, plane, A, row)
        br, bi = get(rows, plane, B, row)
        fr, fi = ar + br * v, ai + bi * v
        if project:
            fr, fi, factor = to_disc(fr, fi)
            if keep:
                store(F, 2 * half + at, factor)
        if keep:
            store(F, at, fr)
            store(F, half + at, fi)
        xr, xi = br * uk + fr * xr - fi * xi, bi * uk + fr * xi + fi * xr
        store(X, at + width, xr)
        store(X, imag + at + width, xi)


@inline
def adjoint_liquid(
    X: Any,
    F: Any,
    G: Any,
    u: Any,
    bound: Any,
    gu: Any,
    g_bounds: Any,
    tables: Any,
    place: Any,
    way: int,
    project: bool,
    h: Any,
) -> Any:
    """Adjoint of `advance_liquid`; ``h`` is what later samples send back, and is returned renewed.

    ``g_bounds`` (N, W) is added to. ``tables`` and ``place`` are as in ``recurrence.adjoint``. ``way`` is
    where the gradients of the rows go, one of those of ``tsssm.ops.cpu.sums``.
    """
    rows, grads, index, delta, sums = tables
    n, base, plane, count, width = place
    imag, half = (CHUNK + 1) * width, CHUNK * width
    hr, hi = h
    held = load_sums(way, grads, plane, base, sums, n, width)
    br, bi = get(rows, plane, B, base)
    total = load(g_bounds, n * width)
    for k in range(count - 1, -1, -1):
        at = k * width
        row = base
        if way != ONE:
            row = base + index[k] * width
            br, bi = get(rows, plane, B, row)
        hr, hi = hr + load(G, at), hi + load(G, imag + at)
        xr, xi = load(X, at), load(X, imag + at)
        uk = load(u, at)
        v = clipped(uk, bound)
        fr, fi = load(F, at), load(F, half + at)
        # Gradient of the transition, then of what the transition is made of.
        tr, ti = conj_times(xr, xi, hr, hi)
        if project:
            tr, ti = to_disc_adjoint(fr, fi, load(F, 2 * half + at), tr, ti)
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
            (uk * hr + v * tr, uk * hi + v * ti),
        )
        inside, outside = clipped_adjoint(uk, v, br * tr + bi * ti)
        total = total + outside
        store(gu, at, load(gu, at) + br * hr + bi * hi + inside)
        hr, hi = conj_times(fr, fi, hr, hi)
    store_sums(held, way, grads, plane, base, sums, n, width)
    store(g_bounds, n * width, total)
    return hr, hi
