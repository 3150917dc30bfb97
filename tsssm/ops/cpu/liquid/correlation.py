"""The kernels K-B and P-B: one mode over a chunk, and its adjoint.

With w = Bbar u and the past inputs bounded, :math:`m_k = p_1 (1 + p_2 (1 + ...))` of the last order - 1 ones,
newest first, each sample adds z = w m beside w: to the state (K-B) or to what the readout sees (P-B).

``past`` holds the bounded inputs, oldest first: the order - 1 before the chunk, then those of the chunk.
Samples of zero gap are left out, so that sample k finds its newest predecessor at order - 2 + ``seen[k]``,
where ``seen`` counts the samples before k that are there.
"""

from __future__ import annotations

from typing import Any

from tsssm.ops.cpu.blocks import CHUNK
from tsssm.ops.cpu.compiling import inline
from tsssm.ops.cpu.disc import to_disc, to_disc_adjoint
from tsssm.ops.cpu.liquid.chunk import KB
from tsssm.ops.cpu.rows import A, B, P, conj_times, get, times
from tsssm.ops.cpu.simd import constant, load, store
from tsssm.ops.cpu.sums import add_to_sums, load_sums, store_sums


@inline
def load_past(past: Any, state: Any, n: int, order: int, seen: int, width: int) -> None:
    """Put the slots 1 to order - 1 of a state (order, N, 2, W) where they stand after ``seen`` samples."""
    modes, imag = state.shape[1], past.size // 2
    for q in range(1, order):
        at, to = 2 * (q * modes + n) * width, (order - 1 - q + seen) * width
        store(past, to, load(state, at))
        store(past, imag + to, load(state, at + width))


@inline
def store_past(past: Any, state: Any, n: int, order: int, seen: int, width: int) -> None:
    """The way back of `load_past`."""
    modes, imag = state.shape[1], past.size // 2
    for q in range(1, order):
        to, at = 2 * (q * modes + n) * width, (order - 1 - q + seen) * width
        store(state, to, load(past, at))
        store(state, to + width, load(past, imag + at))


@inline
def run_correlation(
    X: Any,
    R: Any,
    past: Any,
    seen: Any,
    u: Any,
    rows: Any,
    plane: int,
    base: int,
    index: Any,
    kernel: int,
    order: int,
    count: int,
    width: int,
) -> None:
    """States of a chunk, what the readout sees, and the bounded inputs."""
    imag, half, far = (CHUNK + 1) * width, CHUNK * width, past.size // 2
    one = constant(load(X, 0), "one")
    xr, xi = load(X, 0), load(X, imag)
    for k in range(count):
        at = k * width
        row = base + index[k] * width
        uk = load(u, at)
        ar, ai = get(rows, plane, A, row)
        br, bi = get(rows, plane, B, row)
        wr, wi = br * uk, bi * uk
        oldest = seen[k] * width
        mr, mi = load(past, oldest), load(past, far + oldest)
        for q in range(1, order - 1):
            pr, pi = load(past, oldest + q * width), load(past, far + oldest + q * width)
            mr, mi = times(pr, pi, one + mr, mi)
        zr, zi = times(wr, wi, mr, mi)
        if kernel == KB:
            wr, wi = wr + zr, wi + zi
        xr, xi = wr + ar * xr - ai * xi, wi + ar * xi + ai * xr
        store(X, at + width, xr)
        store(X, imag + at + width, xi)
        if kernel == KB:
            store(R, at, xr)
            store(R, half + at, xi)
        else:
            store(R, at, xr + zr)
            store(R, half + at, xi + zi)
        if seen[k + 1] > seen[k]:
            pr, pi, _ = to_disc(br * uk, bi * uk)
            to = oldest + (order - 1) * width
            store(past, to, pr)
            store(past, far + to, pi)


@inline
def correlation_adjoint(
    X: Any,
    GR: Any,
    past: Any,
    gpast: Any,
    M: Any,
    seen: Any,
    u: Any,
    gu: Any,
    rows: Any,
    grads: Any,
    plane: int,
    base: int,
    index: Any,
    delta: Any,
    sums: Any,
    n: int,
    way: int,
    kernel: int,
    order: int,
    count: int,
    width: int,
    h: Any,
) -> Any:
    """Adjoint of `run_correlation`; ``h`` is what later samples send back to the state, returned renewed.

    ``gpast`` arrives with the gradients of the bounded inputs that the next chunk finds in front, zero
    elsewhere; it leaves with those of the inputs before this chunk. ``M`` is a buffer of order samples,
    ``way`` where the gradients of the rows go, one of those of ``tsssm.ops.cpu.sums``.
    """
    imag, half, far, mid = (CHUNK + 1) * width, CHUNK * width, past.size // 2, M.size // 2
    one = constant(load(X, 0), "one")
    hr, hi = h
    held = load_sums(way, grads, plane, base, sums, n, width)
    for k in range(count - 1, -1, -1):
        at = k * width
        row = base + index[k] * width
        uk = load(u, at)
        ar, ai = get(rows, plane, A, row)
        br, bi = get(rows, plane, B, row)
        wr, wi = br * uk, bi * uk
        oldest = seen[k] * width
        # The factors 1 + p (1 + ...) of the inputs from the oldest on, which has 1.
        mr, mi = one - one, one - one
        for q in range(order - 1):
            store(M, q * width, one + mr)
            store(M, mid + q * width, mi)
            pr, pi = load(past, oldest + q * width), load(past, far + oldest + q * width)
            mr, mi = times(pr, pi, one + mr, mi)
        gr, gi = load(GR, at), load(GR, half + at)
        hr, hi = hr + gr, hi + gi
        if kernel == KB:
            gr, gi = hr, hi
        # Of w in w m, and of m.
        gwr, gwi = conj_times(mr, mi, gr, gi)
        gmr, gmi = conj_times(wr, wi, gr, gi)
        for q in range(order - 2, -1, -1):
            to = oldest + q * width
            sr, si = conj_times(load(M, q * width), load(M, mid + q * width), gmr, gmi)
            store(gpast, to, load(gpast, to) + sr)
            store(gpast, far + to, load(gpast, far + to) + si)
            gmr, gmi = conj_times(load(past, to), load(past, far + to), gmr, gmi)
        gwr, gwi = gwr + hr, gwi + hi
        if seen[k + 1] > seen[k]:
            # All samples that look back on this one have added their part.
            to = oldest + (order - 1) * width
            pr, pi, factor = to_disc(wr, wi)
            sr, si = to_disc_adjoint(pr, pi, factor, load(gpast, to), load(gpast, far + to))
            gwr, gwi = gwr + sr, gwi + si
        gar, gai = conj_times(load(X, at), load(X, imag + at), hr, hi)
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
            (uk * gwr, uk * gwi),
        )
        store(gu, at, load(gu, at) + br * gwr + bi * gwi)
        hr, hi = conj_times(ar, ai, hr, hi)
    store_sums(held, way, grads, plane, base, sums, n, width)
    return hr, hi
