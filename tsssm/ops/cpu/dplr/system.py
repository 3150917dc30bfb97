r"""Coefficients of a block of W channels: the system itself, its discretisation, and the way back.

Time is counted in units of the channel's timescale, so that the step of a sample is its gap :math:`\delta`.
With the resolvent :math:`g = \delta / (1 - \alpha\delta\Lambda)`, one step of the generalised bilinear
transform is

.. math::
    x_k = x_{k-1} + g\,(\Lambda x_{k-1} + B u_k - \sum_r P_r v_{r,k})
        = E x_{k-1} + g B u_k - \sum_r g P_r v_{r,k}, \qquad E = 1 + g\Lambda,

where v is the coupling :math:`w = \mathrm{Re}(Q^* x)` taken between both ends of the step (see ``feedback``).

A *system* is a flat array of registers, for each mode in turn: Lambda, B, P_1 ... P_R, Q_1 ... Q_R, each as
real and imaginary part. On a regular grid E, g B, g P and Q stand in the same places.
"""

from __future__ import annotations

from typing import Any

from tsssm.ops.cpu import blocks
from tsssm.ops.cpu.compiling import inline, maker, routine
from tsssm.ops.cpu.lanewise import constant
from tsssm.ops.cpu.memory import zeros
from tsssm.ops.cpu.simd import load, splat, store


@maker
def gather_system(Lambda: Any, P: Any, Q: Any, B: Any, h0: int, width: int) -> Any:
    """Registers (N, 2 + 2 R, 2, W) of a block; N is even, a mode that is missing for that is zero."""
    rank, channels, modes = P.shape[0], P.shape[1], P.shape[2]
    system = zeros((modes + modes % 2, 2 + 2 * rank, 2, width), Lambda)
    for w in range(min(width, channels - h0)):
        for n in range(modes):
            for part in range(2):
                system[n, 0, part, w] = Lambda[h0 + w, n, part]
                system[n, 1, part, w] = B[h0 + w, n, part]
                for r in range(rank):
                    system[n, 2 + r, part, w] = P[r, h0 + w, n, part]
                    system[n, 2 + rank + r, part, w] = Q[r, h0 + w, n, part]
    return system


@routine
def scatter_system(system: Any, gLambda: Any, gP: Any, gQ: Any, gB: Any, h0: int, width: int) -> None:
    """The way back of `gather_system`."""
    rank, channels, modes = gP.shape[0], gP.shape[1], gP.shape[2]
    for w in range(min(width, channels - h0)):
        for n in range(modes):
            for part in range(2):
                gLambda[h0 + w, n, part] = system[n, 0, part, w]
                gB[h0 + w, n, part] = system[n, 1, part, w]
                for r in range(rank):
                    gP[r, h0 + w, n, part] = system[n, 2 + r, part, w]
                    gQ[r, h0 + w, n, part] = system[n, 2 + rank + r, part, w]


@maker
def gather_readout(C: Any, modes: int, h0: int, width: int) -> Any:
    """Readouts (M, N, 2, W) of a block, with as many modes as the system."""
    readout = zeros((C.shape[0], modes, 2, width), C)
    blocks.gather_readout(C, h0, readout)
    return readout


@inline
def pair(array: Any, at: int, width: int) -> Any:
    """The complex number, as two registers, at a flat position."""
    return load(array, at), load(array, at + width)


@inline
def put_pair(array: Any, at: int, width: int, re: Any, im: Any) -> None:
    """The way back of `pair`."""
    store(array, at, re)
    store(array, at + width, im)


@inline
def times(ar: Any, ai: Any, br: Any, bi: Any) -> Any:
    """a b"""
    return ar * br - ai * bi, ar * bi + ai * br


@inline
def conj_times(ar: Any, ai: Any, br: Any, bi: Any) -> Any:
    """conj(a) b"""
    return ar * br + ai * bi, ar * bi - ai * br


@inline
def resolvent(lr: Any, li: Any, gap: Any, weighted: Any) -> Any:
    """gap / (1 - weighted Lambda), where ``weighted`` is alpha times the gap."""
    real, imag = constant(lr, "one") - weighted * lr, weighted * li
    scale = gap / (real * real + imag * imag)
    return real * scale, imag * scale


@maker
def discretise(system: Any, alpha: float, width: int) -> Any:
    """E, g B, g P and Q of a regular grid of gap 1, and the resolvents (N, 2, W)."""
    modes, fields = system.shape[0], system.shape[1]
    rank = fields // 2 - 1
    out, resolvents = zeros(system.shape, system), zeros((modes, 2, width), system)
    out[:] = system
    one, weight = splat(1.0, system), splat(alpha, system)
    for n in range(modes):
        at = n * fields * 2 * width
        lr, li = pair(system, at, width)
        gr, gi = resolvent(lr, li, one, weight)
        put_pair(resolvents, 2 * n * width, width, gr, gi)
        er, ei = times(gr, gi, lr, li)
        put_pair(out, at, width, one + er, ei)
        for f in range(1, 2 + rank):
            br, bi = pair(system, at + 2 * f * width, width)
            br, bi = times(gr, gi, br, bi)
            put_pair(out, at + 2 * f * width, width, br, bi)
    return out, resolvents


@routine
def discretise_adjoint(system: Any, resolvents: Any, gradient: Any, alpha: float, width: int) -> None:
    """Turn the gradient of the discretised system into that of the system, in place.

    The derivative of the resolvent by Lambda is alpha times its square.
    """
    modes, fields = system.shape[0], system.shape[1]
    rank = fields // 2 - 1
    weight = splat(alpha, system)
    for n in range(modes):
        at = n * fields * 2 * width
        gr, gi = pair(resolvents, 2 * n * width, width)
        sr, si = splat(0.0, system), splat(0.0, system)
        for f in range(2 + rank):
            to = at + 2 * f * width
            dr, di = pair(gradient, to, width)
            fr, fi = pair(system, to, width)
            fr, fi = conj_times(fr, fi, dr, di)
            sr, si = sr + fr, si + fi
            dr, di = conj_times(gr, gi, dr, di)
            put_pair(gradient, to, width, dr, di)
        rr, ri = times(gr, gi, gr, gi)
        sr, si = conj_times(rr, ri, sr, si)
        lr, li = pair(gradient, at, width)
        put_pair(gradient, at, width, lr + weight * sr, li + weight * si)


@maker
def impulse_response(coefficients: Any, count: int, width: int) -> Any:
    """How the coupling responds to itself, Re(Q^* E^j g P) for lags j < ``count``: (count, R, R, W)."""
    modes, fields = coefficients.shape[0], coefficients.shape[1]
    rank = fields // 2 - 1
    response = zeros((count, rank, rank, width), coefficients)
    for n in range(modes):
        at = n * fields * 2 * width
        er, ei = pair(coefficients, at, width)
        for c in range(rank):
            zr, zi = pair(coefficients, at + (4 + 2 * c) * width, width)
            for j in range(count):
                for r in range(rank):
                    qr, qi = pair(coefficients, at + (4 + 2 * rank + 2 * r) * width, width)
                    to = ((j * rank + r) * rank + c) * width
                    store(response, to, load(response, to) + (qr * zr + qi * zi))
                zr, zi = times(er, ei, zr, zi)
    return response
