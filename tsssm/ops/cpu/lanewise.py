"""Functions of a real register of one mode beyond arithmetic: rounding, roots, bits, constants,
polynomials."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tsssm.ops.cpu.simd import FLAGS, Lanes, Mask, vector_of

CONSTANTS: dict[str, dict[str, float]] = {
    "zero": {"float32": 0.0, "float64": 0.0},
    "one": {"float32": 1.0, "float64": 1.0},
}
POLYNOMIALS: dict[str, dict[str, list[float]]] = {}


@intrinsic
def any_of(typingctx: Any, mask: Any) -> Any:
    """Whether ``mask`` holds in any lane, as a plain truth value to branch on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], ir.IntType(mask.width))
        return builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(mask.width), 0))

    return types.boolean(mask), codegen


def integers_of(ty: Lanes) -> ir.VectorType:
    """LLVM's type of whole numbers as large as those of a register."""
    return ir.VectorType(ir.IntType(ty.dtype.bitwidth), ty.width)


def _math(builder: Any, name: str, ty: Lanes, value: Any) -> Any:
    vector = vector_of(ty)
    name = f"llvm.{name}.v{ty.width}f{ty.dtype.bitwidth}"
    function = builder.module.declare_intrinsic(name, (), ir.FunctionType(vector, [vector]))
    return builder.call(function, [value])


@intrinsic
def round_to_even(typingctx: Any, a: Any) -> Any:
    """The nearest whole number."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _math(builder, "rint", a, args[0])

    return a(a), codegen


@intrinsic
def square_root(typingctx: Any, a: Any) -> Any:
    """The square root."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _math(builder, "sqrt", a, args[0])

    return a(a), codegen


@intrinsic
def power_of_two(typingctx: Any, a: Any) -> Any:
    """2 to a power given as a whole number stored as a float, within the range of normal numbers."""
    mantissa, bias = (23, 127) if a.dtype == types.float32 else (52, 1023)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integers = integers_of(a)
        biased = builder.add(builder.fptosi(args[0], integers), _constant(integers, bias))
        return builder.bitcast(builder.shl(biased, _constant(integers, mantissa)), vector_of(a))

    return a(a), codegen


@intrinsic(prefer_literal=True)
def has_bit(typingctx: Any, a: Any, bit: Any) -> Any:
    """Whether a whole number stored as a float has the literal ``bit`` set, in two's complement."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integers = integers_of(a)
        masked = builder.and_(builder.fptosi(args[0], integers), _constant(integers, bit.literal_value))
        return builder.icmp_signed("!=", masked, _constant(integers, 0))

    if not isinstance(bit, types.IntegerLiteral):
        raise types.errors.RequireLiteralValue("bit must be a literal")
    return Mask(a.dtype)(a, bit), codegen


def _constant(vector: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(vector, [value] * vector.count)


@intrinsic(prefer_literal=True)
def constant(typingctx: Any, like: Any, name: Any) -> Any:
    """The number called ``name`` in `CONSTANTS`, at the precision of ``like``, in every lane."""
    lanes = Lanes(like.dtype)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _constant(vector_of(lanes), CONSTANTS[name.literal_value][like.dtype.name])

    return lanes(like, name), codegen


@intrinsic(prefer_literal=True)
def polynomial(typingctx: Any, x: Any, name: Any) -> Any:
    """The polynomial called ``name`` in `POLYNOMIALS`, of the degree that the precision of ``x`` needs."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = vector_of(x)
        *lower, result = [_constant(vector, c) for c in POLYNOMIALS[name.literal_value][x.dtype.name]]
        for coefficient in reversed(lower):
            result = builder.fadd(builder.fmul(result, args[0], flags=FLAGS), coefficient, flags=FLAGS)
        return result

    return x(x, name), codegen
