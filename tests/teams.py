"""Sees which operations several threads worked for at the same time."""

from __future__ import annotations

import ast
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch

import tsssm
from tsssm.ops import gating
from tsssm.ops.cpu import layout, threads
from tsssm.ops.cpu.gating import gate
from tsssm.ops.cpu.normalization import norm
from tsssm.training import _run

# A bound on waiting for ever, never reached by a machine that is merely slow.
DEADLOCK = 600.0

_CPU = Path(tsssm.__file__).parent / "ops" / "cpu"
# Functions that take a task from their caller and hand it to `threads.run`.
_HANDING_ON = {"run", "for_each", "_for_each_part", "run_forward", "run_backward"}
_BY_NAME = (_HANDING_ON - {"run"}) | {"threads.run"}


def threaded_functions() -> set[str]:
    """Every function of the engine that hands tasks to threads, "module.function", read off the sources."""
    found = set()
    for path in _CPU.rglob("*.py"):
        module = ".".join(["tsssm.ops.cpu", *path.relative_to(_CPU).with_suffix("").parts])
        body = ast.parse(path.read_text(encoding="utf-8")).body
        methods = [node for each in body if isinstance(each, ast.ClassDef) for node in each.body]
        for function in (*body, *methods):
            if isinstance(function, ast.FunctionDef) and function.name not in _HANDING_ON:
                called = {ast.unparse(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)}
                if called & _BY_NAME:
                    found.add(f"{module}.{function.name}")
    return found


def _callers() -> Iterator[str]:
    frame = sys._getframe(2)
    while frame is not None:
        yield f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}"
        frame = frame.f_back


@contextmanager
def team(count: int, *, small_calls_too: bool = True) -> Iterator[set[str]]:
    """Give every call ``count`` threads, however small it is; collect the functions that used two of them.

    The first two threads of a call wait for each other, so that neither can do the work of both.
    """
    used: set[str] = set()
    run = threads.run

    def watched(tasks: Iterable[Callable[[], object]], n_threads: int) -> None:
        todo = list(tasks)
        if len(todo) == 1 or n_threads == 1:
            return run(todo, n_threads)
        lock, meeting, present = threading.Lock(), threading.Barrier(2, timeout=DEADLOCK), set[int]()

        def meet(task: Callable[[], object]) -> None:
            with lock:
                wait = len(present) < 2 and threading.get_ident() not in present
                if wait:
                    present.add(threading.get_ident())
            if wait:
                meeting.wait()
            task()

        run([lambda task=task: meet(task) for task in todo], n_threads)
        assert len(present) == 2
        used.update(_callers())

    before = torch.get_num_threads()
    with mock.patch.object(threads, "run", watched), _few_entries_a_task(small_calls_too):
        torch.set_num_threads(count)
        try:
            yield used
        finally:
            torch.set_num_threads(before)


@contextmanager
def _few_entries_a_task(wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    with (
        mock.patch.object(layout, "_MIN_WORK_PER_THREAD", 1),
        mock.patch.object(norm, "_ENTRIES_PER_THREAD", 1),
        mock.patch.multiple(gate, _BLOCK=2**9, _ENTRIES_PER_THREAD=1),
        mock.patch.object(gating, "_SMALL", 0),
        mock.patch.object(_run, "_FEATURES_PER_THREAD", 1),
    ):
        yield
