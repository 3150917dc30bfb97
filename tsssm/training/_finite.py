"""The losses of steps and the last weights whose loss was finite, with and without waiting for the device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


class LastGood:
    """Copies of parameters and buffers from before the last step whose loss was finite.

    Parameters
    ----------
    tensors : sequence of Tensor
        Parameters and buffers, listed once: to walk through the modules takes as long as a layer's kernel.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = list(tensors)
        self.kept = [tensor.detach().clone() for tensor in self._tensors]

    def keep(self) -> None:
        """Take what the tensors hold."""
        self.take(self._tensors)

    @torch.no_grad()
    def take(self, tensors: Iterable[Tensor]) -> None:
        """Copy tensors."""
        for kept, tensor in zip(self.kept, tensors, strict=True):
            kept.copy_(tensor)

    @torch.no_grad()
    def keep_if(self, finite: Tensor) -> None:
        """Take what the tensors hold if the number, on their device, is true; nobody waits for it."""
        for kept, tensor in zip(self.kept, self._tensors, strict=True):
            torch.where(finite, tensor, kept, out=kept)

    @torch.no_grad()
    def restore(self, tensors: Iterable[Tensor]) -> None:
        """Put the copies into tensors, which after training may be others, on another device."""
        for kept, tensor in zip(self.kept, tensors, strict=True):
            tensor.copy_(kept)


class StepLosses:
    """The losses of an epoch so far, of which some may still be on the device."""

    def __init__(self) -> None:
        self.finite: list[float] = []
        self._pending: list[Tensor] = []

    def __bool__(self) -> bool:
        return bool(self.finite or self._pending)

    def later(self, loss: Tensor) -> None:
        """Add a loss that is fetched by `settle`."""
        self._pending.append(loss)

    def settle(self) -> bool:
        """Fetch what is on the device, all at once; returns whether all of it was finite."""
        if not self._pending:
            return True
        values = torch.stack(self._pending).tolist()
        self._pending = []
        found = [value for value in values if math.isfinite(value)]
        self.finite += found
        return len(found) == len(values)

    def mean(self) -> float:
        """Mean of the finite losses; NaN without one. The next epoch begins."""
        mean = math.fsum(self.finite) / len(self.finite) if self.finite else math.nan
        self.finite = []
        return mean
