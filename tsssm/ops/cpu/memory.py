"""Arrays of registers: new ones, pieces of them, and zeros.

Each is some tens of instructions. NumPy's own ways to slice, reshape or fill compile copies for any strides
and messages for any error, in every kernel anew.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from tsssm.ops.cpu.compiling import clear, new_array, piece_of

# Of the cache: an array that starts amid a line takes two of them for every register.
_LINE = 64


def _typed(shape: Any, dtype: Any) -> tuple[types.UniTuple, types.Array]:
    return types.UniTuple(types.intp, len(shape)), types.Array(dtype, len(shape), "C")


def _sizes(builder: Any, ty: types.Array, shape: Any) -> list[Any]:
    return [builder.extract_value(shape, axis) for axis in range(ty.ndim)]


@intrinsic
def zeros(typingctx: Any, shape: Any, like: Any) -> Any:
    """Zeros of the dtype of ``like``, an array or a NumPy type, that start at a line of the cache."""
    sizes, result = _typed(shape, like.dtype)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return new_array(context, builder, result, _sizes(builder, result, args[0]), _LINE)

    return result(sizes, like), codegen


@intrinsic
def piece(typingctx: Any, array: Any, start: Any, shape: Any) -> Any:
    """The numbers of a contiguous array from flat position ``start`` on, as an array of their own."""
    sizes, result = _typed(shape, array.dtype)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        whole = context.make_array(array)(context, builder, args[0])
        return piece_of(context, builder, result, whole, args[1], _sizes(builder, result, args[2]))

    return result(array, types.intp, sizes), codegen


@intrinsic
def wipe(typingctx: Any, array: Any) -> Any:
    """Write zeros to all of a contiguous array."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        clear(context, builder, array, context.make_array(array)(context, builder, args[0]))
        return context.get_dummy_value()

    return types.none(array), codegen
