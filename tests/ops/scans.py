"""Scans that take their operands by name: in another precision, and with the gradients of all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from systems import by_reference, weighted_sum
from torch import Tensor

BACKENDS = pytest.mark.parametrize("backend", [nullcontext, by_reference], ids=["compiled", "reference"])
BOTH_DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])

Operands = dict[str, Any]


def convert(given: Operands, dtype: torch.dtype) -> Operands:
    """A copy of another precision."""
    return {
        name: None if t is None else t.detach().to(dtype.to_complex() if t.is_complex() else dtype, copy=True)
        for name, t in given.items()
    }


def results_of(
    scan: Callable[..., tuple[Tensor, Tensor]], given: Operands, *, only: str | None = None, **options: Any
) -> dict[str, Tensor]:
    """Outputs, final state and the gradients of a weighted sum of them, of ``only`` one operand or of all."""
    wanted = {
        name: t.detach().clone().requires_grad_()
        for name, t in given.items()
        if t is not None and name != "dt" and only in (None, name)
    }
    y, x = scan(**given | wanted, **options)
    gradients = torch.autograd.grad(
        weighted_sum(y, x), list(wanted.values()), allow_unused=True, materialize_grads=True
    )
    found = {f"gradient of {name}": g for name, g in zip(wanted, gradients, strict=True)}
    return {"y": y.detach(), "state": x.detach()} | found
