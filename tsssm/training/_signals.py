"""What happens when a running fit has to end: SIGTERM, and Ctrl-C inside of other tools."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

# As a shell reports a program that the signal has ended.
_STATUS = 128 + signal.SIGTERM

# Tools that fit an estimator again and again, and go on with a score or the next fit after one that returns.
_TOOLS = ("sklearn", "sktime", "skbase", "joblib", "dask", "distributed", "ray", "optuna")
# What of them passes a single fit on: decorators, pipelines, and the base of forecasters.
_PASSING_ON = ("sklearn.base", "sklearn.callback", "sklearn.pipeline", "sktime.forecasting.base._base")


class Termination:
    """While the block runs, SIGTERM saves the state of the fit before it does what it did before.

    A handler of the user's is called after that, and decides what happens next. Without one, where the signal
    would have ended the program, `SystemExit` with status 143 does, so that ``finally`` blocks run. In
    threads besides the main one, which Python tells of no signal, and where SIGTERM is ignored, nothing is
    changed.

    Parameters
    ----------
    save : callable
        Saves the state; called without arguments.
    """

    def __init__(self, save: Callable[[], None]) -> None:
        self._save = save
        self._before: Any = None
        self.ended = False

    def __enter__(self) -> Termination:
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGTERM)
            if before == signal.SIG_DFL or callable(before):
                signal.signal(signal.SIGTERM, self._handle)
                self._before = before
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._save()
        if callable(self._before):
            self._before(number, frame)
            return
        self.ended = True
        raise SystemExit(_STATUS)

    def check(self) -> None:
        """End the program if the signal came where Python swallows exceptions, such as in a destructor."""
        if self.ended:
            raise SystemExit(_STATUS)


def inside_a_tool() -> bool:
    """Whether a tool that fits again and again, such as ``cross_val_score``, is among the callers.

    Pipelines are not, nor decorators: a fit through them is a single one.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__") or ""
        if name.partition(".")[0] in _TOOLS and not name.startswith(_PASSING_ON):
            return True
        frame = frame.f_back
    return False


def nothing() -> None:
    """Stands where nothing is to be done."""
