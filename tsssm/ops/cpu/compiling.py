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
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba import config, types
from numba.core.compiler import CompileResult
from numba.core.registry import CPUDispatcher
from numba.core.serialize import dumps

from tsssm.ops.cpu import caching


class _Part(CPUDispatcher):
    """A function that kernels call: without what a call from Python or C takes, unless a test needs it."""

    def __init__(self, function: Any, **options: bool) -> None:
        wrappers = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        super().__init__(function, targetoptions={"nopython": True, **wrappers, **options})
        self._from_python = CPUDispatcher(function, targetoptions={"nopython": True, **options})

    def get_call_template(self, args: Any, kws: Any) -> Any:
        # A number that the caller writes out is no signature of its own; LLVM takes it into account anyway.
        return super().get_call_template(tuple(map(types.unliteral, args)), kws)

    def __call__(self, *args: Any) -> Any:
        return self._from_python(*args)


# A function of its own: compiled once, called by whoever needs it. It takes arrays and plain numbers.
routine: Callable[[Any], Any] = partial(_Part, nogil=True, _nrt=False)
# The same for those that make arrays.
maker: Callable[[Any], Any] = partial(_Part, nogil=True)
# Compiled into its caller; it may take registers.
inline: Callable[[Any], Any] = partial(_Part, forceinline=True, _nrt=False)


class _Kernel(CPUDispatcher):
    def __init__(self, function: Any) -> None:
        super().__init__(function, targetoptions={"nopython": True, "nogil": True, "no_cfunc_wrapper": True})
        self._cache = _Cache(function)

    def compile(self, signature: Any) -> Any:
        disabled, config.DISABLE_JIT = config.DISABLE_JIT, 0
        try:
            return super().compile(signature)
        finally:
            config.DISABLE_JIT = disabled


# A function that Python calls, kept on disk for other processes.
kernel: Callable[[Any], Any] = _Kernel


def data_of(context: Any, builder: Any, array: Any, value: Any) -> Any:
    """LLVM's pointer to the numbers of an array of Numba type ``array``, in the code of an intrinsic."""
    return context.make_array(array)(context, builder, value).data


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
