r"""Discretised coefficients of one mode for one step, and the way their gradients go back to the system.

All of them start from the *move* of a mode, m = Abar - 1: with a hold m = exp(z) - 1, with a transform
m = z / (1 - alpha z), where z = lambda Delta delta. Both have Bbar = m B / lambda, so that one complex number
says all about a sample, and it keeps its relative precision where the gap is short.

Where first-order hold, a second readout or a slow mode needs more, a sample has a *row*. Rows that many
samples share (a regular grid, few distinct gaps) are computed once a call; otherwise they are computed where
they are used. Fields of a row, each a complex register::

    A      Abar, the transition                        x_k = A x_{k-1} + B u_k + Q u_{k-1}
    B, Q   Bbar of the current and the previous input
    P, R   B and Q before the multiplication with the input vector
    D, F   derivatives of P and R by the eigenvalue
    E      derivative of Abar by z
    S      derivative of P by the step
"""

from __future__ import annotations

from math import factorial
from typing import Any, NamedTuple

import numpy as np

from tsssm.ops.cpu.compiling import inline, maker, routine
from tsssm.ops.cpu.elementary import exp_expm1, sin_cos_cosm1
from tsssm.ops.cpu.lanewise import constant
from tsssm.ops.cpu.memory import piece, zeros
from tsssm.ops.cpu.simd import (
    complex_of,
    conj,
    imag,
    load,
    nothing,
    pair,
    plus,
    real,
    splat,
    store,
    where,
    width_of,
)

A, B, Q, P, R, D, F, E, S = range(9)
N_FIELDS = 9
GBT, ZOH, FOH = range(3)

# Taylor coefficients of phi3(z) = sum z^k / (k+3)! and of phi1'(z) = sum (k+1) z^k / (k+2)!
_PHI3 = np.array([1 / factorial(k + 3) for k in range(18)])
_PHI1_SLOPE = np.array([(k + 1) / factorial(k + 2) for k in range(13)])


class Rule(NamedTuple):
    """A rule of discretisation: ``kind`` is GBT, with its alpha, or a hold."""

    kind: Any
    alpha: Any


class Rows(NamedTuple):
    """Rows, and the gradients of their A, B and Q; ``plane`` numbers are one field of all rows."""

    values: Any
    grads: Any
    plane: Any


@maker
def make_rows(count: int, like: Any) -> Any:
    """Room for so many rows, or none."""
    # One row more, so that the fields of a row do not compete for the same lines of the cache.
    plane = 2 * (count + 1) * width_of(like) if count > 0 else 0
    room = zeros(((N_FIELDS + 3) * plane,), like)
    return Rows(piece(room, 0, (N_FIELDS * plane,)), piece(room, N_FIELDS * plane, (3 * plane,)), plane)


@inline
def get(rows: Any, field: int, at: int) -> Any:
    """A field of the row at flat position ``at``."""
    return pair(rows.values, field * rows.plane + at)


@inline
def put(rows: Any, field: int, at: int, value: Any) -> None:
    """Write a field of the row at flat position ``at``."""
    store(rows.values, field * rows.plane + at, value)


@inline
def add_gradient(rows: Any, field: int, at: int, value: Any) -> None:
    """Add to the gradient of a field of the row at flat position ``at``."""
    to = field * rows.plane + at
    store(rows.grads, to, pair(rows.grads, to) + value)


@inline
def inverse(a: Any) -> Any:
    """1 / a"""
    square = real(a) * real(a) + imag(a) * imag(a)
    return conj(a) * (constant(a, "one") / square)


@inline
def load_mode(system: Any, n: int) -> Any:
    """Eigenvalue and input vector of mode ``n`` of a system (N, 4, W)."""
    width = width_of(system)
    return pair(system, 4 * n * width), pair(system, (4 * n + 2) * width)


@inline
def _hold(z: Any) -> Any:
    """exp(z), and exp(z) - 1 to its own precision."""
    e, m = exp_expm1(real(z))
    sin, cos, cosm1 = sin_cos_cosm1(imag(z))
    return complex_of(e * cos, e * sin), complex_of(m * cos + cosm1, e * sin)


@inline
def move(rule: Any, eigenvalue: Any, s: Any) -> Any:
    """The move of one mode over the steps ``s`` of W channels."""
    z = s * eigenvalue
    if rule.kind == GBT:
        return z * inverse(constant(s, "one") - splat(rule.alpha, s) * z)
    _, m = _hold(z)
    return m


@inline
def _taylor(coefficients: Any, count: int, z: Any) -> Any:
    v = complex_of(splat(coefficients[count - 1], z), splat(0.0, z))
    for k in range(count - 2, -1, -1):
        v = v * z + splat(coefficients[k], z)
    return v


@inline
def fill(rows: Any, at: int, rule: Any, gradient: bool, mode: Any, s: Any) -> None:
    """Compute the row at ``at`` for the steps ``s`` of W channels, with what its gradients need if asked."""
    eigenvalue, b = mode
    one, z = constant(s, "one"), s * eigenvalue
    if rule.kind == GBT:
        a = splat(rule.alpha, s)
        v = inverse(one - a * z)
        transition, p = (one + (one - a) * z) * v, s * v
        if gradient:
            e = v * v
            put(rows, E, at, e)
            put(rows, S, at, e)
            put(rows, D, at, (a * s * s) * e)
    else:
        transition, m = _hold(z)
        if gradient:
            put(rows, E, at, transition)
            put(rows, S, at, transition)
        if rule.kind == FOH:
            p = _first_order(rows, at, gradient, b, s, z, transition)
        else:
            reciprocal = inverse(eigenvalue)
            p = m * reciprocal
            if gradient:
                # phi1' = (exp(z) - phi1(z)) / z cancels for small z.
                slope = (s * transition - p) * reciprocal
                series = _taylor(_PHI1_SLOPE, 5 if width_of(rows.values) == 16 else 13, z)
                small = real(z) * real(z) + imag(z) * imag(z) < splat(0.01, s)
                put(rows, D, at, where(small, (s * s) * series, slope))
    put(rows, A, at, transition)
    put(rows, P, at, p)
    put(rows, B, at, p * b)


@inline
def _first_order(rows: Any, at: int, gradient: bool, b: Any, s: Any, z: Any, exp: Any) -> Any:
    """Fields that first-order hold adds; returns s * phi2(z), the coefficient of the current input.

    phi_j(z) = (phi_{j-1}(z) - 1/(j-1)!) / z cancels for small z, so there the chain is climbed from the
    Taylor series of phi3 instead: phi2 = 1/2 + z phi3, phi1 = 1 + z phi2.
    """
    one, half = constant(s, "one"), splat(0.5, s)
    small = real(z) * real(z) + imag(z) * imag(z) < one
    # Division by z only where it is safe.
    reciprocal = inverse(where(small, complex_of(one, one), z))
    phi1 = (exp - one) * reciprocal
    phi2 = (phi1 - one) * reciprocal
    phi3 = (phi2 - half) * reciprocal
    phi3 = where(small, _taylor(_PHI3, 10 if width_of(rows.values) == 16 else 18, z), phi3)
    phi2 = where(small, phi3 * z + half, phi2)
    phi1 = where(small, phi2 * z + one, phi1)
    rest = phi1 - phi2
    put(rows, Q, at, (s * rest) * b)
    if gradient:
        put(rows, R, at, s * rest)
        put(rows, S, at, rest)
        # phi1' = phi1 - phi2, phi2' = phi2 - 2 phi3
        slope = phi2 - (one + one) * phi3
        put(rows, D, at, (s * s) * slope)
        put(rows, F, at, (s * s) * (rest - slope))
    return s * phi2


@inline
def _taken(rows: Any, field: int, at: int) -> Any:
    """The gradient of a field, which is cleared."""
    to = field * rows.plane + at
    g = pair(rows.grads, to)
    store(rows.grads, to, nothing(g))
    return g


@inline
def pull_back(rows: Any, at: int, kind: int, mode: Any, s: Any) -> Any:
    """Gradients of the eigenvalue, of the input vector and of the step from those of one row, then cleared.

    A gradient of a complex number is d/dRe + i d/dIm, as in PyTorch.
    """
    eigenvalue, b = mode
    e, slope = get(rows, E, at), get(rows, S, at)
    g = conj(e) * _taken(rows, A, at)
    g_eigenvalue, g_step = s * g, real(conj(eigenvalue) * g)
    g = _taken(rows, B, at)
    g_b, g = conj(get(rows, P, at)) * g, conj(b) * g
    g_eigenvalue = plus(g_eigenvalue, conj(get(rows, D, at)), g)
    g_step = g_step + real(conj(slope) * g)
    if kind == FOH:
        g = _taken(rows, Q, at)
        g_b, g = plus(g_b, conj(get(rows, R, at)), g), conj(b) * g
        g_eigenvalue = plus(g_eigenvalue, conj(get(rows, F, at)), g)
        # The two input coefficients add up to s phi1(z), whose derivative by s is exp(z).
        g_step = g_step + real(conj(e - slope) * g)
    return g_eigenvalue, g_b, g_step


@inline
def collect(
    rows: Any, at: int, kind: int, system: Any, steps: Any, gap: float, g_system: Any, g_steps: Any, n: int
) -> None:
    """Send the gradients of one row of mode ``n`` to the system and to the steps."""
    width, delta = width_of(system), splat(gap, steps)
    g_eigenvalue, g_b, g = pull_back(rows, at, kind, load_mode(system, n), load(steps, 0) * delta)
    to = 4 * n * width
    store(g_system, to, pair(g_system, to) + g_eigenvalue)
    store(g_system, to + 2 * width, pair(g_system, to + 2 * width) + g_b)
    store(g_steps, 0, plus(load(g_steps, 0), delta, g))


@routine
def fill_table(rows: Any, gaps: Any, rule: Any, gradient: bool, system: Any, steps: Any) -> None:
    """Rows of all modes for the distinct ``gaps``, those of a mode one after the other."""
    width = width_of(system)
    for n in range(system.shape[0]):
        for r in range(gaps.size):
            s = load(steps, 0) * splat(gaps[r], steps)
            fill(rows, 2 * (n * gaps.size + r) * width, rule, gradient, load_mode(system, n), s)


@routine
def collect_table(
    rows: Any, gaps: Any, kind: int, system: Any, steps: Any, g_system: Any, g_steps: Any
) -> None:
    """Send the gradients of the rows that `fill_table` made to the system."""
    width = width_of(system)
    for n in range(system.shape[0]):
        for r in range(gaps.size):
            at = 2 * (n * gaps.size + r) * width
            collect(rows, at, kind, system, steps, gaps[r], g_system, g_steps, n)
