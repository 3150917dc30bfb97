"""Silence around Lightning: its log lines, its signal handlers, and warnings that are between it and torch.

All that is known here of Lightning beyond its documentation.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import lightning.pytorch as pl
from lightning.pytorch.plugins.environments import SLURMEnvironment

from tsssm.training._signals import nothing


class _Shared:
    """A context for concurrent runs: the first one opens it and the last one closes it."""

    def __init__(self, context: Callable[[], AbstractContextManager[None]]) -> None:
        self._context = context
        self._stack = ExitStack()
        self._runs = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            if self._runs == 0:
                self._stack.enter_context(self._context())
            self._runs += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._runs -= 1
            if self._runs == 0:
                self._stack.close()


@contextmanager
def _hidden_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        # Lightning 2.6 calls a name that torch 2.13 has deprecated.
        warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)", FutureWarning)
        yield


@contextmanager
def _silent_log() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


# Warning filters and log levels belong to the process: runs in several threads must not restore one
# another's.
_without_warnings = _Shared(_hidden_warnings)
_without_log = _Shared(_silent_log)


@contextmanager
def quiet(verbose: int) -> Iterator[None]:
    """Hide what is between Lightning and torch, and with ``verbose`` below 2 Lightning's log lines."""
    with _without_warnings, _without_log if verbose < 2 else nullcontext():
        yield


def leave_signals_alone(trainer: pl.Trainer) -> None:
    """Keep Lightning from handling signals: at SIGTERM it would end a program as if all were well.

    Where Slurm asks it to queue jobs again, it may.
    """
    connector = trainer._signal_connector
    if not isinstance(trainer._accelerator_connector.cluster_environment, SLURMEnvironment):
        connector.register_signal_handlers = nothing
