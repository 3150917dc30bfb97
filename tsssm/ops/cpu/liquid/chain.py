"""The full recurrence truncated at an order: one mode of the chain of states over a chunk, and its adjoint.

``X`` holds the states of all orders one after the other, of which slot q starts at 2 q (`CHUNK` + 1) W;
``R`` is the sum of all states, and ``G`` the coupling of neighbours in the chain. The input ``u`` drives the
first order; clipped to the ``bound`` of the mode, it couples. Only by a transform does that need the unit
disc as well.
"""

from __future__ import annotations

from typing import Any

from tsssm.ops.cpu.blocks import CHUNK
from tsssm.ops.cpu.bounds import clipped, clipped_adjoint
from tsssm.ops.cpu.compiling import inline
from tsssm.ops.cpu.disc import is_outside, to_disc, to_disc_adjoint
from tsssm.ops.cpu.rows import GBT, A, B, P, conj_times, get
from tsssm.ops.cpu.simd import constant, load, store, where
from tsssm.ops.cpu.sums import add_to_sums, load_sums, store_sums


@inline
def run_chain(
    X: Any,
    R: Any,
    G: Any,
    u: Any,
    bound: Any,
    rows: Any,
    plane: int,
    base: int,
    index: Any,
    kind: int,
    order: int,
    count: int,
    width: int,
) -> None:
    """States of all orders over a chunk, from those before it in entry 0 of each slot of ``X``."""
    _first_order(X, R, G, u, bound, rows, plane, base, index, kind, count, width)
    for q in range(1, order):
        _next_order(X, q, R, G, rows, plane, base, index, count, width)


@inline
def _first_order(
    X: Any,
    R: Any,
    G: Any,
    u: Any,
    bound: Any,
    rows: Any,
    plane: int,
    base: int,
    index: Any,
    kind: int,
    count: int,
    width: int,
) -> None:
    imag, half = (CHUNK + 1) * width, CHUNK * width
    xr, xi = load(X, 0), load(X, imag)
    for k in range(count):
        at = k * width
        row = base + index[k] * width
        uk = load(u, at)
        vk = clipped(uk, bound)
        ar, ai = get(rows, plane, A, row)
        br, bi = get(rows, plane, B, row)
        wr, wi = br * uk, bi * uk
        gr, gi = br * vk, bi * vk
        if kind == GBT:
            pr, pi, factor = to_disc(ar + gr, ai + gi)
            outside = is_outside(factor)
            # Inside the disc the coupling is kept; the difference would cancel for a small one.
            gr, gi = where(outside, pr - ar, gr), where(outside, pi - ai, gi)
        store(G, at, gr)
        store(G, half + at, gi)
        xr, xi = wr + ar * xr - ai * xi, wi + ar * xi + ai * xr
        store(X, at + width, xr)
        store(X, imag + at + width, xi)
        store(R, at, xr)
        store(R, half + at, xi)


@inline
def _next_order(
    X: Any, q: int, R: Any, G: Any, rows: Any, plane: int, base: int, index: Any, count: int, width: int
) -> None:
    imag, half = (CHUNK + 1) * width, CHUNK * width
    same, lower = 2 * q * imag, 2 * (q - 1) * imag
    xr, xi = load(X, same), load(X, same + imag)
    for k in range(count):
        at = k * width
        ar, ai = get(rows, plane, A, base + index[k] * width)
        gr, gi = load(G, at), load(G, half + at)
        zr, zi = load(X, lower + at), load(X, lower + imag + at)
        xr, xi = gr * zr - gi * zi + ar * xr - ai * xi, gr * zi + gi * zr + ar * xi + ai * xr
        store(X, same + at + width, xr)
        store(X, same + imag + at + width, xi)
        store(R, at, load(R, at) + xr)
        store(R, half + at, load(R, half + at) + xi)


@inline
def chain_adjoint(
    X: Any,
    GR: Any,
    G: Any,
    H: Any,
    GA: Any,
    GG: Any,
    u: Any,
    gu: Any,
    bound: Any,
    g_bounds: Any,
    rows: Any,
    grads: Any,
    plane: int,
    base: int,
    index: Any,
    delta: Any,
    sums: Any,
    way: int,
    carry: Any,
    n: int,
    kind: int,
    order: int,
    count: int,
    width: int,
) -> None:
    """Adjoint of `run_chain` and of the sum in ``R``, whose gradient is in ``GR``.

    ``carry`` (order, N, 2, W) is what later samples send back to the states, and is renewed. ``H``, ``GA``
    and ``GG`` are buffers: gradients of the states of the order above, of the transition, of the coupling.
    ``g_bounds`` (N, W) gathers the gradients of the bounds. ``way`` is where those of the rows go, one of
    those of ``tsssm.ops.cpu.sums``.
    """
    modes = carry.shape[1]
    H[:] = 0
    GA[:] = 0
    GG[:] = 0
    for q in range(order - 1, 0, -1):
        at = 2 * (q * modes + n) * width
        h = load(carry, at), load(carry, at + width)
        hr, hi = _next_order_adjoint(X, q, GR, G, H, GA, GG, rows, plane, base, index, h, count, width)
        store(carry, at, hr)
        store(carry, at + width, hi)
    at = 2 * n * width
    h = load(carry, at), load(carry, at + width)
    hr, hi = _first_order_adjoint(
        X,
        GR,
        G,
        H,
        GA,
        GG,
        u,
        gu,
        bound,
        g_bounds,
        rows,
        grads,
        plane,
        base,
        index,
        delta,
        sums,
        n,
        way,
        kind,
        h,
        count,
        width,
    )
    store(carry, at, hr)
    store(carry, at + width, hi)


@inline
def _next_order_adjoint(
    X: Any,
    q: int,
    GR: Any,
    G: Any,
    H: Any,
    GA: Any,
    GG: Any,
    rows: Any,
    plane: int,
    base: int,
    index: Any,
    h: Any,
    count: int,
    width: int,
) -> Any:
    imag, half = (CHUNK + 1) * width, CHUNK * width
    same, lower = 2 * q * imag, 2 * (q - 1) * imag
    hr, hi = h
    for k in range(count - 1, -1, -1):
        at = k * width
        ar, ai = get(rows, plane, A, base + index[k] * width)
        gr, gi = load(G, at), load(G, half + at)
        # Of the order above, at the same sample; then of this one, which stands there for the order below.
        tr, ti = load(H, at), load(H, half + at)
        hr, hi = hr + load(GR, at), hi + load(GR, half + at)
        store(H, at, hr)
        store(H, half + at, hi)
        sr, si = conj_times(load(X, same + at), load(X, same + imag + at), hr, hi)
        store(GA, at, load(GA, at) + sr)
        store(GA, half + at, load(GA, half + at) + si)
        sr, si = conj_times(load(X, lower + at), load(X, lower + imag + at), hr, hi)
        store(GG, at, load(GG, at) + sr)
        store(GG, half + at, load(GG, half + at) + si)
        sr, si = conj_times(gr, gi, tr, ti)
        hr, hi = sr + ar * hr + ai * hi, si + ar * hi - ai * hr
    return hr, hi


@inline
def _first_order_adjoint(
    X: Any,
    GR: Any,
    G: Any,
    H: Any,
    GA: Any,
    GG: Any,
    u: Any,
    gu: Any,
    bound: Any,
    g_bounds: Any,
    rows: Any,
    grads: Any,
    plane: int,
    base: int,
    index: Any,
    delta: Any,
    sums: Any,
    n: int,
    way: int,
    kind: int,
    h: Any,
    count: int,
    width: int,
) -> Any:
    imag, half = (CHUNK + 1) * width, CHUNK * width
    hr, hi = h
    zero = constant(hr, "zero")
    held = load_sums(way, grads, plane, base, sums, n, width)
    g_bound = load(g_bounds, n * width)
    for k in range(count - 1, -1, -1):
        at = k * width
        row = base + index[k] * width
        uk = load(u, at)
        vk = clipped(uk, bound)
        ar, ai = get(rows, plane, A, row)
        br, bi = get(rows, plane, B, row)
        hr, hi = hr + load(GR, at), hi + load(GR, half + at)
        gar, gai = conj_times(load(X, at), load(X, imag + at), hr, hi)
        gar, gai = gar + load(GA, at), gai + load(GA, half + at)
        ggr, ggi = load(GG, at), load(GG, half + at)
        if kind == GBT:
            pr, pi, factor = to_disc(ar + br * vk, ai + bi * vk)
            # The coupling is Pi(A + B v) - A outside the disc, and B v inside.
            tr, ti = to_disc_adjoint(pr, pi, factor, ggr, ggi)
            outside = is_outside(factor)
            gar = gar + where(outside, tr - ggr, zero)
            gai = gai + where(outside, ti - ggi, zero)
            ggr, ggi = tr, ti
        held = add_to_sums(
            held,
            way,
            grads,
            plane,
            row,
            delta[k],
            (ar, ai),
            get(rows, plane, P, row),
            (gar, gai),
            (uk * hr + vk * ggr, uk * hi + vk * ggi),
        )
        from_v, from_bound = clipped_adjoint(uk, vk, br * ggr + bi * ggi)
        store(gu, at, load(gu, at) + br * hr + bi * hi + from_v)
        g_bound = g_bound + from_bound
        sr, si = conj_times(load(G, at), load(G, half + at), load(H, at), load(H, half + at))
        hr, hi = sr + ar * hr + ai * hi, si + ar * hi - ai * hr
    store_sums(held, way, grads, plane, base, sums, n, width)
    store(g_bounds, n * width, g_bound)
    return hr, hi
