r"""Coefficients of a block of W channels: the system itself, its discretisation, and the way back.

Time is counted in units of the channel's timescale, so that the step of a sample is its gap :math:`\delta`.
With the resolvent :math:`g = \delta / (1 - \alpha\delta\Lambda)`, one step of the generalised bilinear
transform is

.. math::
    x_k = x_{k-1} + g\,(\Lambda x_{k-1} + B u_k - \sum_r P_r v_{r,k})
        = E x_{k-1} + g B u_k - \sum_r g P_r v_{r,k}, \qquad E = 1 + g\Lambda,

where v is the coupling :math:`w = \mathrm{Re}(Q^* x)` taken between both ends of the step (see ``feedback``).

A `System` has complex registers, for each mode in turn: Lambda, B, P_1 ... P_R, Q_1 ... Q_R. On a regular
grid E, g B, g P and Q stand in the same places.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tsssm.ops.cpu.compiling import inline, maker, routine
from tsssm.ops.cpu.lanewise import constant
from tsssm.ops.cpu.memory import zeros
from tsssm.ops.cpu.simd import (
    complex_of,
    conj,
    imag,
    load,
    nothing,
    pair,
    pairs,
    plus,
    plus_real,
    real,
    splat,
    store,
    width_of,
)

# Fields of a mode before those of P.
LAMBDA, INPUT, FIRST = range(3)


class System(NamedTuple):
    """Registers (N, 2 + 2 R, 2, W) of N modes, which are even in number, and R."""

    values: Any
    modes: Any
    rank: Any


@inline
def place(system: Any, n: int, field: int) -> int:
    """Where a field of mode ``n`` stands; those of P are `FIRST` + r, those of Q another R further."""
    return 2 * (n * (2 + 2 * system.rank) + field) * width_of(system.values)


@inline
def term(system: Any, n: int, field: int) -> Any:
    """A field of mode ``n``."""
    return pair(system.values, place(system, n, field))


@inline
def two(system: Any, n: int, field: int) -> Any:
    """A field of modes ``n`` and ``n`` + 1."""
    return pairs(system.values, place(system, n, field), place(system, 1, 0), 2)


@inline
def put_term(system: Any, n: int, field: int, value: Any) -> None:
    """Write a field of mode ``n``."""
    store(system.values, place(system, n, field), value)


@inline
def add_term(system: Any, n: int, field: int, value: Any) -> None:
    """Add to a field of mode ``n``."""
    put_term(system, n, field, term(system, n, field) + value)


@inline
def add_real(target: Any, i: int, a: Any, x: Any) -> None:
    """Add Re(a x), of all modes that the two hold, to register ``i``."""
    at = i * width_of(target)
    store(target, at, plus_real(load(target, at), a, x))


@maker
def gather_system(operands: Any, h0: int) -> Any:
    """A block of (H, N), of P and Q (R, H, N); a mode that is missing to an even number is zero."""
    Lambda, P, Q, B = operands.Lambda, operands.P, operands.Q, operands.B
    rank, channels, modes = P.shape[0], P.shape[1], P.shape[2]
    values = zeros((modes + modes % 2, 2 + 2 * rank, 2, width_of(P)), P)
    for w in range(min(width_of(P), channels - h0)):
        for n in range(modes):
            for part in range(2):
                values[n, LAMBDA, part, w] = Lambda[h0 + w, n, part]
                values[n, INPUT, part, w] = B[h0 + w, n, part]
                for r in range(rank):
                    values[n, FIRST + r, part, w] = P[r, h0 + w, n, part]
                    values[n, FIRST + rank + r, part, w] = Q[r, h0 + w, n, part]
    return System(values, modes + modes % 2, rank)


@routine
def scatter_system(system: Any, gradients: Any, h0: int) -> None:
    """The way back of `gather_system`."""
    rank, channels, modes = gradients.P.shape[0], gradients.P.shape[1], gradients.P.shape[2]
    values = system.values
    for w in range(min(width_of(values), channels - h0)):
        for n in range(modes):
            for part in range(2):
                gradients.Lambda[h0 + w, n, part] = values[n, LAMBDA, part, w]
                gradients.B[h0 + w, n, part] = values[n, INPUT, part, w]
                for r in range(rank):
                    gradients.P[r, h0 + w, n, part] = values[n, FIRST + r, part, w]
                    gradients.Q[r, h0 + w, n, part] = values[n, FIRST + rank + r, part, w]


@maker
def empty_system(system: Any) -> Any:
    """Zeros of the same shape."""
    return System(zeros(system.values.shape, system.values), system.modes, system.rank)


@inline
def resolvent(eigenvalue: Any, gap: Any, weighted: Any) -> Any:
    """gap / (1 - weighted Lambda), where ``weighted`` is alpha times the gap."""
    re, im = constant(gap, "one") - weighted * real(eigenvalue), weighted * imag(eigenvalue)
    return complex_of(re, im) * (gap / (re * re + im * im))


@maker
def discretise(system: Any, alpha: float) -> Any:
    """E, g B, g P and Q of a regular grid of gap 1, and the resolvents (N, 2, W)."""
    width, fixed = width_of(system.values), empty_system(system)
    resolvents = zeros((system.modes, 2, width), system.values)
    for i in range(system.values.size // width):
        store(fixed.values, i * width, load(system.values, i * width))
    one, weight = splat(1.0, system.values), splat(alpha, system.values)
    for n in range(system.modes):
        eigenvalue = term(system, n, LAMBDA)
        g = resolvent(eigenvalue, one, weight)
        store(resolvents, 2 * n * width, g)
        put_term(fixed, n, LAMBDA, g * eigenvalue + one)
        for f in range(INPUT, FIRST + system.rank):
            put_term(fixed, n, f, g * term(system, n, f))
    return fixed, resolvents


@routine
def discretise_adjoint(system: Any, resolvents: Any, gradient: Any, alpha: float) -> None:
    """Turn the gradient of the discretised system into that of the system, in place.

    The derivative of the resolvent by Lambda is alpha times its square.
    """
    weight = splat(alpha, resolvents)
    for n in range(system.modes):
        g = conj(pair(resolvents, 2 * n * width_of(resolvents)))
        total = nothing(g)
        for f in range(FIRST + system.rank):
            total = plus(total, conj(term(system, n, f)), term(gradient, n, f))
            put_term(gradient, n, f, g * term(gradient, n, f))
        add_term(gradient, n, LAMBDA, weight * ((g * g) * total))


@maker
def impulse_response(fixed: Any, count: int) -> Any:
    """How the coupling responds to itself, Re(Q^* E^j g P) for lags j < ``count``: (count, R, R, W)."""
    rank = fixed.rank
    response = zeros((count, rank, rank, width_of(fixed.values)), fixed.values)
    for n in range(fixed.modes):
        e = term(fixed, n, LAMBDA)
        for c in range(rank):
            z = term(fixed, n, FIRST + c)
            for j in range(count):
                for r in range(rank):
                    q = conj(term(fixed, n, FIRST + rank + r))
                    add_real(response, (j * rank + r) * rank + c, q, z)
                z = e * z
    return response
