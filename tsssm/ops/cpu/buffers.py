"""Arrays without their sizes: what loops need of them is one pointer, where an array has a dozen numbers.

`bare` makes buffers of all arrays in a named tuple. They do not keep the memory alive; so they are made in
functions without reference counts (``@routine``, ``@inline``), of arrays that belong to the caller.
"""

from __future__ import annotations

import operator
from typing import Any

from numba import types
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

from tsssm.ops.cpu.compiling import data_of


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
