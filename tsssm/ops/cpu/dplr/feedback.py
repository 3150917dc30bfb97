r"""The R real numbers by which the modes of a diagonal plus low-rank system know of each other.

.. math::
    w_k = \mathrm{Re}(Q^* x_k), \qquad v_k = (1 - \alpha) w_{k-1} + \alpha w_k

Without coupling the modes would read :math:`q_k = \mathrm{Re}(Q^* p_k)`; with it :math:`w_k = q_k - M v_k`,
:math:`M = \mathrm{Re}(Q^* g P)`, so that a system of size R is left (the Woodbury identity, S4, arXiv
2111.00396, appendix C.2): :math:`S v_k = (1 - \alpha) w_{k-1} + \alpha q_k` with :math:`S = I + \alpha M`.

On a regular grid, M is the lag 0 of an impulse response, which carries on what v_k does to later samples, so
that the v of a whole chunk are known before any state is.

Buffers hold (R, CHUNK, W) numbers, or (R, W) for one sample; matrices are (R, R, W). Of an `Inverse`, entry
(r, c) stands at register ``first`` + (r R + c) ``stride``: those of a chunk of samples stand side by side.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tsssm.ops.cpu.blocks import CHUNK
from tsssm.ops.cpu.compiling import inline, routine
from tsssm.ops.cpu.dplr.system import FIRST, term
from tsssm.ops.cpu.lanewise import constant
from tsssm.ops.cpu.simd import conj, load, pair, plus, plus_real, splat, store, width_of


class Inverse(NamedTuple):
    """The inverse of S at a sample."""

    values: Any
    first: Any
    stride: Any


@inline
def entry(inverse: Any, rank: int, r: int, c: int) -> int:
    """Flat position of an entry."""
    return (inverse.first + (r * rank + c) * inverse.stride) * width_of(inverse.values)


@routine
def measure(system: Any, state: Any, w: Any) -> None:
    """w = Re(Q^* x)"""
    width = width_of(w)
    for r in range(system.rank):
        total = splat(0.0, w)
        for n in range(system.modes):
            q = conj(term(system, n, FIRST + system.rank + r))
            total = plus_real(total, q, pair(state, 2 * n * width))
        store(w, r * width, total)


@routine
def invert(M: Any, alpha: float, rank: int, inverse: Any) -> None:
    """The inverse of S = I + alpha M.

    Gauss-Jordan elimination needs no pivots here: of a stable system in normal plus low-rank form the
    symmetric part of M is not negative.
    """
    weight, values = splat(alpha, M), inverse.values
    one, zero = constant(weight, "one"), splat(0.0, M)
    for r in range(rank):
        for c in range(rank):
            value = weight * load(M, (r * rank + c) * width_of(M))
            store(values, entry(inverse, rank, r, c), one + value if r == c else value)
    for p in range(rank):
        at = entry(inverse, rank, p, p)
        scale = one / load(values, at)
        store(values, at, one)
        for c in range(rank):
            at = entry(inverse, rank, p, c)
            store(values, at, scale * load(values, at))
        for r in range(rank):
            if r != p:
                at = entry(inverse, rank, r, p)
                factor = load(values, at)
                store(values, at, zero)
                for c in range(rank):
                    at = entry(inverse, rank, r, c)
                    store(values, at, load(values, at) - factor * load(values, entry(inverse, rank, p, c)))


@inline
def close(work: Any, k: int, M: Any, inverse: Any, alpha: float, rank: int) -> None:
    """v of sample k from what the uncoupled modes read, ``work.q``; ``work.w`` is renewed."""
    q, w, v, width = work.q, work.w, work.v, width_of(M)
    after, before = splat(alpha, M), splat(1.0 - alpha, M)
    for r in range(rank):
        total = splat(0.0, M)
        for c in range(rank):
            target = before * load(w, c * width) + after * load(q, (c * CHUNK + k) * width)
            total = plus(total, load(inverse.values, entry(inverse, rank, r, c)), target)
        store(v, (r * CHUNK + k) * width, total)
    for r in range(rank):
        total = load(q, (r * CHUNK + k) * width)
        for c in range(rank):
            total = total - load(M, (r * rank + c) * width) * load(v, (c * CHUNK + k) * width)
        store(w, r * width, total)


@inline
def close_adjoint(work: Any, k: int, inverse: Any, alpha: float, rank: int) -> None:
    """Gradients of v and w at sample k, from t = Re(P^* g^* h) without what v of this sample sends back.

    ``work.gv`` holds the gradient of v of the next sample and is renewed; that of w_k goes to ``work.gw``.
    """
    t, gv, gw, width = work.t, work.gv, work.gw, width_of(work.gv)
    after, before = splat(alpha, gv), splat(1.0 - alpha, gv)
    for r in range(rank):
        store(gw, (r * CHUNK + k) * width, before * load(gv, r * width))
    for r in range(rank):
        total = splat(0.0, gv)
        for c in range(rank):
            value = load(inverse.values, entry(inverse, rank, c, r))
            total = total - value * load(t, (c * CHUNK + k) * width)
        store(gv, r * width, total)
        to = (r * CHUNK + k) * width
        store(gw, to, plus(load(gw, to), after, total))


@routine
def close_chunk(work: Any, response: Any, inverse: Any, alpha: float, rank: int, count: int) -> None:
    """v of a chunk of a regular grid; ``work.q`` is used up."""
    width = width_of(response)
    for k in range(count):
        close(work, k, response, inverse, alpha, rank)
        for c in range(rank):
            drive = load(work.v, (c * CHUNK + k) * width)
            for r in range(rank):
                for j in range(1, count - k):
                    at = (r * CHUNK + k + j) * width
                    lag = load(response, ((j * rank + r) * rank + c) * width)
                    store(work.q, at, load(work.q, at) - lag * drive)


@routine
def close_chunk_adjoint(work: Any, response: Any, inverse: Any, alpha: float, rank: int, count: int) -> None:
    """Gradients of w of a chunk of a regular grid; ``work.t`` is used up."""
    t, gv, width = work.t, work.gv, width_of(response)
    before = splat(1.0 - alpha, response)
    for k in range(count - 1, -1, -1):
        for r in range(rank):
            to = (r * CHUNK + k) * width
            total = load(t, to)
            for c in range(rank):
                lag = load(response, (c * rank + r) * width)
                total = plus(total, lag, before * load(gv, c * width))
            store(t, to, total)
        close_adjoint(work, k, inverse, alpha, rank)
        for c in range(rank):
            drive = load(work.gw, (c * CHUNK + k) * width)
            for r in range(rank):
                for j in range(1, k + 1):
                    at = (r * CHUNK + k - j) * width
                    lag = load(response, ((j * rank + c) * rank + r) * width)
                    store(t, at, plus(load(t, at), lag, drive))
