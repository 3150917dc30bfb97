r"""The R real numbers by which the modes of a diagonal plus low-rank system know of each other.

.. math::
    w_k = \mathrm{Re}(Q^* x_k), \qquad v_k = (1 - \alpha) w_{k-1} + \alpha w_k

Without coupling the modes would read :math:`q_k = \mathrm{Re}(Q^* p_k)`; with it :math:`w_k = q_k - M v_k`,
:math:`M = \mathrm{Re}(Q^* g P)`, so that a system of size R is left (the Woodbury identity, S4, arXiv
2111.00396, appendix C.2): :math:`S v_k = (1 - \alpha) w_{k-1} + \alpha q_k` with :math:`S = I + \alpha M`.

On a regular grid, M is the lag 0 of an impulse response, which carries on what v_k does to later samples, so
that the v of a whole chunk are known before any state is.

Buffers hold (R, CHUNK, W) numbers, or (R, W) for one sample; matrices are (R, R, W).
"""

from __future__ import annotations

from typing import Any

from tsssm.ops.cpu.compiling import inline, routine
from tsssm.ops.cpu.dplr.system import pair
from tsssm.ops.cpu.lanewise import constant
from tsssm.ops.cpu.simd import load, splat, store

CHUNK = 32


@routine
def measure(system: Any, state: Any, w: Any, width: int) -> None:
    """w = Re(Q^* x)"""
    modes, fields = system.shape[0], system.shape[1]
    rank = fields // 2 - 1
    for r in range(rank):
        total = splat(0.0, w)
        for n in range(modes):
            qr, qi = pair(system, ((n * fields + 2 + rank + r) * 2) * width, width)
            xr, xi = pair(state, 2 * n * width, width)
            total = total + (qr * xr + qi * xi)
        store(w, r * width, total)


@routine
def invert(M: Any, alpha: float, rank: int, inverse: Any, to: int, stride: int, width: int) -> None:
    """The inverse of S = I + alpha M, whose entry (r, c) goes to flat position to + (r R + c) stride.

    Gauss-Jordan elimination needs no pivots here: of a stable system in normal plus low-rank form the
    symmetric part of M is not negative.
    """
    weight = splat(alpha, M)
    for r in range(rank):
        for c in range(rank):
            at = r * rank + c
            value = weight * load(M, at * width)
            store(inverse, to + at * stride, constant(value, "one") + value if r == c else value)
    for p in range(rank):
        at = to + p * (rank + 1) * stride
        one = constant(load(inverse, at), "one")
        scale = one / load(inverse, at)
        store(inverse, at, one)
        for c in range(rank):
            at = to + (p * rank + c) * stride
            store(inverse, at, scale * load(inverse, at))
        for r in range(rank):
            if r != p:
                at = to + (r * rank + p) * stride
                factor = load(inverse, at)
                store(inverse, at, splat(0.0, M))
                for c in range(rank):
                    at = to + (r * rank + c) * stride
                    store(
                        inverse, at, load(inverse, at) - factor * load(inverse, to + (p * rank + c) * stride)
                    )


@inline
def close(
    q: Any,
    k: int,
    w: Any,
    M: Any,
    inverse: Any,
    at: int,
    stride: int,
    alpha: float,
    rank: int,
    v: Any,
    width: int,
) -> None:
    """v of sample k from what the uncoupled modes read, ``q``; ``w`` is renewed."""
    after, before = splat(alpha, w), splat(1.0 - alpha, w)
    for r in range(rank):
        total = splat(0.0, w)
        for c in range(rank):
            target = before * load(w, c * width) + after * load(q, (c * CHUNK + k) * width)
            total = total + load(inverse, at + (r * rank + c) * stride) * target
        store(v, (r * CHUNK + k) * width, total)
    for r in range(rank):
        total = load(q, (r * CHUNK + k) * width)
        for c in range(rank):
            total = total - load(M, (r * rank + c) * width) * load(v, (c * CHUNK + k) * width)
        store(w, r * width, total)


@inline
def close_adjoint(
    t: Any, k: int, gv: Any, inverse: Any, at: int, stride: int, alpha: float, rank: int, gw: Any, width: int
) -> None:
    """Gradients of v and w at sample k, from t = Re(P^* g^* h) without what v of this sample sends back.

    ``gv`` holds the gradient of v of the next sample and is renewed; that of w_k goes to ``gw``.
    """
    after, before = splat(alpha, gv), splat(1.0 - alpha, gv)
    for r in range(rank):
        store(gw, (r * CHUNK + k) * width, before * load(gv, r * width))
    for r in range(rank):
        total = splat(0.0, gv)
        for c in range(rank):
            total = total - load(inverse, at + (c * rank + r) * stride) * load(t, (c * CHUNK + k) * width)
        store(gv, r * width, total)
        to = (r * CHUNK + k) * width
        store(gw, to, load(gw, to) + after * total)


@routine
def close_chunk(
    q: Any, w: Any, response: Any, inverse: Any, alpha: float, count: int, v: Any, width: int
) -> None:
    """v of a chunk of a regular grid; ``q`` is used up."""
    rank = response.shape[1]
    for k in range(count):
        close(q, k, w, response, inverse, 0, width, alpha, rank, v, width)
        for c in range(rank):
            drive = load(v, (c * CHUNK + k) * width)
            for r in range(rank):
                for j in range(1, count - k):
                    at = (r * CHUNK + k + j) * width
                    lag = load(response, ((j * rank + r) * rank + c) * width)
                    store(q, at, load(q, at) - lag * drive)


@routine
def close_chunk_adjoint(
    t: Any, gv: Any, response: Any, inverse: Any, alpha: float, count: int, gw: Any, width: int
) -> None:
    """Gradients of w of a chunk of a regular grid; ``t`` is used up, ``gv`` is that of the sample after."""
    rank = response.shape[1]
    before = splat(1.0 - alpha, gv)
    for k in range(count - 1, -1, -1):
        for r in range(rank):
            to = (r * CHUNK + k) * width
            total = load(t, to)
            for c in range(rank):
                total = total + load(response, (c * rank + r) * width) * (before * load(gv, c * width))
            store(t, to, total)
        close_adjoint(t, k, gv, inverse, 0, width, alpha, rank, gw, width)
        for c in range(rank):
            drive = load(gw, (c * CHUNK + k) * width)
            for r in range(rank):
                for j in range(1, k + 1):
                    at = (r * CHUNK + k - j) * width
                    lag = load(response, ((j * rank + c) * rank + r) * width)
                    store(t, at, load(t, at) + lag * drive)
