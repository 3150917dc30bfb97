"""A pool of threads for kernels that release the interpreter lock.

Numba's own thread layers do not survive ``fork`` or calls from several threads; a plain pool does. It has
as many threads as `torch.get_num_threads` says at the time of the call, is made at first use, and is
made anew in a child process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

_lock = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}


def _forget() -> None:
    """A forked child has the records but not the threads, and maybe a lock that nobody will release."""
    global _lock
    _lock = threading.Lock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def run(tasks: Iterable[Callable[[], object]], threads: int) -> None:
    """Run the tasks on ``threads`` threads, the caller's own among them; the first error is raised."""
    first, *others = tasks
    if not others or threads == 1:
        for task in (first, *others):
            task()
        return
    with _lock:
        pool = _pools.get(threads)
        if pool is None:
            pool = _pools[threads] = ThreadPoolExecutor(threads - 1, thread_name_prefix="tsssm")
    pending = [pool.submit(task) for task in others]
    try:
        first()
    finally:
        # Buffers belong to the caller: no task may outlive this call, whatever happened to the first.
        errors = [future.exception() for future in pending]
    for error in errors:
        if error is not None:
            raise error
