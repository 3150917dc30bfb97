"""How the targets of an estimator are passed to the network, and to the closed form beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tsssm.estimators._checks import FloatArray
from tsssm.persistence import Fields


class Targets:
    """Base of the mixins that have targets: what they are to a network, and to a ridge regression."""

    # Whether the targets are classes, every one of which the network has to see.
    _targets_are_classes: bool

    def _strata(self, y: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return what a validation split should cover evenly, (n,)."""
        raise NotImplementedError

    def _checked_targets(self, y: Any, classes: Any, *, reset: bool) -> npt.NDArray[Any]:
        """Return targets (n,) or (n, n_columns); with ``reset`` learn what is expected of later ones."""
        raise NotImplementedError

    def _class_weights(self, y: npt.NDArray[Any], y_train: npt.NDArray[Any]) -> FloatArray:
        """Return factors (n,) on the weights of series with targets y, learned from y_train."""
        return np.ones(len(y))

    def _fit_targets(self, y: npt.NDArray[Any], weight: FloatArray) -> None:
        """Learn from the targets to train on how to encode targets."""

    def _encoded_targets(self, y: npt.NDArray[Any]) -> Tensor:
        """Return the targets (n, ...) of the loss."""
        raise NotImplementedError

    def _origin(self) -> Tensor | None:
        """Return the encoded targets (m,) of numbers that are 0, with the sign turned; None for classes."""
        return None

    def _n_outputs(self) -> int:
        """Return the number of outputs of the network."""
        raise NotImplementedError

    def _loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each series (batch,)."""
        raise NotImplementedError

    def _n_columns(self) -> int:
        """Return the number of columns of y."""
        raise NotImplementedError

    def _n_ridge_outputs(self) -> int:
        """Return the number m of outputs of a ridge regression."""
        raise NotImplementedError

    def _restore_slopes(self, fields: Fields) -> None:
        """As `Saveable._restore`: what says how much the outputs of a ridge regression mean."""

    def _ridge_targets(self, y: npt.NDArray[Any]) -> FloatArray:
        """Return the targets (n, m) of a ridge regression."""
        raise NotImplementedError

    def _weights_of(
        self,
        left_out: FloatArray,
        outputs: FloatArray | None,
        y: npt.NDArray[Any],
        weight: FloatArray,
        *pull: Any,
    ) -> FloatArray:
        """Return the weights (n_columns, 2) of the closed form and of the network.

        From what each says of series that it has not seen: ``left_out`` (n, m) of the ridge and ``outputs``
        (n, n_outputs) of the network; without the latter, both count alike. ``pull`` is that of `pull_of`.
        """
        raise NotImplementedError

    def _judge_outputs(
        self, outputs: FloatArray, y: npt.NDArray[Any], groups: npt.NDArray[Any] | None
    ) -> None:
        """Learn from outputs (k, n_outputs) for left-out series, their targets, and their groups."""

    def _forget_scores(self) -> None:
        """Forget what `_judge_outputs` has learned."""

    def _blended(self, closed_form: FloatArray, outputs: FloatArray) -> FloatArray:
        """Return outputs (n, n_outputs) of both, from those (n, m) of the ridge and those of the network."""
        raise NotImplementedError
