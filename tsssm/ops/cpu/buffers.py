"""Arrays by where they stand, and arrays without their sizes.

Python hands a kernel the `Place` of a tensor, because that takes half as long to find as an array of it;
`arrays` makes arrays of places. What loops need of them is one pointer, where an array has a dozen numbers:
`bare` makes buffers of all arrays in a named tuple. Neither keeps the memory alive, which belongs to whoever
calls the kernel; so buffers are made in functions without reference counts (``@routine``, ``@inline``).
"""

from __future__ import annotations

import operator
from typing import Any

from numba import types
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

from tsssm.ops.cpu.compiling import array_from, data_of

# Address and shape of contiguous numbers.
Place = tuple[int, tuple[int, ...]]


class Buffer(types.Type):
    """Numba type of the numbers of a contiguous array; they have flat positions."""

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        super().__init__(name=f"Buffer({dtype})")


@register_model(Buffer)
class _BufferModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Buffer) -> None:
        super().__init__(dmm, fe_type, dmm.lookup(fe_type.dtype).get_data_type().as_pointer())


def pointer_to(context: Any, builder: Any, ty: types.Type, value: Any) -> Any:
    """LLVM's pointer to the numbers of an array or buffer."""
    return value if isinstance(ty, Buffer) else data_of(context, builder, ty, value)


def _bare_type(ty: types.Type) -> types.Type:
    if isinstance(ty, types.Array):
        return Buffer(ty.dtype)
    if isinstance(ty, types.BaseNamedTuple):
        return types.BaseTuple.from_types(tuple(map(_bare_type, ty.types)), ty.instance_class)
    return ty


def _bare_value(context: Any, builder: Any, ty: types.Type, value: Any) -> Any:
    if isinstance(ty, types.Array):
        return data_of(context, builder, ty, value)
    if isinstance(ty, types.BaseNamedTuple):
        parts = [
            _bare_value(context, builder, t, builder.extract_value(value, i)) for i, t in enumerate(ty.types)
        ]
        return context.make_tuple(builder, _bare_type(ty), parts)
    return value


def _array_type(ty: types.Type, dtype: types.Type) -> types.Type:
    if isinstance(ty, types.BaseNamedTuple):
        parts = tuple(_array_type(part, dtype) for part in ty.types)
        return types.BaseTuple.from_types(parts, ty.instance_class)
    return types.Array(dtype, len(ty.types[1]), "C") if isinstance(ty, types.BaseTuple) else ty


def _array_value(context: Any, builder: Any, ty: types.Type, value: Any, result: types.Type) -> Any:
    if isinstance(ty, types.BaseNamedTuple):
        parts = [
            _array_value(context, builder, t, builder.extract_value(value, i), result.types[i])
            for i, t in enumerate(ty.types)
        ]
        return context.make_tuple(builder, result, parts)
    if not isinstance(ty, types.BaseTuple):
        return value
    address, shape = builder.extract_value(value, 0), builder.extract_value(value, 1)
    sizes = [builder.extract_value(shape, axis) for axis in range(result.ndim)]
    data = builder.inttoptr(address, context.get_data_type(result.dtype).as_pointer())
    return array_from(context, builder, result, data, sizes)


@intrinsic
def arrays(typingctx: Any, given: Any, like: Any) -> Any:
    """An array of the dtype of ``like`` for a `Place`, or for every one in a named tuple."""
    result = _array_type(given, like.dtype)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _array_value(context, builder, given, args[0], result)

    return result(given, like), codegen


@intrinsic
def bare(typingctx: Any, given: Any) -> Any:
    """A buffer of an array, or the same of every array in a named tuple, which is otherwise unchanged."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _bare_value(context, builder, given, args[0])

    return _bare_type(given)(given), codegen


@type_callable(operator.getitem)
def _type_getitem(context: Any) -> Any:
    def typer(buffer: Any, index: Any) -> Any:
        return buffer.dtype if isinstance(buffer, Buffer) and isinstance(index, types.Integer) else None

    return typer


@lower_builtin(operator.getitem, Buffer, types.Integer)
def _getitem(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return context.unpack_value(builder, signature.return_type, builder.gep(args[0], [args[1]]))


@type_callable(operator.setitem)
def _type_setitem(context: Any) -> Any:
    def typer(buffer: Any, index: Any, value: Any) -> Any:
        fits = isinstance(buffer, Buffer) and isinstance(index, types.Integer)
        return types.none(buffer, index, buffer.dtype) if fits else None

    return typer


@lower_builtin(operator.setitem, Buffer, types.Integer, types.Any)
def _setitem(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    buffer, _, value = signature.args
    number = context.cast(builder, args[2], value, buffer.dtype)
    context.pack_value(builder, buffer.dtype, number, builder.gep(args[0], [args[1]]))
    return context.get_dummy_value()
