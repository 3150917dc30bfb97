"""Registers of channels as Numba values: explicit SIMD, so that no kernel depends on the vectoriser's luck.

A `Lanes` value holds one number for each of W neighbouring channels (16 in float32, 8 in float64: 64 bytes),
a `Complex` value a complex one. Both may hold the same of several modes, their ``count``: what is written for
one mode then runs for a group of them, in which none has to wait for the last product of another.

They support ``+ - * /`` and unary minus; a number of one mode meets all modes of a group. `plus` adds a
product so that each step may be fused into one rounding. LLVM maps a register to whatever the processor has:
one AVX-512 register, two of AVX, four of SSE or NEON.

Arrays are read and written at flat positions: real ones by `load` and `store`, complex ones, whose real part
is followed by the imaginary one, by `pair` and `put`; a group stands at equal distances.
"""

from __future__ import annotations

import operator
from itertools import product
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

from tsssm.ops.cpu.buffers import pointer_to

BYTES = 64
FLAGS = ("contract", "nsz", "arcp")

_ELEMENT = {"float32": ir.FloatType(), "float64": ir.DoubleType()}


class _Register(types.Type):
    parts = 1

    def __init__(self, dtype: types.Float, count: int = 1) -> None:
        self.dtype, self.count = dtype, count
        self.width = BYTES * 8 // dtype.bitwidth
        super().__init__(name=f"{type(self).__name__}({dtype}, {self.width} x {count})")


class Lanes(_Register):
    """Numba type of a register of W channels, for each of ``count`` modes."""


class Complex(_Register):
    """Numba type of a complex register of W channels, for each of ``count`` modes."""

    parts = 2


class Mask(_Register):
    """Numba type of one truth value a channel."""


def vector_of(ty: Any) -> ir.VectorType:
    """LLVM's type of one register."""
    element = ir.IntType(1) if isinstance(ty, Mask) else _ELEMENT[ty.dtype.name]
    return ir.VectorType(element, ty.width)


def _split(builder: Any, ty: _Register, value: Any) -> list[Any]:
    """The vectors that a value consists of, real and imaginary part of the first mode first."""
    size = ty.parts * ty.count
    return [value] if size == 1 else [builder.extract_value(value, i) for i in range(size)]


def _join(builder: Any, ty: _Register, vectors: list[Any]) -> Any:
    """The way back of `_split`."""
    if len(vectors) == 1:
        return vectors[0]
    value = ir.Constant(ir.LiteralStructType([vector_of(ty)] * len(vectors)), ir.Undefined)
    for i, vector in enumerate(vectors):
        value = builder.insert_value(value, vector, i)
    return value


def _modes(builder: Any, ty: _Register, value: Any, count: int) -> list[list[Any]]:
    """Vectors of each of ``count`` modes, [real] or [real, imaginary]; a single one counts for all."""
    vectors = _split(builder, ty, value)
    each = [vectors[i : i + ty.parts] for i in range(0, len(vectors), ty.parts)]
    return each * count if ty.count == 1 else each


class _Model(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: _Register) -> None:
        size = fe_type.parts * fe_type.count
        vector = vector_of(fe_type)
        super().__init__(dmm, fe_type, vector if size == 1 else ir.LiteralStructType([vector] * size))


for _type in (Lanes, Complex, Mask):
    register_model(_type)(_Model)


def _address(context: Any, builder: Any, array: types.Array, value: Any, index: Any) -> Any:
    data = pointer_to(context, builder, array, value)
    return builder.bitcast(builder.gep(data, [index]), vector_of(Lanes(array.dtype)).as_pointer())


def _loader(array: types.Array, result: _Register) -> Any:
    """Code that reads a register of each mode at an index, ``step`` numbers apart."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        index, vectors = args[1], []
        for mode in range(result.count):
            if mode > 0:
                index = builder.add(index, args[2])
            for part in range(result.parts):
                at = builder.add(index, ir.Constant(index.type, part * result.width))
                pointer = _address(context, builder, array, args[0], at)
                vectors.append(builder.load(pointer, align=array.dtype.bitwidth // 8))
        return _join(builder, result, vectors)

    return codegen


def _storer(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """Code that writes a value at an index, each mode ``step`` numbers behind the one before."""
    array, value = signature.args[0], signature.args[2]
    index, vectors = args[1], _split(builder, value, args[2])
    for i, vector in enumerate(vectors):
        if i > 0 and i % value.parts == 0:
            index = builder.add(index, args[3])
        at = builder.add(index, ir.Constant(index.type, i % value.parts * value.width))
        pointer = _address(context, builder, array, args[0], at)
        builder.store(vector, pointer, align=array.dtype.bitwidth // 8)
    return context.get_dummy_value()


@intrinsic
def load(typingctx: Any, array: Any, index: Any) -> Any:
    """The W numbers of a contiguous array that start at flat position ``index``."""
    result = Lanes(array.dtype)
    return result(array, types.intp), _loader(array, result)


@intrinsic
def pair(typingctx: Any, array: Any, index: Any) -> Any:
    """A complex register: the W real parts from flat position ``index`` on, then the W imaginary ones."""
    result = Complex(array.dtype)
    return result(array, types.intp), _loader(array, result)


def _count_of(given: Any) -> int:
    if isinstance(given, types.Integer) and not isinstance(given, types.IntegerLiteral):
        raise types.errors.RequireLiteralValue("count must be a literal, or a register")
    return given.count if isinstance(given, _Register) else given.literal_value


def _number(typingctx: Any, given: Any, number: int) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.get_constant(types.intp, number)

    return types.intp(given), codegen


@intrinsic
def width_of(typingctx: Any, array: Any) -> Any:
    """How many numbers of an array fill a register: known to the compiler, as ``itemsize`` is not."""
    return _number(typingctx, array, Lanes(array.dtype).width)


@intrinsic
def count_of(typingctx: Any, register: Any) -> Any:
    """How many modes a register holds."""
    return _number(typingctx, register, register.count)


@intrinsic(prefer_literal=True)
def loads(typingctx: Any, array: Any, index: Any, step: Any, count: Any) -> Any:
    """`load` for each mode, ``step`` numbers apart; ``count`` is a literal or a register of as many modes."""
    result = Lanes(array.dtype, _count_of(count))
    return result(array, types.intp, types.intp, count), _loader(array, result)


@intrinsic(prefer_literal=True)
def pairs(typingctx: Any, array: Any, index: Any, step: Any, count: Any) -> Any:
    """`pair` for each mode, ``step`` numbers apart; ``count`` as in `loads`."""
    result = Complex(array.dtype, _count_of(count))
    return result(array, types.intp, types.intp, count), _loader(array, result)


@intrinsic
def store(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Write a register to a contiguous array from flat position ``index`` on; the way back of
    `load`, `pair`."""
    return types.none(array, types.intp, value), _storer


@intrinsic
def stores(typingctx: Any, array: Any, index: Any, value: Any, step: Any) -> Any:
    """`store` for each mode of a group, ``step`` numbers apart; the way back of `loads` and `pairs`."""
    return types.none(array, types.intp, value, types.intp), _storer


@intrinsic
def splat(typingctx: Any, scalar: Any, like: Any) -> Any:
    """``scalar`` in every lane of a register of the kind of ``like`` (a register or an array)."""
    lanes = Lanes(like.dtype)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value, integer = context.cast(builder, args[0], scalar, lanes.dtype), ir.IntType(32)
        nothing = ir.Constant(vector_of(lanes), ir.Undefined)
        first = builder.insert_element(nothing, value, ir.Constant(integer, 0))
        zeros = ir.Constant(ir.VectorType(integer, lanes.width), [0] * lanes.width)
        return builder.shuffle_vector(first, first, zeros)

    return lanes(scalar, like), codegen


def _fused(builder: Any, start: list[Any], a: list[Any], b: list[Any]) -> list[Any]:
    """start + a b for one mode; each may be real, and ``start`` may be nothing."""
    flags = {"flags": FLAGS}

    def times(x: Any, y: Any) -> Any:
        return builder.fmul(x, y, **flags)

    def more(total: Any, x: Any, y: Any) -> Any:
        return times(x, y) if total is None else builder.fadd(total, times(x, y), **flags)

    real = start[0] if start else None
    imag = start[1] if len(start) > 1 else None
    if len(a) == len(b) == 1:
        return [more(real, a[0], b[0]), *start[1:]]
    if len(a) == 1 or len(b) == 1:
        one, two = (a, b) if len(a) == 1 else (b, a)
        return [more(real, one[0], two[0]), more(imag, one[0], two[1])]
    real = builder.fsub(more(real, a[0], b[0]), times(a[1], b[1]), **flags)
    return [real, builder.fadd(more(imag, a[0], b[1]), times(a[1], b[0]), **flags)]


def _result(*operands: _Register) -> _Register:
    kind = Complex if any(isinstance(o, Complex) for o in operands) else Lanes
    return kind(operands[0].dtype, max(o.count for o in operands))


def _each_mode(signature: Any, builder: Any, args: Any, compute: Any) -> Any:
    """Join what ``compute`` makes of the vectors of each mode."""
    result = signature.return_type
    operands = [_modes(builder, ty, v, result.count) for ty, v in zip(signature.args, args, strict=True)]
    vectors = [vector for mode in zip(*operands, strict=True) for vector in compute(*mode)]
    return _join(builder, result, vectors)


@intrinsic
def plus(typingctx: Any, start: Any, a: Any, b: Any) -> Any:
    """start + a b."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _each_mode(signature, builder, args, lambda *mode: _fused(builder, *mode))

    return _result(start, a, b)(start, a, b), codegen


@intrinsic
def plus_real(typingctx: Any, start: Any, a: Any, b: Any) -> Any:
    """start + the sum over the modes of Re(a b)."""
    count = max(a.count, b.count)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, left, right = (_modes(builder, t, v, count) for t, v in zip(signature.args, args, strict=True))
        total, flags = args[0], {"flags": FLAGS}
        # Two modes at a time beside the sum: a chain of four products would be long to wait for.
        for i in range(0, count, 2):
            some = total if i == 0 else None
            for x, y in zip(left[i : i + 2], right[i : i + 2], strict=True):
                one = builder.fmul(x[0], y[0], **flags)
                some = one if some is None else builder.fadd(some, one, **flags)
                some = builder.fsub(some, builder.fmul(x[1], y[1], **flags), **flags)
            total = some if i == 0 else builder.fadd(total, some, **flags)
        return total

    return start(start, a, b), codegen


@intrinsic
def beside(typingctx: Any, a: Any, b: Any) -> Any:
    """A group of two real registers."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _join(builder, signature.return_type, list(args))

    return Lanes(a.dtype, 2)(a, b), codegen


@intrinsic
def all_modes(typingctx: Any, a: Any) -> Any:
    """The sum over the modes of a group of real registers."""
    result = Lanes(a.dtype)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        total, *others = _split(builder, a, args[0])
        for other in others:
            total = builder.fadd(total, other, flags=FLAGS)
        return total

    return result(a), codegen


def _unary(result: type, compute: Any) -> Any:
    def typed(typingctx: Any, a: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _each_mode(signature, builder, args, lambda mode: compute(builder, mode))

        return result(a.dtype, a.count)(a), codegen

    return typed


@intrinsic
def real(typingctx: Any, a: Any) -> Any:
    """Real part."""
    return _unary(Lanes, lambda builder, mode: mode[:1])(typingctx, a)


@intrinsic
def imag(typingctx: Any, a: Any) -> Any:
    """Imaginary part."""
    return _unary(Lanes, lambda builder, mode: mode[1:])(typingctx, a)


@intrinsic
def conj(typingctx: Any, a: Any) -> Any:
    """The conjugate."""
    return _unary(Complex, lambda builder, mode: [mode[0], builder.fneg(mode[1], flags=FLAGS)])(typingctx, a)


@intrinsic
def nothing(typingctx: Any, like: Any) -> Any:
    """Zeros in a register like another one."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.get_constant_null(like)

    return like(like), codegen


@intrinsic
def complex_of(typingctx: Any, real: Any, imag: Any) -> Any:
    """A complex register of two real ones."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _each_mode(signature, builder, args, lambda a, b: [*a, *b])

    return Complex(real.dtype, max(real.count, imag.count))(real, imag), codegen


def _operator(function: Any, arity: int, compute: Any, mask: bool = False) -> None:
    """Give registers a Python operator, by what it makes of the vectors of one mode; real ones a ``mask``."""

    @type_callable(function)
    def typing(context: Any) -> Any:
        def typer(*operands: Any) -> Any:
            kinds = (Lanes,) if mask else (Lanes, Complex)
            if len(operands) != arity or not all(type(o) in kinds for o in operands):
                return None
            result = _result(*operands)
            return Mask(result.dtype, result.count) if mask else result

        return typer

    def lowering(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _each_mode(signature, builder, args, lambda *mode: compute(builder, *mode))

    for kinds in product((Lanes, Complex), repeat=arity):
        lower_builtin(function, *kinds)(lowering)


def _sum(instruction: str) -> Any:
    def compute(builder: Any, a: list[Any], b: list[Any]) -> list[Any]:
        make = getattr(builder, instruction)
        both = [make(x, y, flags=FLAGS) for x, y in zip(a, b, strict=False)]
        # A real number leaves the imaginary part of a complex one as it is.
        added = instruction == "fadd"
        return [*both, *a[len(b) :], *(v if added else builder.fneg(v, flags=FLAGS) for v in b[len(a) :])]

    return compute


_operator(operator.add, 2, _sum("fadd"))
_operator(operator.sub, 2, _sum("fsub"))
_operator(operator.mul, 2, lambda builder, a, b: _fused(builder, [], a, b))
_operator(operator.truediv, 2, lambda builder, a, b: [builder.fdiv(x, b[0], flags=FLAGS) for x in a])
_operator(operator.neg, 1, lambda builder, a: [builder.fneg(v, flags=FLAGS) for v in a])
_operator(operator.lt, 2, lambda builder, a, b: [builder.fcmp_ordered("<", a[0], b[0])], mask=True)


@intrinsic
def where(typingctx: Any, mask: Any, a: Any, b: Any) -> Any:
    """``a`` in the lanes where ``mask`` holds, else ``b``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def choose(condition: Any, x: Any, y: Any) -> Any:
            return [builder.select(condition[0], v, w) for v, w in zip(x, y, strict=True)]

        return _each_mode(signature, builder, args, choose)

    count = max(mask.count, a.count, b.count)
    return type(a)(a.dtype, count)(mask, a, b), codegen
