"""The predictions of a model after each sample of a series."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tsssm.panel import Panel, as_panel
from tsssm.plotting._axes import axes_for
from tsssm.plotting._panel import PanelDisplay
from tsssm.streaming import Stream


class PredictionDisplay:
    """A series, and below it the predictions of a model after each of its samples.

    Parameters
    ----------
    panel : Panel
        One series.
    answers : array (length, n_answers)
        Probabilities of the classes, or predictions, after each sample.
    labels : list of str
        One an answer.
    quantity : str
        What the answers are.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : list of matplotlib Axes
        One a channel, and the last one for the answers.
    """

    figure_: Any
    axes_: list[Any]

    def __init__(self, panel: Panel, answers: npt.ArrayLike, labels: list[str], quantity: str) -> None:
        self.panel, self.labels, self.quantity = panel, labels, quantity
        self.answers = np.asarray(answers, dtype=np.float64).reshape(int(panel.lengths[0]), -1)

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, *, ax: Any = None) -> PredictionDisplay:
        """Feed a series to a fitted estimator sample by sample, and draw.

        Parameters
        ----------
        estimator : fitted estimator that `Stream` takes
            Networks need ``bidirectional=False``.
        X : Panel, or whatever estimators take as X
            A single series.
        ax : sequence of matplotlib Axes, optional
            One a channel and one for the answers; by default a new figure.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError, TypeError, ValueError
            As `Stream`, and for several series, or targets of several columns of classes.
        """
        panel = X if isinstance(X, Panel) else as_panel(X)
        if len(panel) != 1:
            raise ValueError(f"X must hold one series; got {len(panel)}.")
        answers = Stream(estimator).push_many(panel.values, panel.times)
        if isinstance(answers, list):
            raise ValueError(
                "y must have one column in fit to draw probabilities of classes; it had several."
            )
        classes = getattr(estimator, "classes_", None)
        n = np.asarray(answers).reshape(len(panel.values), -1).shape[1]
        if classes is not None:
            return cls(panel, answers, [str(name) for name in classes], "probability").plot(ax=ax)
        labels = ["prediction"] if n == 1 else [f"target {j}" for j in range(n)]
        return cls(panel, answers, labels, "prediction").plot(ax=ax)

    def plot(self, *, ax: Any = None) -> PredictionDisplay:
        """Draw on ``ax`` or on a new figure; returns itself."""
        self.figure_, self.axes_ = axes_for(ax, self.panel.n_channels + 1, 1.8)
        *signals, below = self.axes_
        PanelDisplay(self.panel).plot(ax=signals)
        below.set_xlabel(signals[-1].get_xlabel())
        signals[-1].set_xlabel("")
        times = self.panel.times if self.panel.times is not None else np.arange(len(self.answers))
        for label, answer in zip(self.labels, self.answers.T, strict=True):
            below.plot(times, answer, drawstyle="steps-post", label=label)
        below.set_ylabel(self.quantity)
        if self.quantity == "probability":
            below.set_ylim(-0.03, 1.03)
        if len(self.labels) > 1:
            below.legend(loc="upper right")
        return self
