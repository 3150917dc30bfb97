"""Callbacks of scikit-learn, which has them since 1.9; with an earlier one there are none to set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:
    CallbackSupportMixin = object

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        """Return the method as it is."""
        return method


__all__ = ["CallbackSupportMixin", "FitReport", "with_callbacks"]


class FitReport:
    """Tells the callbacks that are set on an estimator of the run and of each of its epochs.

    Parameters
    ----------
    estimator : estimator
        May have callbacks; without any, reporting does nothing.
    X, y : Panel, array
        The training series and their targets.
    metadata : dict
        What was given to ``fit`` besides, by name.
    n_epochs : int
        Most epochs of the run.
    fitted : callable
        Returns the attributes that the estimator would have if training ended now.
    """

    def __init__(
        self,
        estimator: Any,
        X: Any,
        y: Any,
        metadata: dict[str, Any],
        n_epochs: int,
        fitted: Callable[[], dict[str, Any]],
    ) -> None:
        self._shared = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._fitted = fitted
        self._run: Any = None
        self._epoch: Any = None
        if hasattr(estimator, "_init_callback_context"):
            self._run = estimator._init_callback_context(max_subtasks=n_epochs)
            self._run.call_on_fit_task_begin(**self._shared)

    def epoch_begins(self) -> None:
        """Report the start of an epoch."""
        if self._run is not None:
            self._epoch = self._run.subcontext(task_name="epoch")
            self._epoch.call_on_fit_task_begin(**self._shared)

    def epoch_ends(self) -> bool:
        """Report the end of an epoch; whether a callback asks to stop."""
        if self._epoch is None:
            return False
        return self._epoch.call_on_fit_task_end(**self._shared, reconstruction_attributes=self._fitted)

    def ends(self) -> None:
        """Report the end of the run."""
        if self._run is not None:
            self._run.call_on_fit_task_end(**self._shared, reconstruction_attributes=self._fitted)
