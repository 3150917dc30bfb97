"""A register of channels as a Numba value: explicit SIMD, so that no kernel depends on the vectoriser's luck.

A `Lanes` value holds one number for each of W neighbouring channels (16 in float32, 8 in float64: 64 bytes)
and supports ``+ - * /`` and unary minus among its own kind. LLVM maps it to whatever the processor has:
one AVX-512 register, two of AVX, four of SSE or NEON. Products and sums may be fused into one rounding.
Arrays are read and written at flat positions with `load` and `store`.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

from tsssm.ops.cpu.compiling import data_of

BYTES = 64
_FLAGS = ("contract", "nsz", "arcp")

CONSTANTS: dict[str, dict[str, float]] = {}
POLYNOMIALS: dict[str, dict[str, list[float]]] = {}
_ELEMENT = {"float32": (ir.FloatType(), 32), "float64": (ir.DoubleType(), 64)}


class Lanes(types.Type):
    """Numba type of a register of W channels."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        self.width = BYTES * 8 // dtype.bitwidth
        super().__init__(name=f"Lanes({dtype}, {self.width})")


class Mask(types.Type):
    """Numba type of one truth value a channel."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        self.width = BYTES * 8 // dtype.bitwidth
        super().__init__(name=f"Mask({dtype}, {self.width})")


def _vector(ty: Lanes | Mask) -> ir.VectorType:
    return ir.VectorType(_ELEMENT[ty.dtype.name][0], ty.width)


def _integers(ty: Lanes) -> ir.VectorType:
    return ir.VectorType(ir.IntType(_ELEMENT[ty.dtype.name][1]), ty.width)


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Lanes) -> None:
        super().__init__(dmm, fe_type, _vector(fe_type))


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Mask) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(ir.IntType(1), fe_type.width))


def _address(context: Any, builder: Any, array: types.Array, value: Any, index: Any, lanes: Lanes) -> Any:
    data = data_of(context, builder, array, value)
    return builder.bitcast(builder.gep(data, [index]), _vector(lanes).as_pointer())


@intrinsic
def load(typingctx: Any, array: Any, index: Any) -> Any:
    """The W numbers of a contiguous array that start at flat position ``index``."""
    lanes = Lanes(array.dtype)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _address(context, builder, array, args[0], args[1], lanes)
        return builder.load(pointer, align=array.dtype.bitwidth // 8)

    return lanes(array, types.intp), codegen


@intrinsic
def store(typingctx: Any, array: Any, index: Any, lanes: Any) -> Any:
    """Write W numbers to a contiguous array from flat position ``index`` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _address(context, builder, array, args[0], args[1], lanes)
        builder.store(args[2], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(array, types.intp, lanes), codegen


def _broadcast(builder: Any, scalar: Any, ty: Lanes) -> Any:
    vector = _vector(ty)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), ty.width), [0] * ty.width)
    return builder.shuffle_vector(first, first, zeros)


@intrinsic
def splat(typingctx: Any, scalar: Any, like: Any) -> Any:
    """``scalar`` in every lane of a register of the kind of ``like`` (a `Lanes` value or an array)."""
    lanes = Lanes(like.dtype)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = context.cast(builder, args[0], scalar, lanes.dtype)
        return _broadcast(builder, value, lanes)

    return lanes(scalar, like), codegen


def _register_operator(function: Any, instruction: str, result: type, arity: int = 2) -> None:
    """Give registers a Python operator by its LLVM instruction."""

    @type_callable(function)
    def typing(context: Any) -> Any:
        def typer(*operands: Any) -> Any:
            if len(operands) == arity and all(type(o) is Lanes and o == operands[0] for o in operands):
                return result(operands[0].dtype)
            return None

        return typer

    @lower_builtin(function, *[Lanes] * arity)
    def lowering(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if instruction == "fcmp":
            return builder.fcmp_ordered("<", *args)
        return getattr(builder, instruction)(*args, flags=_FLAGS)


_register_operator(operator.add, "fadd", Lanes)
_register_operator(operator.sub, "fsub", Lanes)
_register_operator(operator.mul, "fmul", Lanes)
_register_operator(operator.truediv, "fdiv", Lanes)
_register_operator(operator.neg, "fneg", Lanes, arity=1)
_register_operator(operator.lt, "fcmp", Mask)


@intrinsic
def where(typingctx: Any, mask: Any, a: Any, b: Any) -> Any:
    """``a`` in the lanes where ``mask`` holds, else ``b``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(*args)

    return a(mask, a, b), codegen


@intrinsic
def any_of(typingctx: Any, mask: Any) -> Any:
    """Whether ``mask`` holds in any lane, as a plain truth value to branch on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], ir.IntType(mask.width))
        return builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(mask.width), 0))

    return types.boolean(mask), codegen


def _math(builder: Any, name: str, ty: Lanes, value: Any) -> Any:
    vector = _vector(ty)
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
        integers = _integers(a)
        biased = builder.add(builder.fptosi(args[0], integers), _constant(integers, bias))
        return builder.bitcast(builder.shl(biased, _constant(integers, mantissa)), _vector(a))

    return a(a), codegen


@intrinsic(prefer_literal=True)
def has_bit(typingctx: Any, a: Any, bit: Any) -> Any:
    """Whether a whole number stored as a float has the literal ``bit`` set, in two's complement."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integers = _integers(a)
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
        return _constant(_vector(lanes), CONSTANTS[name.literal_value][like.dtype.name])

    return lanes(like, name), codegen


@intrinsic(prefer_literal=True)
def polynomial(typingctx: Any, x: Any, name: Any) -> Any:
    """The polynomial called ``name`` in `POLYNOMIALS`, of the degree that the precision of ``x`` needs."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = _vector(x)
        *lower, result = [_constant(vector, c) for c in POLYNOMIALS[name.literal_value][x.dtype.name]]
        for coefficient in reversed(lower):
            result = builder.fadd(builder.fmul(result, args[0], flags=_FLAGS), coefficient, flags=_FLAGS)
        return result

    return x(x, name), codegen
