"""How training went."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tsssm.plotting._axes import axes_for, networks_of


class TrainingDisplay:
    """Loss after each epoch of a fit.

    Parameters
    ----------
    loss : array (n_epochs,)
        Mean training loss of each epoch.
    validation_loss : array (n_epochs,), optional
        Loss on the series held out, lower is better.
    label : str, optional
        Name of the curve in the legend.

    Attributes
    ----------
    best_epoch : int or None
        Counted from 1: that with the lowest loss on the series held out.
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    """

    figure_: Any
    ax_: Any

    def __init__(
        self, loss: npt.ArrayLike, validation_loss: npt.ArrayLike | None = None, label: str | None = None
    ) -> None:
        self.loss = np.asarray(loss, dtype=np.float64)
        self.validation_loss = None if validation_loss is None else np.asarray(validation_loss, np.float64)
        self.label = label
        self.best_epoch = None
        if self.validation_loss is not None and np.isfinite(self.validation_loss).any():
            self.best_epoch = int(np.nanargmin(self.validation_loss)) + 1

    @classmethod
    def from_estimator(cls, estimator: Any, *, label: str | None = None, ax: Any = None) -> TrainingDisplay:
        """Draw the learning curve of a fitted `SSMClassifier` or `SSMRegressor`.

        Parameters
        ----------
        estimator : fitted estimator that trains a network
        label : str, optional
            Name in the legend.
        ax : matplotlib Axes, optional
            By default those of a new figure. The axes of another display put both curves into one picture.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError, TypeError, ValueError
            If the estimator is not fitted, or has no network.
        """
        networks_of(estimator, cls.__name__)
        scores = estimator.validation_scores_
        validation = None if scores is None else -np.asarray(scores, dtype=np.float64)
        return cls(estimator.loss_curve_, validation, label).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> TrainingDisplay:
        """Draw on ``ax`` or on a new figure; returns itself."""
        self.figure_, (self.ax_,) = axes_for(ax, 1, 4.0)
        before = f"{self.label}, " if self.label else ""
        (line,) = self.ax_.plot(np.arange(1, len(self.loss) + 1), self.loss, label=f"{before}training")
        if self.validation_loss is not None:
            epochs = np.arange(1, len(self.validation_loss) + 1)
            self.ax_.plot(
                epochs, self.validation_loss, "--", color=line.get_color(), label=f"{before}validation"
            )
            if self.best_epoch is not None:
                best = self.validation_loss[self.best_epoch - 1]
                self.ax_.plot([self.best_epoch], [best], "o", color=line.get_color(), label=f"{before}best")
        self.ax_.set(xlabel="epoch", ylabel="loss")
        self.ax_.legend()
        return self
