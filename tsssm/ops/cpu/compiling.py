"""How kernels and their parts are compiled, and all that is known here of Numba beyond its documentation.

A kernel owns the arrays and its parts only work on them, so the parts do without reference counts. Numba
counts atomically at every call, which costs as much as the recurrence of a short chunk. A part that makes an
array needs the counts.

NUMBA_DISABLE_JIT makes no difference: it is for debugging Python, and a function of registers is none.
Under it ``njit`` would leave functions as they are, so they are given to Numba's dispatcher themselves.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba import config, types
from numba.core.codegen import CPUCodeLibrary, JITCPUCodegen
from numba.core.compiler import CompileResult
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUDispatcher
from numba.core.serialize import dumps
from numba.np.arrayobj import populate_array
from numpy import ndarray

from tsssm.ops.cpu import caching


def _finish_for_linking(library: Any) -> None:
    library._finalize_dynamic_globals()
    library._finalized = True


def _leave(self: Any, *operands: Any) -> None:
    pass


_FOR_LINKING = {
    (CPUCodeLibrary, "_finalize_final_module"): _finish_for_linking,
    (JITCPUCodegen, "set_env"): _leave,
}


@contextmanager
def _only_to_be_linked() -> Iterator[None]:
    """What Numba compiles meanwhile becomes no machine code of its own, nor is it optimised on its own.

    It is linked into the kernel that calls it, where LLVM sees all at once: that halves the time.
    """
    with global_compiler_lock:
        before = {hook: getattr(*hook) for hook in _FOR_LINKING}
        try:
            for (owner, name), function in _FOR_LINKING.items():
                setattr(owner, name, function)
            yield
        finally:
            for (owner, name), function in before.items():
                setattr(owner, name, function)


class _Part(CPUDispatcher):
    """A function that kernels call: without what a call from Python or C takes, unless a test needs it."""

    def __init__(self, function: Any, **options: bool) -> None:
        wrappers = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        super().__init__(function, targetoptions={"nopython": True, **wrappers, **options})
        self._from_python = CPUDispatcher(function, targetoptions={"nopython": True, **options})

    def get_call_template(self, args: Any, kws: Any) -> Any:
        # A number that the caller writes out is no signature of its own; LLVM takes it into account anyway.
        return super().get_call_template(tuple(map(types.unliteral, args)), kws)

    def compile(self, sig: Any) -> Any:
        with _only_to_be_linked():
            return super().compile(sig)

    def __call__(self, *args: Any) -> Any:
        return self._from_python(*args)


# A function of its own: compiled once, called by whoever needs it. It takes arrays and plain numbers.
routine: Callable[[Any], Any] = partial(_Part, nogil=True, _nrt=False)
# The same for those that make arrays.
maker: Callable[[Any], Any] = partial(_Part, nogil=True)
# Compiled into its caller; it may take registers.
inline: Callable[[Any], Any] = partial(_Part, forceinline=True, _nrt=False)


@inline
def _nothing(*operands: Any) -> None:
    pass


class Choice(_Part):
    """A function whose part is chosen by the type of its first operand, a named tuple or an array.

    Parts are named by ``@choice.of(Tuple)`` above ``@routine``, ``@maker`` or ``@inline``; one of ``object``
    is for all tuples that have none of their own. For None nothing is done, and None returned.
    """

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._parts: dict[Any, Any] = {}

    def of(self, *kinds: type) -> Callable[[Any], Any]:
        """Say which part is taken for these types."""

        def add(part: Any) -> Any:
            self._parts.update(dict.fromkeys(kinds, part))
            return part

        return add

    def _part(self, args: Any) -> Any:
        first = args[0]
        kind = ndarray if isinstance(first, types.Array) else getattr(first, "instance_class", None)
        if isinstance(first, (types.NoneType, types.StarArgTuple, types.StarArgUniTuple)):
            return _nothing
        part = self._parts.get(kind, self._parts.get(object))
        if part is None:
            raise types.errors.TypingError(f"{self.py_func.__name__} has no part for {first}")
        return part

    def get_call_template(self, args: Any, kws: Any) -> Any:
        return self._part(args).get_call_template(args, kws)

    def get_overload(self, sig: Any) -> Any:
        return self._part(sig).get_overload(sig)


class Kernel(CPUDispatcher):
    """A function that Python calls, kept on disk for other processes: ``@kernel``."""

    def __init__(self, function: Any) -> None:
        super().__init__(function, targetoptions={"nopython": True, "nogil": True, "no_cfunc_wrapper": True})
        self._cache = _Cache(function)
        self._entries: dict[Hashable, Callable[..., Any]] = {}

    def by(self, key: Hashable) -> Callable[..., Any]:
        """The kernel for operands whose types ``key`` determines.

        Numba asks every operand for its type in every call, which for named tuples takes longer than the
        rest of a call does.
        """
        return self._entries.get(key) or partial(self._enter, key)

    def _enter(self, key: Hashable, *operands: Any) -> Any:
        result = self(*operands)
        signature = tuple(map(self.typeof_pyval, operands))
        self._entries[key] = self.overloads[signature].entry_point
        return result

    def compile(self, signature: Any) -> Any:
        disabled, config.DISABLE_JIT = config.DISABLE_JIT, 0
        try:
            return super().compile(signature)
        finally:
            config.DISABLE_JIT = disabled


kernel: Callable[[Any], Any] = Kernel


def data_of(context: Any, builder: Any, array: Any, value: Any) -> Any:
    """LLVM's pointer to the numbers of an array of Numba type ``array``, in the code of an intrinsic."""
    return context.make_array(array)(context, builder, value).data


def array_from(context: Any, builder: Any, ty: types.Array, address: Any, sizes: list[Any]) -> Any:
    """LLVM's value of an array over contiguous memory that belongs to nobody."""
    array, itemsize = (
        context.make_array(ty)(context, builder),
        context.get_abi_sizeof(context.get_data_type(ty.dtype)),
    )
    strides = [context.get_constant(types.intp, itemsize)]
    for size in sizes[:0:-1]:
        strides.insert(0, builder.mul(strides[0], size))
    data = builder.inttoptr(address, array.data.type)
    populate_array(array, data, sizes, strides, context.get_constant(types.intp, itemsize), None)
    return array._getvalue()


class _Cache:
    """What a dispatcher asks before it compiles, and tells afterwards."""

    def __init__(self, function: Any) -> None:
        self._kernel = f"{function.__module__}.{function.__qualname__}"
        self._stamp = caching.sources_stamp(Path(function.__code__.co_filename).parent)
        self.cache_path = str(next(caching.folders()))

    def _key(self, signature: Any, codegen: Any) -> str:
        versions = numba.__version__, llvmlite.__version__, sys.implementation.cache_tag
        return sha256(repr((signature, codegen.magic_tuple(), versions)).encode()).hexdigest()[:16]

    def load_overload(self, signature: Any, context: Any) -> Any:
        context.refresh()
        for entry in caching.entries(self._kernel, self._stamp, self._key(signature, context.codegen())):
            try:
                return CompileResult._rebuild(context, *pickle.loads(entry))
            except Exception:  # a sound file that holds something else: it is compiled anew
                continue
        caching.say_that_kernels_are_compiled()
        return None

    def save_overload(self, signature: Any, result: Any) -> None:
        key = self._key(signature, result.codegen)
        caching.save(self._kernel, self._stamp, key, dumps(result._reduce()))
