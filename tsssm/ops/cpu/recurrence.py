"""The recurrence of one mode over a chunk of samples, and its adjoint, for W channels in registers.

Buffers of a chunk are flat and hold W numbers a sample, in the order of the scan: ``u`` and ``v`` (input
and previous input), ``X`` the states (real plane, then imaginary; entry 0 is the state before the chunk),
``G`` the gradient that the outputs of each sample send to its state. ``index`` is the row of each sample.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from tsssm.ops.cpu.rows import A, B, Q, conj_times, get, put
from tsssm.ops.cpu.simd import constant, load, square_root, store, where

CHUNK = 32


@njit(forceinline=True)
def advance_constant(X: Any, u: Any, rows: Any, plane: int, base: int, count: int, width: int) -> None:
    """States of a chunk whose samples all use the row at ``base``."""
    imag = (CHUNK + 1) * width
    ar, ai = get(rows, plane, A, base)
    br, bi = get(rows, plane, B, base)
    xr, xi = load(X, 0), load(X, imag)
    for k in range(count):
        at = k * width
        uk = load(u, at)
        xr, xi = ar * xr - ai * xi + br * uk, ar * xi + ai * xr + bi * uk
        store(X, at + width, xr)
        store(X, imag + at + width, xi)


@njit(forceinline=True)
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
    liquid: bool,
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
        if liquid:
            ar, ai, _, _ = _liquid_transition(ar, ai, br, bi)
        if foh:
            qr, qi = get(rows, plane, Q, row)
            vk = load(v, at)
            br, bi = br + qr * vk, bi + qi * vk
        xr, xi = ar * xr - ai * xi + br, ar * xi + ai * xr + bi
        store(X, at + width, xr)
        store(X, imag + at + width, xi)


@njit(forceinline=True)
def _liquid_transition(ar: Any, ai: Any, br: Any, bi: Any) -> Any:
    """Abar + Bbar u projected to the unit disc, the factor used, and where it is below one."""
    one = constant(ar, "one")
    fr, fi = ar + br, ai + bi
    square = fr * fr + fi * fi
    outside = one < square
    factor = where(outside, one / square_root(square), one)
    return fr * factor, fi * factor, factor, outside


@njit(forceinline=True)
def read_out(X: Any, cr: Any, ci: Any, y: Any, offset: int, count: int, width: int) -> None:
    """Add Re(C x) of a chunk to ``y`` from flat position ``offset`` on."""
    imag = (CHUNK + 1) * width
    for k in range(count):
        at = k * width
        value = load(y, offset + at) + cr * load(X, at + width) - ci * load(X, imag + at + width)
        store(y, offset + at, value)


@njit(forceinline=True)
def read_out_adjoint(
    X: Any, G: Any, cr: Any, ci: Any, gy: Any, offset: int, count: int, width: int, gcr: Any, gci: Any
) -> Any:
    """Add the gradient of one readout to ``G``; returns the gradient of C added to (gcr, gci)."""
    imag = (CHUNK + 1) * width
    for k in range(count):
        at = k * width
        g = load(gy, offset + at)
        gcr = gcr + g * load(X, at + width)
        gci = gci - g * load(X, imag + at + width)
        store(G, at, load(G, at) + g * cr)
        store(G, imag + at, load(G, imag + at) - g * ci)
    return gcr, gci


@njit(forceinline=True)
def adjoint_constant(
    X: Any,
    G: Any,
    u: Any,
    gu: Any,
    rows: Any,
    grads: Any,
    plane: int,
    base: int,
    count: int,
    width: int,
    hr: Any,
    hi: Any,
) -> Any:
    """Adjoint of `advance_constant`; (hr, hi) is what later samples send back, and is returned renewed."""
    imag = (CHUNK + 1) * width
    ar, ai = get(rows, plane, A, base)
    br, bi = get(rows, plane, B, base)
    gar, gai = get(grads, plane, A, base)
    gbr, gbi = get(grads, plane, B, base)
    for k in range(count - 1, -1, -1):
        at = k * width
        hr, hi = hr + load(G, at), hi + load(G, imag + at)
        xr, xi = load(X, at), load(X, imag + at)
        uk = load(u, at)
        gar = gar + xr * hr + xi * hi
        gai = gai + xr * hi - xi * hr
        gbr = gbr + uk * hr
        gbi = gbi + uk * hi
        store(gu, at, load(gu, at) + br * hr + bi * hi)
        hr, hi = conj_times(ar, ai, hr, hi)
    put(grads, plane, A, base, gar, gai)
    put(grads, plane, B, base, gbr, gbi)
    return hr, hi


@njit(forceinline=True)
def adjoint(
    X: Any,
    G: Any,
    u: Any,
    v: Any,
    gu: Any,
    gv: Any,
    rows: Any,
    grads: Any,
    plane: int,
    base: int,
    index: Any,
    count: int,
    width: int,
    foh: bool,
    liquid: bool,
    hr: Any,
    hi: Any,
) -> Any:
    """Adjoint of `advance`; (hr, hi) is what later samples send back, and is returned renewed."""
    imag = (CHUNK + 1) * width
    for k in range(count - 1, -1, -1):
        at = k * width
        row = base + index[k] * width
        hr, hi = hr + load(G, at), hi + load(G, imag + at)
        xr, xi = load(X, at), load(X, imag + at)
        uk = load(u, at)
        ar, ai = get(rows, plane, A, row)
        br, bi = get(rows, plane, B, row)
        # Gradient of the transition, then of what the transition is made of.
        tr, ti = conj_times(xr, xi, hr, hi)
        sr, si = hr, hi
        if liquid:
            ar, ai, factor, outside = _liquid_transition(ar, ai, br * uk, bi * uk)
            radial = ar * tr + ai * ti
            tr = where(outside, (tr - ar * radial) * factor, tr)
            ti = where(outside, (ti - ai * radial) * factor, ti)
            sr, si = hr + tr, hi + ti
        _accumulate(grads, plane, A, row, tr, ti)
        _accumulate(grads, plane, B, row, uk * sr, uk * si)
        store(gu, at, load(gu, at) + br * sr + bi * si)
        if foh:
            qr, qi = get(rows, plane, Q, row)
            vk = load(v, at)
            _accumulate(grads, plane, Q, row, vk * hr, vk * hi)
            store(gv, at, load(gv, at) + qr * hr + qi * hi)
        hr, hi = conj_times(ar, ai, hr, hi)
    return hr, hi


@njit(forceinline=True)
def _accumulate(grads: Any, plane: int, field: int, at: int, re: Any, im: Any) -> None:
    gr, gi = get(grads, plane, field, at)
    put(grads, plane, field, at, gr + re, gi + im)
