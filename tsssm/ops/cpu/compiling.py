"""How kernels and their parts are compiled, and all that is known here of Numba beyond its documentation.

A kernel owns the arrays and its parts only work on them, so the parts do without reference counts. Numba
counts atomically at every call, which costs as much as the recurrence of a short chunk. A part that makes an
array needs the counts.

NUMBA_DISABLE_JIT makes no difference: it is for debugging Python, and a function of registers is none.
Under it ``njit`` would leave functions as they are, so they are given to Numba's dispatcher themselves.
"""

from __future__ import annotations

import gc
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
from numba.core import cgutils
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompileResult
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUDispatcher, cpu_target
from numba.core.serialize import dumps
from numba.np.arrayobj import populate_array
from numpy import ndarray

from tsssm.ops.cpu import caching


class _Whole(JITCodeLibrary):
    """Something that LLVM optimises only when all that it calls is there."""

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout

    def callees(self) -> list[Any]:
        """Libraries of all that it calls, those of callers first: what nobody calls is not linked."""
        found = dict.fromkeys(self._linking_libraries)
        reached = list(found)
        for library in reached:
            further = library._linking_libraries if isinstance(library, _OfPart) else ()
            new = [each for each in dict.fromkeys(further) if each not in found]
            found.update(dict.fromkeys(new))
            reached += new
        return reached


class _OfPart(_Whole):
    """What a part is compiled to: no machine code of its own, nor is it optimised or linked on its own.

    LLVM sees it as a piece of the kernels that call it, and once in each.
    """

    _whole: Any = None

    @staticmethod
    def set_env(name: str, environment: Any) -> None:
        """Leave out what only code that runs on its own needs."""

    def finalize(self) -> None:
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        return 0

    def alone(self) -> Any:
        """The module without what it calls."""
        return super()._get_module_for_linking()

    def _get_module_for_linking(self) -> Any:
        # For callers that are no kernels: Numba's own functions are parts, too, where a part calls them.
        if self._whole is None:
            module = self.alone().clone()
            for library in self.callees():
                other = library.alone() if isinstance(library, _OfPart) else library._get_module_for_linking()
                module.link_in(other, preserve=True)
            self._whole = module
        return self._whole


class _OfKernel(_Whole):
    """What a kernel is compiled to, with all its parts."""

    set_env = None

    def finalize(self) -> None:
        reached = self.callees()
        for library in reached:
            if isinstance(library, _OfPart):
                self._reload_init.update(library._reload_init)
                self._final_module.link_in(library.alone(), preserve=True)
        self._linking_libraries = [each for each in reached if not isinstance(each, _OfPart)]
        super().finalize()


@contextmanager
def _compiled_to(library: type[_OfPart | _OfKernel]) -> Iterator[None]:
    """What Numba compiles meanwhile becomes a library of this kind."""
    with global_compiler_lock:
        codegen = cpu_target.target_context.codegen()
        before = codegen._library_class, codegen.set_env
        codegen._library_class = library
        codegen.set_env = library.set_env or partial(type(codegen).set_env, codegen)
        try:
            yield
        finally:
            codegen._library_class, codegen.set_env = before


# A division by zero gives infinity: to look for it, and to raise an error, takes the compiler's time.
_OPTIONS: dict[str, Any] = {"nopython": True, "error_model": "numpy"}


class _Part(CPUDispatcher):
    """A function that kernels call: without what a call from Python or C takes, unless a test needs it."""

    def __init__(self, function: Any, **options: bool) -> None:
        wrappers = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        super().__init__(function, targetoptions={**_OPTIONS, **wrappers, **options})
        self._from_python = CPUDispatcher(function, targetoptions={**_OPTIONS, **options})

    def get_call_template(self, args: Any, kws: Any) -> Any:
        # A number that the caller writes out is no signature of its own; LLVM takes it into account anyway.
        return super().get_call_template(tuple(map(types.unliteral, args)), kws)

    def compile(self, sig: Any) -> Any:
        with _compiled_to(_OfPart):
            return super().compile(sig)

    def __call__(self, *args: Any) -> Any:
        return self._from_python(*args)


# A function of its own: compiled once, called by whoever needs it. It takes arrays and plain numbers.
routine: Callable[[Any], Any] = partial(_Part, _nrt=False)
# The same for those that make arrays.
maker: Callable[[Any], Any] = _Part
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
        super().__init__(function, targetoptions={**_OPTIONS, "nogil": True, "no_cfunc_wrapper": True})
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
        # Under the compiler's lock, so that no other thread finds what holds meanwhile and leaves it behind.
        with _compiled_to(_OfKernel):
            disabled, config.DISABLE_JIT = config.DISABLE_JIT, 0
            # Of the many objects that a compiler makes few can go before it ends, and others are looked
            # through again and again: a tenth of its time.
            collecting = gc.isenabled()
            gc.disable()
            try:
                return super().compile(signature)
            finally:
                config.DISABLE_JIT = disabled
                if collecting:
                    gc.enable()


kernel: Callable[[Any], Any] = Kernel


def data_of(context: Any, builder: Any, array: Any, value: Any) -> Any:
    """LLVM's pointer to the numbers of an array of Numba type ``array``, in the code of an intrinsic."""
    return context.make_array(array)(context, builder, value).data


def array_from(
    context: Any, builder: Any, ty: types.Array, data: Any, sizes: list[Any], owner: Any = None
) -> Any:
    """LLVM's value of an array over contiguous memory of an ``owner``, or of nobody."""
    array, itemsize = context.make_array(ty)(context, builder), _itemsize(context, ty)
    strides = [itemsize]
    for size in sizes[:0:-1]:
        strides.insert(0, builder.mul(strides[0], size))
    populate_array(array, builder.bitcast(data, array.data.type), sizes, strides, itemsize, owner)
    return array._getvalue()


def new_array(context: Any, builder: Any, ty: types.Array, sizes: list[Any], line: int) -> Any:
    """LLVM's value of a new array of zeros, which starts at a multiple of ``line`` bytes."""
    size = _itemsize(context, ty)
    for length in sizes:
        size = builder.mul(size, length)
    owner = context.nrt.meminfo_alloc_aligned(builder, size, line)
    data = context.nrt.meminfo_data(builder, owner)
    cgutils.memset(builder, data, size, 0)
    return array_from(context, builder, ty, data, sizes, owner)


def piece_of(context: Any, builder: Any, ty: types.Array, array: Any, start: Any, sizes: list[Any]) -> Any:
    """LLVM's value of contiguous numbers of another array, which is kept as long as they are."""
    piece = array_from(context, builder, ty, builder.gep(array.data, [start]), sizes, array.meminfo)
    if context.enable_nrt:
        context.nrt.incref(builder, ty, piece)
    return piece


def clear(context: Any, builder: Any, ty: types.Array, array: Any) -> None:
    """Write zeros to all of a contiguous array."""
    cgutils.memset(builder, array.data, builder.mul(array.nitems, _itemsize(context, ty)), 0)


def _itemsize(context: Any, ty: types.Array) -> Any:
    return context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(ty.dtype)))


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
