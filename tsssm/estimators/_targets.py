"""What an estimator knows of the targets that it was fitted to: an object that the estimator has.

Symbols and shapes: n series with targets y (n,) or (n, n_columns)::

    ridge    (n, m)   targets of a ridge regression
    outputs  (n, m)   what a ridge regression says, or (n, n_outputs) what a network does
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tsssm.estimators._checks import FloatArray
from tsssm.estimators._left_out import Errors
from tsssm.persistence import Fields

Self = TypeVar("Self", bound="Targets")


class Targets:
    """Targets of a model: checked, passed on as numbers, and brought back into the form of y.

    A fit makes new ones or works on a copy, so that those of an earlier fit stay as they are.
    """

    #: Whether the targets are classes, every one of which has to be seen in training.
    are_classes: ClassVar[bool]
    #: Parameters of estimators that say what targets mean.
    parameters: ClassVar[tuple[str, ...]] = ()
    #: What is learned, and what model files call it.
    held: ClassVar[dict[str, str]] = {}

    #: Those of series that were left out of a fit, if they say how wrong answers are.
    errors: Errors | None = None

    @classmethod
    def of(cls: type[Self], estimator: Any, known: Self | None = None) -> Self:
        """Targets of an estimator that is to be fitted; one that goes on knows those of its last fit."""
        targets = cls() if known is None else copy.copy(known)
        vars(targets).pop("errors", None)
        vars(targets).update({name: getattr(estimator, name) for name in cls.parameters})
        return targets

    def state(self) -> dict[str, Any]:
        """What a model file holds: all but the parameters, whether or not `restore` knows it."""
        learned = {name: value for name, value in vars(self).items() if name not in self.parameters}
        return {self.held.get(name, name): value for name, value in learned.items()}

    @classmethod
    def among(cls: type[Self], state: dict[str, Any]) -> Self:
        """Targets in the state of a pickled estimator of version 0.1.0, which had all this for itself."""
        targets = cls()
        found = {name: state.pop(held) for name, held in cls.held.items() if held in state}
        vars(targets).update({name: state[name] for name in cls.parameters}, **found)
        return targets

    def restore(self, fields: Fields) -> None:
        """As `PanelEstimator._restore`."""
        raise NotImplementedError

    def restore_slopes(self, fields: Fields) -> None:
        """As `restore`, of a model with a ridge regression: how much its outputs say."""

    def restore_errors(self, fields: Fields) -> None:
        """As `restore`, of a model that judges itself by series that were left out."""

    def shown(self) -> dict[str, Any]:
        """What estimators show as attributes of their own."""
        return {}

    @property
    def single(self) -> bool:
        """Whether there is a single class, and thus nothing to learn."""
        return False

    def check(self, y: Any, classes: Any = None, *, reset: bool) -> npt.NDArray[Any]:
        """Return targets (n,) or (n, n_columns); with ``reset`` learn what is expected of later ones.

        ``classes`` are all that may occur, if a user has said so.
        """
        raise NotImplementedError

    def weights(self, y: npt.NDArray[Any], y_train: npt.NDArray[Any]) -> FloatArray:
        """Return factors (n,) on the weights of series with targets y, learned from y_train."""
        return np.ones(len(y))

    def fit(self, y: npt.NDArray[Any], weight: FloatArray) -> None:
        """Learn from the targets to train on how to pass targets on as numbers."""

    def warn_of_one(self, estimator: Any, what: str) -> None:
        """Warn if there is a single class, which ``estimator`` will predict for every ``what``."""

    def origin(self) -> Tensor | None:
        """Return the encoded targets (m,) of numbers that are 0, with the sign turned; None for classes."""
        return None

    def judge(self, outputs: FloatArray, y: npt.NDArray[Any], groups: npt.NDArray[Any] | None) -> None:
        """Learn from outputs for series, or groups of them, that were left out how wrong answers are."""
