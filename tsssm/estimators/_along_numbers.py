"""Numbers along time as targets: each of several may be missing at some times."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from tsssm.estimators._checks import FloatArray
from tsssm.estimators._numbers import LOSSES, NetworkNumbers, moments
from tsssm.estimators._recipes import Recipe


class NumbersAlongTime(NetworkNumbers):
    """Numbers for a network, NaN where one of several is missing."""

    def check(self, y: Any, classes: Any = None, *, reset: bool) -> FloatArray:
        columns = getattr(y, "columns", None)
        values = as_numbers(np.asarray(y))
        known: Any = np.nan_to_num(values)
        super().check(known if columns is None else type(y)(known, columns=columns), reset=reset)
        return values.reshape(len(values), -1)

    def fit(self, y: FloatArray, weight: FloatArray) -> None:
        """Learn mean and scale of each target from where it is known."""
        parts = []
        for j in range(y.shape[1]):
            known = np.isfinite(y[:, j])
            if not known.any():
                raise ValueError(f"y has no value to learn from in column {j}.")
            parts.append(moments(y[known, j : j + 1], weight[known]))
        self.mean, self.std = (np.concatenate(part) for part in zip(*parts, strict=True))

    def loss_of(self, outputs: Tensor, target: Tensor, recipe: Recipe) -> Tensor:
        """Loss of each label, the mean over the targets that are known."""
        known = target.isfinite()
        z = outputs.unflatten(1, (self.n_columns, -1))
        losses = LOSSES[self.loss](z, torch.where(known, target, 0.0), self.quantiles)
        return torch.where(known, losses, 0.0).sum(dim=1) / known.sum(dim=1)


def as_numbers(values: npt.NDArray[Any]) -> FloatArray:
    """Targets as float64, NaN where they are missing.

    Raises
    ------
    TypeError, ValueError
        For what are no real numbers, and for infinity.
    """
    if values.dtype.kind not in "fiubO":
        raise TypeError(f"y must hold real numbers; got dtype {values.dtype}.")
    try:
        if values.dtype == object:
            values = np.where(pd.isna(values), np.nan, values)
        numbers = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"y must hold real numbers: {error}") from error
    if np.isinf(numbers).any():
        raise ValueError(
            f"y must be finite or missing; it is infinite at position {int(np.argmax(np.isinf(numbers)))}."
        )
    return numbers
