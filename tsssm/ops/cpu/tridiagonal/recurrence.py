"""One sample of a pair of series, for W channels in registers, and its adjoint.

Two series go side by side: every sweep over the modes is a chain in which each value waits for the one
before, and the second series fills the time. They are called a and b; a buffer of pairs holds for each mode
(entry n + 1, see ``bands``) a register of a, then one of b. ``rows`` holds the factors of `bands.factor`,
those of a at ``at_a``, those of b at ``at_b``.
"""

from __future__ import annotations

from typing import Any

from tsssm.ops.cpu.compiling import inline
from tsssm.ops.cpu.lanewise import constant
from tsssm.ops.cpu.simd import load, splat, store, where

CHUNK = 32
# Samples whose gradients are added up together. They are kept beside the states of the chunk in the
# second-level cache.
PART = 8


@inline
def advance(
    X: Any,
    start: int,
    end: int,
    Z: Any,
    zeta: Any,
    keep: int,
    matrix: Any,
    system: Any,
    bound: Any,
    stiff: bool,
    readout: Any,
    rows: Any,
    at_a: int,
    at_b: int,
    ua: Any,
    ub: Any,
    gap_a: float,
    gap_b: float,
    alpha: float,
    modes: int,
    width: int,
) -> Any:
    r"""Take the states at ``start`` of ``X`` one sample on, to ``end``; returns the first readout of both.

    .. math:: W \zeta = x_{k-1} + \alpha s B u_k, \qquad x_k = x_{k-1} + s (V \zeta + B u_k).

    zeta is written at ``keep`` unless that is negative. ``Z`` is scratch, whose entry 0 is zero.

    A long step makes x_k the small difference of large terms. ``stiff`` says that for some channel, by the
    ``bound`` of `bands.stiffness`, it is so long that :math:`x_k = (T \zeta - (1 - \alpha) x_{k-1}) / \alpha`
    is more accurate, which is the same number.
    """
    zero, one = splat(0.0, rows), constant(ua, "one")
    sa, sb = splat(gap_a, rows), splat(gap_b, rows)
    alphas = splat(alpha, rows)
    stiff_a, stiff_b = one < sa * load(bound, 0), one < sb * load(bound, 0)
    inverse = splat(1.0 / alpha if stiff else 0.0, rows)
    rest = (one - alphas) * inverse
    va, vb = alphas * sa * ua, alphas * sb * ub
    za, zb = zero, zero
    for n in range(1, modes + 1):
        at, f = 2 * n * width, 3 * n * width
        bn = load(system, (4 * n + 3) * width)
        za = load(X, start + at) + bn * va - load(rows, at_a + f) * za
        zb = load(X, start + at + width) + bn * vb - load(rows, at_b + f) * zb
        store(Z, at, za)
        store(Z, at + width, zb)
    r = (3 * modes + 1) * width
    za, zb = load(rows, at_a + r) * za, load(rows, at_b + r) * zb
    upper_a, upper_b = zero, zero
    ya, yb = zero, zero
    for n in range(modes, 0, -1):
        at, r, v = 2 * n * width, (3 * n - 2) * width, 4 * n * width
        lower = at - 2 * width
        lower_a = load(rows, at_a + r) * load(Z, lower) - load(rows, at_a + r + width) * za
        lower_b = load(rows, at_b + r) * load(Z, lower + width) - load(rows, at_b + r + width) * zb
        v0, v1, v2 = load(system, v), load(system, v + width), load(system, v + 2 * width)
        bn, cn = load(system, v + 3 * width), load(readout, n * width)
        before_a, before_b = load(X, start + at), load(X, start + at + width)
        xa = before_a + sa * (bn * ua + v2 * upper_a + v1 * za + v0 * lower_a)
        xb = before_b + sb * (bn * ub + v2 * upper_b + v1 * zb + v0 * lower_b)
        if stiff:
            t = 3 * n * width
            t0, t1, t2 = load(matrix, t), load(matrix, t + width), load(matrix, t + 2 * width)
            ga, gb = t2 * upper_a + t1 * za + t0 * lower_a, t2 * upper_b + t1 * zb + t0 * lower_b
            xa = where(stiff_a, inverse * ga - rest * before_a, xa)
            xb = where(stiff_b, inverse * gb - rest * before_b, xb)
        store(X, end + at, xa)
        store(X, end + at + width, xb)
        ya, yb = ya + cn * xa, yb + cn * xb
        if keep >= 0:
            store(zeta, keep + at, za)
            store(zeta, keep + at + width, zb)
        upper_a, upper_b, za, zb = za, zb, lower_a, lower_b
    return ya, yb


@inline
def read_out(X: Any, at_x: int, readout: Any, m: int, modes: int, width: int) -> Any:
    """One readout of the states of both series."""
    ya = splat(0.0, X)
    yb = ya
    base = m * (modes + 2) * width
    for n in range(1, modes + 1):
        cn, at = load(readout, base + n * width), at_x + 2 * n * width
        ya, yb = ya + cn * load(X, at), yb + cn * load(X, at + width)
    return ya, yb


@inline
def send_readout(G: Any, readout: Any, m: int, ga: Any, gb: Any, modes: int, width: int) -> None:
    """Add what the gradients of readout ``m`` send to the states of both series."""
    base = m * (modes + 2) * width
    for n in range(1, modes + 1):
        cn, at = load(readout, base + n * width), 2 * n * width
        store(G, at, load(G, at) + cn * ga)
        store(G, at + width, load(G, at + width) + cn * gb)


@inline
def retreat(
    G: Any,
    E: Any,
    L: Any,
    now: int,
    matrix: Any,
    system: Any,
    bound: Any,
    stiff: bool,
    readout: Any,
    rows: Any,
    at_a: int,
    at_b: int,
    ga: Any,
    gb: Any,
    gap_a: float,
    gap_b: float,
    alpha: float,
    modes: int,
    width: int,
) -> Any:
    r"""Adjoint of `advance`; returns the gradients of the inputs of both series.

    ``G`` holds the gradient that later samples and further readouts send to x_k, and is renewed to that of
    x_{k-1}; ``ga`` and ``gb`` are the gradients of the first readout. With h the gradient of x_k in all,

    .. math::
        W^T \lambda = s V^T h, \qquad \eta = h + \alpha\lambda, \qquad g_{x_{k-1}} = h + \lambda,
        \qquad g_u = s B^T \eta.

    lambda is written to ``L`` at ``now`` and s eta to ``E``. Of a stiff step eta is the small difference, so
    that it is solved for, :math:`W^T \eta = T^T h`, and lambda follows.
    """
    zero, one = splat(0.0, rows), constant(ga, "one")
    sa, sb = splat(gap_a, rows), splat(gap_b, rows)
    stiff_a, stiff_b = one < sa * load(bound, 0), one < sb * load(bound, 0)
    here_a, here_b, lower_a, lower_b, wa, wb = zero, zero, zero, zero, zero, zero
    for n in range(modes + 1):
        # Mode n - 1 needs the gradient of mode n, which is therefore made first.
        at = 2 * (n + 1) * width
        cn = load(readout, (n + 1) * width)
        ha, hb = load(G, at) + cn * ga, load(G, at + width) + cn * gb
        store(G, at, ha)
        store(G, at + width, hb)
        if n > 0:
            v, p = 4 * n * width, (3 * n - 1) * width
            v0, v1, v2 = load(system, v + 4 * width), load(system, v + width), load(system, v - 2 * width)
            ra = sa * (v2 * lower_a + v1 * here_a + v0 * ha)
            rb = sb * (v2 * lower_b + v1 * here_b + v0 * hb)
            if stiff:
                t = 3 * n * width
                t0, t1, t2 = load(matrix, t + 3 * width), load(matrix, t + width), load(matrix, t - width)
                ra = where(stiff_a, t2 * lower_a + t1 * here_a + t0 * ha, ra)
                rb = where(stiff_b, t2 * lower_b + t1 * here_b + t0 * hb, rb)
            wa, wb = ra - load(rows, at_a + p) * wa, rb - load(rows, at_b + p) * wb
            store(L, now + at - 2 * width, wa)
            store(L, now + at - width, wb)
        lower_a, lower_b, here_a, here_b = here_a, here_b, ha, hb
    alphas, inverse = splat(alpha, rows), splat(1.0 / alpha if stiff else 0.0, rows)
    za, zb, gua, gub = zero, zero, zero, zero
    for n in range(modes, 0, -1):
        at, r = 2 * n * width, (3 * n + 1) * width
        za = load(rows, at_a + r) * load(L, now + at) - load(rows, at_a + r + 2 * width) * za
        zb = load(rows, at_b + r) * load(L, now + at + width) - load(rows, at_b + r + 2 * width) * zb
        ha, hb = load(G, at), load(G, at + width)
        la, lb, ea, eb = za, zb, ha + alphas * za, hb + alphas * zb
        if stiff:
            la, ea = where(stiff_a, inverse * (za - ha), la), where(stiff_a, za, ea)
            lb, eb = where(stiff_b, inverse * (zb - hb), lb), where(stiff_b, zb, eb)
        ea, eb = sa * ea, sb * eb
        store(L, now + at, la)
        store(L, now + at + width, lb)
        store(E, now + at, ea)
        store(E, now + at + width, eb)
        store(G, at, ha + la)
        store(G, at + width, hb + lb)
        bn = load(system, (4 * n + 3) * width)
        gua, gub = gua + bn * ea, gub + bn * eb
    return gua, gub


@inline
def collect(
    E: Any,
    L: Any,
    zeta: Any,
    plane: int,
    u: Any,
    first: int,
    last: int,
    g_matrix: Any,
    g_system: Any,
    modes: int,
    width: int,
) -> None:
    r"""Add what samples ``first`` to ``last`` of a chunk send to T, V and B.

    That is :math:`g_V = s \eta\zeta^T` and :math:`g_T = -\lambda\zeta^T` on the bands, and
    :math:`g_B = s \eta u`.
    """
    for n in range(1, modes + 1):
        t, v = 3 * n * width, 4 * n * width
        t0, t1, t2 = load(g_matrix, t), load(g_matrix, t + width), load(g_matrix, t + 2 * width)
        v0, v1, v2 = load(g_system, v), load(g_system, v + width), load(g_system, v + 2 * width)
        g = load(g_system, v + 3 * width)
        for k in range(first, last):
            for row in range(2):
                at = (2 * n + row) * width
                to, z = (k - first) * plane + at, k * plane + at
                eta, lam = load(E, to), load(L, to)
                z0, z1, z2 = load(zeta, z - 2 * width), load(zeta, z), load(zeta, z + 2 * width)
                t0, t1, t2 = t0 - lam * z0, t1 - lam * z1, t2 - lam * z2
                v0, v1, v2 = v0 + eta * z0, v1 + eta * z1, v2 + eta * z2
                g = g + eta * load(u, (row * CHUNK + k) * width)
        store(g_matrix, t, t0)
        store(g_matrix, t + width, t1)
        store(g_matrix, t + 2 * width, t2)
        store(g_system, v, v0)
        store(g_system, v + width, v1)
        store(g_system, v + 2 * width, v2)
        store(g_system, v + 3 * width, g)


@inline
def collect_readout(
    X: Any, plane: int, gy: Any, g_readout: Any, m: int, count: int, modes: int, width: int
) -> None:
    """Add what a chunk sends to readout ``m``: the states after each sample times ``gy``."""
    for n in range(1, modes + 1):
        to = (m * (modes + 2) + n) * width
        total_a, total_b = load(g_readout, to), splat(0.0, X)
        for k in range(count):
            at, g = (k + 1) * plane + 2 * n * width, (2 * m * CHUNK + k) * width
            total_a = total_a + load(gy, g) * load(X, at)
            total_b = total_b + load(gy, g + CHUNK * width) * load(X, at + width)
        store(g_readout, to, total_a + total_b)
