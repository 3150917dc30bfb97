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
from tsssm.persistence import Fields, register

Self = TypeVar("Self", bound="Targets")


class Targets:
    """Targets of a model: checked, passed on as numbers, and brought back into the form of y.

    A fit makes new ones or works on a copy, so that those of an earlier fit stay as they are.
    """

    #: Whether the targets are classes, every one of which has to be seen in training.
    are_classes: ClassVar[bool]
    #: Parameters of estimators that say what targets mean.
    parameters: ClassVar[tuple[str, ...]] = ()
    #: What a model file holds, by name; the parameters are those of the estimator.
    holds: ClassVar[dict[str, str]] = {}

    #: Those of series that were left out of a fit, if they say how wrong answers are.
    errors: Errors | None = None

    def __init_subclass__(cls) -> None:
        register(cls.__name__, cls, cls.holds, to_state=cls.learned)(cls.read)

    @classmethod
    def of(cls: type[Self], estimator: Any, known: Self | None = None) -> Self:
        """Targets of an estimator that is to be fitted; one that goes on knows those of its last fit."""
        targets = cls() if known is None else copy.copy(known)
        vars(targets).pop("errors", None)
        targets.take_parameters(estimator)
        return targets

    def take_parameters(self, estimator: Any) -> None:
        """Know what the parameters of an estimator say of targets."""
        vars(self).update({name: getattr(estimator, name) for name in self.parameters})

    def learned(self) -> dict[str, Any]:
        """All but the parameters: what a model file holds."""
        return {name: value for name, value in vars(self).items() if name not in self.parameters}

    @classmethod
    def read(cls: type[Self], fields: Fields) -> Self:
        """Targets in a model file, without the parameters."""
        raise NotImplementedError

    @property
    def calibrated(self) -> bool:
        """Whether it is known how much the outputs of a ridge regression say."""
        return True

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
