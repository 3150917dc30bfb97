"""The recurrence of one mode over a chunk of samples, and its adjoint, for W channels in registers.

Buffers of a chunk are flat and hold W numbers a sample, in the order of the scan: ``u`` and ``v`` (input
and previous input), ``X`` the states (real plane, then imaginary; entry 0 is the state before the chunk),
``G`` the gradient that the outputs of each sample send to its state. ``index`` is the row of each sample.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from tsssm.ops.cpu.rows import A, B, Q, conj_times, get, put, times
from tsssm.ops.cpu.simd import any_of, constant, load, square_root, store, where

CHUNK = 32


@njit(forceinline=True)
def _pair(n: int, modes: int) -> int:
    """The mode that is computed together with mode ``n``: the next one, or itself at the end."""
    return min(n + 1, modes - 1)


@njit(forceinline=True)
def advance_constant(
    X: Any, u: Any, saved: Any, origin: int, rows: Any, plane: int, n: int, modes: int, count: int, width: int
) -> None:
    """States of modes n and n + 1 over a chunk of a regular grid, into the first and second half of ``X``.

    The input coefficient is 1: from rest the states are divided by Bbar, which the readout takes over. That
    saves a quarter of the arithmetic. Two modes at once, because each waits for its own last product.
    """
    imag = (CHUNK + 1) * width
    second = _pair(n, modes)
    ar, ai = get(rows, plane, A, n * width)
    cr, ci = get(rows, plane, A, second * width)
    at = origin + 2 * n * width
    xr, xi = load(saved, at), load(saved, at + width)
    at = origin + 2 * second * width
    zr, zi = load(saved, at), load(saved, at + width)
    for k in range(count):
        at = k * width
        store(X, at, xr)
        store(X, imag + at, xi)
        store(X, 2 * imag + at, zr)
        store(X, 3 * imag + at, zi)
        uk = load(u, at)
        xr, xi = uk + ar * xr - ai * xi, ar * xi + ai * xr
        zr, zi = uk + cr * zr - ci * zi, cr * zi + ci * zr
    at = count * width
    store(X, at, xr)
    store(X, imag + at, xi)
    store(X, 2 * imag + at, zr)
    store(X, 3 * imag + at, zi)


@njit(forceinline=True)
def run_constant(
    u: Any,
    y: Any,
    rows: Any,
    plane: int,
    readout: Any,
    state: Any,
    n: int,
    modes: int,
    count: int,
    width: int,
) -> None:
    """`advance_constant` and a single readout in one sweep, keeping only the last states in ``state``."""
    second = _pair(n, modes)
    at, at_2 = 2 * n * width, 2 * (n + 1) * width
    ar, ai = get(rows, plane, A, n * width)
    cr, ci = get(rows, plane, A, second * width)
    br, bi = get(rows, plane, B, n * width)
    wr, wi = times(load(readout, at), load(readout, at + width), br, bi)
    br, bi = get(rows, plane, B, second * width)
    vr, vi = times(load(readout, 2 * second * width), load(readout, (2 * second + 1) * width), br, bi)
    if second == n:
        vr, vi = vr - vr, vi - vi
    xr, xi = load(state, at), load(state, at + width)
    zr, zi = load(state, at_2), load(state, at_2 + width)
    for k in range(count):
        uk = load(u, k * width)
        xr, xi = uk + ar * xr - ai * xi, ar * xi + ai * xr
        zr, zi = uk + cr * zr - ci * zi, cr * zi + ci * zr
        store(y, k * width, load(y, k * width) + wr * xr - wi * xi + vr * zr - vi * zi)
    store(state, at, xr)
    store(state, at + width, xi)
    store(state, at_2, zr)
    store(state, at_2 + width, zi)


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
        xr, xi = br + ar * xr - ai * xi, bi + ar * xi + ai * xr
        store(X, at + width, xr)
        store(X, imag + at + width, xi)


@njit(forceinline=True)
def _liquid_transition(ar: Any, ai: Any, br: Any, bi: Any) -> Any:
    """Abar + Bbar u projected to the unit disc, the factor used, and where it is below one."""
    one = constant(ar, "one")
    fr, fi = ar + br, ai + bi
    square = fr * fr + fi * fi
    outside = one < square
    if any_of(constant(ar, "large square") < square):
        # Scaled by its larger part, so that no square overflows, whatever the input.
        scale = _larger(one, _larger(_larger(fr, -fr), _larger(fi, -fi)))
        sr, si = fr / scale, fi / scale
        modulus = square_root(sr * sr + si * si)
        pr, pi, factor = sr / modulus, si / modulus, one / scale / modulus
    else:
        factor = one / square_root(square)
        pr, pi = fr * factor, fi * factor
    return where(outside, pr, fr), where(outside, pi, fi), where(outside, factor, one), outside


@njit(forceinline=True)
def _larger(a: Any, b: Any) -> Any:
    return where(a < b, b, a)


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
    X: Any, G: Any, C: Any, gC: Any, at_c: int, gy: Any, offset: int, count: int, width: int
) -> None:
    """Add the gradient that one readout, at flat position ``at_c``, sends to the states and to itself."""
    imag = (CHUNK + 1) * width
    cr, ci = load(C, at_c), load(C, at_c + width)
    gcr, gci = load(gC, at_c), load(gC, at_c + width)
    for k in range(count):
        at = k * width
        g = load(gy, offset + at)
        gcr = gcr + g * load(X, at + width)
        gci = gci - g * load(X, imag + at + width)
        store(G, at, load(G, at) + g * cr)
        store(G, imag + at, load(G, imag + at) - g * ci)
    store(gC, at_c, gcr)
    store(gC, at_c + width, gci)


@njit(forceinline=True)
def adjoint_constant(
    X: Any, half: int, gy: Any, gu: Any, ar: Any, ai: Any, wr: Any, wi: Any, count: int, width: int, h: Any
) -> Any:
    """Adjoint of `run_constant` for the mode whose states start at ``half``.

    ``h`` is what later samples send back to the state; it is returned renewed, followed by the gradients of
    the transition and of the readout that this chunk adds.
    """
    imag = half + (CHUNK + 1) * width
    hr, hi = h
    zero = hr - hr
    gar, gai, gwr, gwi = zero, zero, zero, zero
    xr, xi = load(X, half + count * width), load(X, imag + count * width)
    for k in range(count - 1, -1, -1):
        at = k * width
        g = load(gy, at)
        gwr, gwi = gwr + g * xr, gwi - g * xi
        hr, hi = hr + g * wr, hi - g * wi
        xr, xi = load(X, half + at), load(X, imag + at)
        gar, gai = gar + xr * hr + xi * hi, gai + xr * hi - xi * hr
        store(gu, at, load(gu, at) + hr)
        hr, hi = conj_times(ar, ai, hr, hi)
    return (hr, hi), (gar, gai), (gwr, gwi)


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
    h: Any,
) -> Any:
    """Adjoint of `advance`; ``h`` is what later samples send back, and is returned renewed."""
    imag = (CHUNK + 1) * width
    hr, hi = h
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
        accumulate(grads, plane, A, row, tr, ti)
        accumulate(grads, plane, B, row, uk * sr, uk * si)
        store(gu, at, load(gu, at) + br * sr + bi * si)
        if foh:
            qr, qi = get(rows, plane, Q, row)
            vk = load(v, at)
            accumulate(grads, plane, Q, row, vk * hr, vk * hi)
            store(gv, at, load(gv, at) + qr * hr + qi * hi)
        hr, hi = conj_times(ar, ai, hr, hi)
    return hr, hi


@njit(forceinline=True)
def accumulate(grads: Any, plane: int, field: int, at: int, re: Any, im: Any) -> None:
    gr, gi = get(grads, plane, field, at)
    put(grads, plane, field, at, gr + re, gi + im)
