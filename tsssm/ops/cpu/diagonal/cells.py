"""Modes that need no rows: a hold or a transform, one readout, from rest. Most calls are of this kind.

States are divided by a scale K, which the readout W = C K takes over. With the move m = Abar - 1 of a sample
(``tsssm.ops.cpu.coefficients``) and the clipped input v (``tsssm.ops.cpu.bounds``) that leaves

    `Plain`      x_k = x_{k-1} + m_k (x_{k-1} + u_k)                             K = B / lambda
    `Coupled`    x_k = x_{k-1} + m_k (c_k x_{k-1} + u_k),  c_k = 1 + K v_k       K = B / lambda
    `Driven`     x_k = x_{k-1} + u_k + (m + K v_k) x_{k-1}                       K = Bbar

and y_k = Re W x_k. `Coupled` and `Driven` are liquid, the latter where all gaps are equal; both are holds, so
that no transition is outside the unit disc. The gradients of a mode need few sums, however many gaps there
are. Not for a mode that is slow: the two parts that the gradient of its lambda has cancel.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tsssm.ops.cpu.bounds import clipped, clipped_adjoint
from tsssm.ops.cpu.coefficients import GBT
from tsssm.ops.cpu.compiling import Choice, inline
from tsssm.ops.cpu.lanewise import constant
from tsssm.ops.cpu.simd import (
    conj,
    loads,
    pairs,
    plus,
    real,
    splat,
    width_of,
)


class Plain(NamedTuple):
    """Cell of plain modes, or its operands: ``moves`` of a mode are ``stride`` numbers behind the last one's.

    ``scale`` and ``weights`` (N, 2, W) are K and W; ``X`` is room for states.
    """

    moves: Any
    stride: Any
    scale: Any
    weights: Any
    g_scale: Any
    bounds: Any
    rule: Any
    X: Any


class Coupled(NamedTuple):
    """Cell of liquid modes at different gaps."""

    moves: Any
    stride: Any
    scale: Any
    weights: Any
    g_scale: Any
    bounds: Any
    rule: Any
    X: Any


class Driven(NamedTuple):
    """Cell of liquid modes at one gap."""

    moves: Any
    stride: Any
    scale: Any
    weights: Any
    g_scale: Any
    bounds: Any
    rule: Any
    X: Any


class AsPlain(NamedTuple):
    """Says that a call is computed by `Plain`; so for the next two."""

    is_liquid: bool = False


class AsCoupled(NamedTuple):
    """Says that a call is computed by `Coupled`."""

    is_liquid: bool = True


class AsDriven(NamedTuple):
    """Says that a call is computed by `Driven`."""

    is_liquid: bool = True


class PlainModes(NamedTuple):
    """Registers of some plain modes."""

    w: Any
    rule: Any


class CoupledModes(NamedTuple):
    """Registers of some modes of `Coupled`."""

    w: Any
    scale: Any
    bound: Any


class DrivenModes(NamedTuple):
    """Registers of some modes of `Driven`."""

    w: Any
    m: Any
    scale: Any
    bound: Any


@inline
def _liquid_modes(cell: Any, n: int, w: Any) -> Any:
    width = width_of(cell.scale)
    bound = loads(cell.bounds, n * width, width, w)
    return CoupledModes(w, pairs(cell.scale, 2 * n * width, 2 * width, w), bound)


@inline
def _driven_modes(cell: Any, n: int, w: Any) -> Any:
    width = width_of(cell.scale)
    at, step = 2 * n * width, 2 * width
    bound = loads(cell.bounds, n * width, width, w)
    return DrivenModes(w, pairs(cell.moves, at, step, w), pairs(cell.scale, at, step, w), bound)


@Choice
def modes_ahead(cell: Any, n: int, at: int, step: int) -> Any:
    """As many modes from ``n`` on as run forward together."""


@Choice
def modes_back(cell: Any, n: int, at: int, step: int) -> Any:
    """As many modes from ``n`` on as run backwards together: fewer, for want of registers."""


@Choice
def modes_again(cell: Any, n: int, at: int, step: int) -> Any:
    """As many modes from ``n`` on as are computed again together, for those that run backwards."""


@modes_ahead.of(Plain)
@inline
def _(cell: Any, n: int, at: int, step: int) -> Any:
    return PlainModes(pairs(cell.weights, at, step, 4), cell.rule)


@modes_ahead.of(Coupled)
@modes_again.of(Coupled)
@inline
def _(cell: Any, n: int, at: int, step: int) -> Any:
    return _liquid_modes(cell, n, pairs(cell.weights, at, step, 2))


@modes_ahead.of(Driven)
@inline
def _(cell: Any, n: int, at: int, step: int) -> Any:
    return _driven_modes(cell, n, pairs(cell.weights, at, step, 4))


@modes_back.of(Plain)
@modes_again.of(Plain)
@inline
def _(cell: Any, n: int, at: int, step: int) -> Any:
    return PlainModes(pairs(cell.weights, at, step, 2), cell.rule)


@modes_back.of(Coupled)
@inline
def _(cell: Any, n: int, at: int, step: int) -> Any:
    return _liquid_modes(cell, n, pairs(cell.weights, at, step, 1))


@modes_again.of(Driven)
@inline
def _(cell: Any, n: int, at: int, step: int) -> Any:
    return _driven_modes(cell, n, pairs(cell.weights, at, step, 2))


@modes_back.of(Driven)
@inline
def _(cell: Any, n: int, at: int, step: int) -> Any:
    return _driven_modes(cell, n, pairs(cell.weights, at, step, 1))


@Choice
def move_at(modes: Any, moves: Any, at: int, stride: int) -> Any:
    """The moves of some modes at a sample."""


@move_at.of(PlainModes, CoupledModes)
@inline
def _(modes: Any, moves: Any, at: int, stride: int) -> Any:
    return pairs(moves, at, stride, modes.w)


@move_at.of(DrivenModes)
@inline
def _(modes: Any, moves: Any, at: int, stride: int) -> Any:
    return modes.m


@Choice
def step(modes: Any, m: Any, x: Any, u: Any) -> Any:
    """The states after a sample."""


@Choice
def step_adjoint(modes: Any, m: Any, x: Any, h: Any, u: Any, gap: Any, sums: Any) -> Any:
    """Adjoint of `step` from the states ``x``: the gradient ``h`` renewed, that of the input, and the sums.

    The sums are the gradients of z, in `Driven` of m; of K in the transition; and of the bound.
    """


@step.of(PlainModes)
@inline
def _(modes: Any, m: Any, x: Any, u: Any) -> Any:
    return plus(x, m, x + u)


@step_adjoint.of(PlainModes)
@inline
def _(modes: Any, m: Any, x: Any, h: Any, u: Any, gap: Any, sums: Any) -> Any:
    t, s, total = sums
    q = conj(m) * h
    if modes.rule.kind == GBT:
        # The derivative of m by z is (1 + alpha m)^2.
        a = splat(modes.rule.alpha, q)
        e = plus(h, a, q)
        e = gap * plus(e, a, conj(m) * e)
        h = h + q
    else:
        # It is 1 + m.
        h = h + q
        e = gap * h
    return h, real(q), (plus(t, conj(x + u), e), s, total)


@step.of(CoupledModes)
@inline
def _(modes: Any, m: Any, x: Any, u: Any) -> Any:
    c = plus(constant(u, "one"), clipped(u, modes.bound), modes.scale)
    return plus(x, m, plus(u, c, x))


@step_adjoint.of(CoupledModes)
@inline
def _(modes: Any, m: Any, x: Any, h: Any, u: Any, gap: Any, sums: Any) -> Any:
    t, s, total = sums
    v = clipped(u, modes.bound)
    c = plus(constant(u, "one"), v, modes.scale)
    q = conj(m) * h
    t = plus(t, conj(plus(u, c, x)), gap * (h + q))
    f = conj(x) * q
    inside, outside = clipped_adjoint(u, v, real(conj(modes.scale) * f))
    return plus(h, conj(c), q), real(q) + inside, (t, plus(s, v, f), total + outside)


@step.of(DrivenModes)
@inline
def _(modes: Any, m: Any, x: Any, u: Any) -> Any:
    return plus(x + u, plus(m, clipped(u, modes.bound), modes.scale), x)


@step_adjoint.of(DrivenModes)
@inline
def _(modes: Any, m: Any, x: Any, h: Any, u: Any, gap: Any, sums: Any) -> Any:
    t, s, total = sums
    v, f = clipped(u, modes.bound), conj(x) * h
    inside, outside = clipped_adjoint(u, v, real(conj(modes.scale) * f))
    back = plus(h, conj(plus(m, v, modes.scale)), h)
    return back, real(h) + inside, (t + f, plus(s, v, f), total + outside)
