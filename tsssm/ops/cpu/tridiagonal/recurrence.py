"""One sample of a pair of series, for W channels in registers, and its adjoint.

Two series go side by side: every sweep over the modes is a chain in which each value waits for the one
before, and the second series fills the time. Registers hold both; see ``bands`` for the buffers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tsssm.ops.cpu.blocks import CHUNK
from tsssm.ops.cpu.compiling import inline
from tsssm.ops.cpu.lanewise import constant
from tsssm.ops.cpu.simd import all_modes, load, loads, nothing, splat, store, where, width_of
from tsssm.ops.cpu.tridiagonal.bands import both, put_both, triple

# Samples whose gradients are added up together. They are kept beside the states of the chunk in the
# second-level cache.
PART = 8


class Sample(NamedTuple):
    """One sample of both series: where its factors stand, ``apart`` numbers from one series to the other,
    its gap, and whether the step is stiff for some channel."""

    factors: Any
    apart: Any
    gap: Any
    stiff: Any


@inline
def _factor(bands: Any, sample: Any, n: int, i: int) -> Any:
    """Factor ``i`` of mode n."""
    at = sample.factors + (3 * n + i) * width_of(bands.factors)
    return loads(bands.factors, at, sample.apart, 2)


@inline
def advance(bands: Any, X: Any, start: int, end: int, zeta: Any, keep: int, sample: Any, u: Any) -> Any:
    r"""Take the states at ``start`` of ``X`` one sample on, to ``end``; returns the first readout of both.

    .. math:: W \zeta = x_{k-1} + \alpha s B u_k, \qquad x_k = x_{k-1} + s (V \zeta + B u_k).

    zeta is written at ``keep`` unless that is negative. ``bands.Z`` is scratch, whose entry 0 is zero.

    A long step makes x_k the small difference of large terms. ``sample.stiff`` says that for some channel, by
    the bound of `bands.stiffness`, it is so long that
    :math:`x_k = (T \zeta - (1 - \alpha) x_{k-1}) / \alpha` is more accurate, which is the same number.
    """
    system, Z, s, width = bands.system, bands.Z, sample.gap, width_of(X)
    one, alpha = constant(s, "one"), splat(bands.alpha, X)
    is_stiff = one < s * load(bands.bound, 0)
    inverse = splat(1.0 / bands.alpha if sample.stiff else 0.0, X)
    rest = (one - alpha) * inverse
    v, z = alpha * s * u, nothing(u)
    for n in range(1, bands.modes + 1):
        at = 2 * n * width
        z = both(X, start + at) + load(system, (4 * n + 3) * width) * v - _factor(bands, sample, n, 0) * z
        put_both(Z, at, z)
    z = _factor(bands, sample, bands.modes, 1) * z
    upper, y = nothing(u), nothing(u)
    for n in range(bands.modes, 0, -1):
        at = 2 * n * width
        lower = _factor(bands, sample, n - 1, 1) * both(Z, at - 2 * width)
        lower = lower - _factor(bands, sample, n - 1, 2) * z
        v0, v1, v2 = triple(system, 4 * n * width)
        b, before = load(system, (4 * n + 3) * width), both(X, start + at)
        x = before + s * (b * u + v2 * upper + v1 * z + v0 * lower)
        if sample.stiff:
            t0, t1, t2 = triple(bands.matrix, 3 * n * width)
            x = where(is_stiff, inverse * (t2 * upper + t1 * z + t0 * lower) - rest * before, x)
        put_both(X, end + at, x)
        y = y + load(bands.C, n * width) * x
        if keep >= 0:
            put_both(zeta, keep + at, z)
        upper, z = z, lower
    return y


@inline
def read_out(bands: Any, X: Any, at: int, m: int, like: Any) -> Any:
    """One readout of the states of both series at flat position ``at``."""
    y, width = nothing(like), width_of(X)
    for n in range(1, bands.modes + 1):
        c = load(bands.C, (m * (bands.modes + 2) + n) * width)
        y = y + c * both(X, at + 2 * n * width)
    return y


@inline
def send_readout(bands: Any, G: Any, m: int, g: Any) -> None:
    """Add what the gradients of readout ``m`` send to the states of both series."""
    width = width_of(G)
    for n in range(1, bands.modes + 1):
        c, at = load(bands.C, (m * (bands.modes + 2) + n) * width), 2 * n * width
        put_both(G, at, both(G, at) + c * g)


@inline
def retreat(bands: Any, G: Any, E: Any, L: Any, now: int, sample: Any, g: Any) -> Any:
    r"""Adjoint of `advance`; returns the gradients of the inputs of both series.

    ``G`` holds the gradient that later samples and further readouts send to x_k, and is renewed to that of
    x_{k-1}; ``g`` is the gradient of the first readout. With h the gradient of x_k in all,

    .. math::
        W^T \lambda = s V^T h, \qquad \eta = h + \alpha\lambda, \qquad g_{x_{k-1}} = h + \lambda,
        \qquad g_u = s B^T \eta.

    lambda is written to ``L`` at ``now`` and s eta to ``E``. Of a stiff step eta is the small difference, so
    that it is solved for, :math:`W^T \eta = T^T h`, and lambda follows.
    """
    system, matrix, s, width = bands.system, bands.matrix, sample.gap, width_of(G)
    is_stiff = constant(s, "one") < s * load(bands.bound, 0)
    here, lower, w = nothing(g), nothing(g), nothing(g)
    for n in range(bands.modes + 1):
        # Mode n - 1 needs the gradient of mode n, which is therefore made first.
        at = 2 * (n + 1) * width
        h = both(G, at) + load(bands.C, (n + 1) * width) * g
        put_both(G, at, h)
        if n > 0:
            v = 4 * n * width
            v0, v1, v2 = load(system, v + 4 * width), load(system, v + width), load(system, v - 2 * width)
            r = s * (v2 * lower + v1 * here + v0 * h)
            if sample.stiff:
                t = 3 * n * width
                t0, t1, t2 = load(matrix, t + 3 * width), load(matrix, t + width), load(matrix, t - width)
                r = where(is_stiff, t2 * lower + t1 * here + t0 * h, r)
            w = r - _factor(bands, sample, n - 1, 2) * w
            put_both(L, now + at - 2 * width, w)
        lower, here = here, h
    alpha, inverse = splat(bands.alpha, G), splat(1.0 / bands.alpha if sample.stiff else 0.0, G)
    z, gu = nothing(g), nothing(g)
    for n in range(bands.modes, 0, -1):
        at = 2 * n * width
        z = _factor(bands, sample, n, 1) * both(L, now + at) - _factor(bands, sample, n + 1, 0) * z
        h = both(G, at)
        back, eta = z, h + alpha * z
        if sample.stiff:
            back, eta = where(is_stiff, inverse * (z - h), back), where(is_stiff, z, eta)
        eta = s * eta
        put_both(L, now + at, back)
        put_both(E, now + at, eta)
        put_both(G, at, h + back)
        gu = gu + load(system, (4 * n + 3) * width) * eta
    return gu


@inline
def collect(bands: Any, E: Any, L: Any, zeta: Any, plane: int, u: Any, part: Any, sums: Any) -> None:
    r"""Add what samples of a ``part``, from first to last, of a chunk send to the ``sums`` of T, of V and B.

    That is :math:`g_V = s \eta\zeta^T` and :math:`g_T = -\lambda\zeta^T` on the bands, and
    :math:`g_B = s \eta u`.
    """
    (first, last), (g_matrix, g_system), width = part, sums, width_of(E)
    for n in range(1, bands.modes + 1):
        t, v = 3 * n * width, 4 * n * width
        (t0, t1, t2), (v0, v1, v2) = triple(g_matrix, t), triple(g_system, v)
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
        for i, value in enumerate((t0, t1, t2)):
            store(g_matrix, t + i * width, value)
        for i, value in enumerate((v0, v1, v2, g)):
            store(g_system, v + i * width, value)


@inline
def collect_readout(bands: Any, X: Any, plane: int, gy: Any, gC: Any, m: int, count: int) -> None:
    """Add what a chunk sends to readout ``m``: the states after each sample times ``gy``."""
    width = width_of(X)
    for n in range(1, bands.modes + 1):
        to = (m * (bands.modes + 2) + n) * width
        total = nothing(both(X, 0))
        for k in range(count):
            g = loads(gy, (2 * m * CHUNK + k) * width, CHUNK * width, 2)
            total = total + g * both(X, (k + 1) * plane + 2 * n * width)
        store(gC, to, load(gC, to) + all_modes(total))
