"""The normal distribution and the logistic function of a register, in float32, and the mask of dropout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.polynomial import Chebyshev, Polynomial

from tsssm.ops.cpu.compiling import data_of, inline
from tsssm.ops.cpu.elementary import exp_expm1
from tsssm.ops.cpu.lanewise import CONSTANTS, POLYNOMIALS, constant, polynomial
from tsssm.ops.cpu.simd import Mask, where

# Where the density reaches the smallest normal number of float32.
_FARTHEST = 13.5
_BEND = 0.25


def _mills_ratio() -> list[float]:
    """Coefficients in t = 1 / (1 + z * bend) of Phi(-z) exp(z^2 / 2), for z from 0 to the farthest.

    In t it is smooth enough for degree 9: relative error below 1e-7, by interpolation at Chebyshev's nodes.
    """

    def ratio(t: Any) -> Any:
        z = (1 / np.asarray(t) - 1) / _BEND
        return np.array([0.5 * math.erfc(v / math.sqrt(2)) * math.exp(v * v / 2) for v in z])

    domain = (1 / (1 + _BEND * _FARTHEST), 1.0)
    series = Chebyshev.interpolate(ratio, 9, domain=domain)
    return series.convert(kind=Polynomial, domain=(-1, 1)).coef.tolist()


CONSTANTS |= {
    "minus half": {"float32": -0.5},
    "bend": {"float32": _BEND},
    "1/sqrt(2 pi)": {"float32": 1 / math.sqrt(2 * math.pi)},
}
POLYNOMIALS |= {"Mills ratio": {"float32": _mills_ratio()}}


@inline
def normal(y: Any) -> Any:
    """Phi(y) and exp(-y^2 / 2)."""
    one, zero = constant(y, "one"), constant(y, "zero")
    bell, _ = exp_expm1(constant(y, "minus half") * y * y)
    size = where(y < zero, -y, y)
    tail = bell * polynomial(one / (one + constant(y, "bend") * size), "Mills ratio")
    return where(y < zero, tail, one - tail), bell


@inline
def logistic(b: Any) -> Any:
    """sigmoid(b) and 1 - sigmoid(b), neither by a difference."""
    one, zero = constant(b, "one"), constant(b, "zero")
    small, _ = exp_expm1(where(b < zero, b, -b))
    large = one / (one + small)
    small = small * large
    return where(b < zero, small, large), where(b < zero, large, small)


@intrinsic
def kept(typingctx: Any, noise: Any, index: Any, least: Any, like: Any) -> Any:
    """Where the noise (int16) from flat position ``index`` on is at least ``least``."""
    mask = Mask(like.dtype)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = data_of(context, builder, noise, args[0])
        vector = ir.VectorType(ir.IntType(16), mask.width)
        pointer = builder.bitcast(builder.gep(data, [args[1]]), vector.as_pointer())
        bound = builder.trunc(args[2], ir.IntType(16))
        filled = ir.Constant(vector, ir.Undefined)
        for lane in range(mask.width):
            filled = builder.insert_element(filled, bound, ir.Constant(ir.IntType(32), lane))
        return builder.icmp_signed(">=", builder.load(pointer, align=2), filled)

    return mask(noise, types.intp, types.intp, like), codegen
