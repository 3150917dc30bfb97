"""The recurrence of one mode over a chunk of samples, and its adjoint, for W channels in registers.

Buffers of a chunk are flat and hold W numbers a sample, in the order of the scan: ``u`` and ``v`` (input
and previous input), ``X`` the states (real plane, then imaginary; entry 0 is the state before the chunk),
``G`` the gradient that the outputs of each sample send to its state. ``index`` is the row of each sample.
"""

from __future__ import annotations

from typing import Any

from tsssm.ops.cpu.blocks import CHUNK
from tsssm.ops.cpu.compiling import inline
from tsssm.ops.cpu.rows import A, B, P, Q, accumulate, conj_times, get
from tsssm.ops.cpu.simd import load, store
from tsssm.ops.cpu.sums import add_to_sums, load_sums, store_sums


@inline
def advance(
    X: Any,
    u: Any,
    v: Any,
    rows: Any,
    plane: int,
    base: int,
    index: Any,
    count: int,
    width: int,
    foh: bool,
) -> None:
    """States of a chunk whose samples use a row each."""
    imag = (CHUNK + 1) * width
    xr, xi = load(X, 0), load(X, imag)
    for k in range(count):
        at = k * width
        row = base + index[k] * width
        uk = load(u, at)
        ar, ai = get(rows, plane, A, row)
        br, bi = get(rows, plane, B, row)
        br, bi = br * uk, bi * uk
        if foh:
            qr, qi = get(rows, plane, Q, row)
            vk = load(v, at)
            br, bi = br + qr * vk, bi + qi * vk
        xr, xi = br + ar * xr - ai * xi, bi + ar * xi + ai * xr
        store(X, at + width, xr)
        store(X, imag + at + width, xi)


@inline
def adjoint(
    X: Any,
    G: Any,
    u: Any,
    v: Any,
    gu: Any,
    gv: Any,
    tables: Any,
    place: Any,
    way: int,
    foh: bool,
    h: Any,
) -> Any:
    """Adjoint of `advance`; ``h`` is what later samples send back, and is returned renewed.

    ``tables`` are the rows, their gradients, the row of each sample, the gaps, and the sums over samples;
    ``place`` is (mode, position of its first row, plane, count, width). ``way`` is where the gradients of the
    rows go, one of those of ``tsssm.ops.cpu.sums``.
    """
    rows, grads, index, delta, sums = tables
    n, base, plane, count, width = place
    imag = (CHUNK + 1) * width
    hr, hi = h
    held = load_sums(way, grads, plane, base, sums, n, width)
    for k in range(count - 1, -1, -1):
        at = k * width
        row = base + index[k] * width
        hr, hi = hr + load(G, at), hi + load(G, imag + at)
        xr, xi = load(X, at), load(X, imag + at)
        uk = load(u, at)
        ar, ai = get(rows, plane, A, row)
        br, bi = get(rows, plane, B, row)
        held = add_to_sums(
            held,
            way,
            grads,
            plane,
            row,
            delta[k],
            (ar, ai),
            get(rows, plane, P, row),
            conj_times(xr, xi, hr, hi),
            (uk * hr, uk * hi),
        )
        store(gu, at, load(gu, at) + br * hr + bi * hi)
        if foh:
            qr, qi = get(rows, plane, Q, row)
            vk = load(v, at)
            accumulate(grads, plane, Q, row, vk * hr, vk * hi)
            store(gv, at, load(gv, at) + qr * hr + qi * hi)
        hr, hi = conj_times(ar, ai, hr, hi)
    store_sums(held, way, grads, plane, base, sums, n, width)
    return hr, hi
