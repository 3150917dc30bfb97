"""Batches whose series stay on a device, and transfers of those that do not."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch

from tsssm.encoding import Encoded, moved
from tsssm.training._batches import Batches, LabelledBatch
from tsssm.training._crops import Crops

# Share of the free memory of a device that the series of a run may take.
_SHARE = 0.25

B = TypeVar("B", bound=Batches)


def resident(batches: B, device: torch.device) -> B:
    """The same batches, made on the device, if it is CUDA and has room for the series; else as they are.

    The order of the series is drawn by the same generator on the CPU, and is the same.
    """
    if device.type != "cuda" or not isinstance(batches.data, Encoded) or isinstance(batches, Crops):
        return batches
    data = batches.data
    given = (data.u, data.dt, data.codes, batches.target, batches.weight)
    size = sum(t.numel() * t.element_size() for t in given if t is not None)
    if size > _SHARE * torch.cuda.mem_get_info(device)[0]:
        return batches
    return placed(batches, device)


def placed(batches: B, device: torch.device) -> B:
    """The same batches with series, targets and weights on a device; folds are looked at by the CPU."""
    other: Any = copy.copy(batches)
    assert isinstance(batches.data, Encoded)
    other.data = batches.data.on(device)
    other.target = batches.target.to(device)
    other.weight = None if batches.weight is None else batches.weight.to(device)
    return other


def transferred(batch: LabelledBatch, device: torch.device) -> LabelledBatch:
    """A batch on a device, but for the folds, whose rows have to be counted on the CPU."""
    u, dt, target, weight = (None if t is None else moved(t, device) for t in batch[:4])
    at = None if batch.at is None else (moved(batch.at[0], device), moved(batch.at[1], device))
    assert u is not None and target is not None
    return LabelledBatch(u, dt, target, weight, batch.fold, at)
