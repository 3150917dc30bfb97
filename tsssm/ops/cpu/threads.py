"""Tasks of kernels that release the interpreter lock, spread over threads.

They run on PyTorch's own OpenMP threads wherever its library has GNU's entry point for a parallel region
(Linux): those spin for a while after each matrix product, and threads of ours would have to share the cores
with them. Elsewhere, and in a forked child, which inherits OpenMP's records but not its threads, they run on
a pool that is made at first use.

Grad mode, inference mode and autocast belong to a thread. So every task, on the caller's thread or another,
runs in one mode of its own: no gradients, inference, no autocast. There its PyTorch operators may write into
whatever tensors the caller made, in inference mode or out of it, and compute the same on every thread.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import torch

Task = Callable[[], object]

_lock = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}
_forked = False

# void body(void *data), run once by every thread of the team
_BODY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def _forget() -> None:
    """A forked child has the records but not the threads, and maybe a lock that nobody will release."""
    global _lock, _forked
    _lock = threading.Lock()
    _forked = True
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@cache
def _parallel_region() -> Callable[..., None] | None:
    """``GOMP_parallel(body, data, threads, flags)`` of the OpenMP library that PyTorch is linked with."""
    try:
        # Looked up in the libraries that this one depends on as well.
        library: Any = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        function = library.GOMP_parallel
    except (OSError, AttributeError):
        return None
    function.argtypes = [_BODY, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    function.restype = None
    return function


def run(tasks: Iterable[Task], threads: int) -> None:
    """Run the tasks on ``threads`` threads, the caller's own among them; the first error is raised.

    A task makes no tensor that outlives it: it would be an inference tensor, which autograd refuses.
    """
    todo = list(tasks)
    # Whoever is free takes the next one: a team may have fewer threads than were asked for.
    remaining, errors = iter(todo), list[BaseException]()
    region = None if _forked else _parallel_region()
    if len(todo) == 1 or threads == 1:
        _work(remaining, errors)
    elif region is None:
        _run_on_pool(remaining, errors, threads)
    else:
        region(_BODY(lambda _: _work(remaining, errors)), None, threads, 0)
    if errors:
        raise errors[0]


def _work(tasks: Iterator[Task], errors: list[BaseException]) -> None:
    try:
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            for task in tasks:
                task()
    except BaseException as error:
        errors.append(error)


def _run_on_pool(tasks: Iterator[Task], errors: list[BaseException], threads: int) -> None:
    with _lock:
        pool = _pools.get(threads)
        if pool is None:
            pool = _pools[threads] = ThreadPoolExecutor(threads - 1, thread_name_prefix="tsssm")
    pending = [pool.submit(_work, tasks, errors) for _ in range(threads - 1)]
    _work(tasks, errors)
    # Buffers belong to the caller: no task may outlive this call. Who has not begun has nothing left to do.
    for future in pending:
        if not future.cancel():
            future.result()
