"""Krylov vectors against matrix powers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from tsssm.discretize import discretize_dense
from tsssm.hippo import transition
from tsssm.ops import krylov


@pytest.mark.parametrize("length", [1, 2, 3, 8, 33])
@pytest.mark.parametrize("measure", ["legs", "legt"])
def test_powers(measure: str, length: int) -> None:
    A, B = (torch.as_tensor(value) for value in transition(measure, 6))
    step = torch.tensor([0.01, 0.1], dtype=torch.float64)
    A_bar, B_bar, _ = discretize_dense(A, B, step, "bilinear")
    found = krylov(A_bar, B_bar, length)
    assert found.shape == (2, 6, length)
    for h in range(2):
        for i in range(length):
            expected = np.linalg.matrix_power(A_bar[h].numpy(), i) @ B_bar[h].numpy()
            np.testing.assert_allclose(found[h, :, i], expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def test_gradcheck() -> None:
    random = torch.Generator().manual_seed(0)
    A_bar = torch.randn(3, 3, generator=random, dtype=torch.float64) / 3
    B_bar = torch.randn(3, generator=random, dtype=torch.float64)
    assert gradcheck(lambda a, b: krylov(a, b, 6), (A_bar.requires_grad_(), B_bar.requires_grad_()))


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="length must be at least 1; got 0"):
        krylov(torch.eye(2), torch.ones(2), 0)
    for A_bar, B_bar in [
        (torch.ones(2, 3), torch.ones(2)),
        (torch.eye(3), torch.ones(2)),
        (torch.ones(2),) * 2,
    ]:
        with pytest.raises(ValueError, match="A_bar must be"):
            krylov(A_bar, B_bar, 4)
