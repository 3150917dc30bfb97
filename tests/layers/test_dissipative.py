"""The bounds that keep the trained matrix of LSSL dissipative, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tsssm import hippo
from tsssm.layers._dissipative import CEILINGS, dissipative

MEASURES = pytest.mark.parametrize("measure", hippo.MEASURES)


def perturbed(measure: str, size: float, d_state: int = 12) -> tuple[Tensor, Tensor]:
    """D (50, N) and T (3, 50, N) around the HiPPO matrix."""
    random = torch.Generator().manual_seed(0)
    form = hippo.low_recurrence(measure, d_state - 1)
    D, T = (torch.as_tensor(value) for value in (form.D, form.T))
    D = D + size * torch.randn(50, d_state - 1, generator=random, dtype=D.dtype)
    return D, T[:, None] + size * torch.randn(3, 50, d_state - 1, generator=random, dtype=T.dtype)


def matrix_of(T: Tensor) -> NDArray[np.float64]:
    T = T.numpy()
    return np.stack(
        [np.diag(b[1:], -1) + np.diag(m) + np.diag(a[:-1], 1) for b, m, a in zip(*T, strict=True)]
    )


@MEASURES
@pytest.mark.parametrize("size", [0.01, 1.0, 30.0])
def test_bounds_make_any_parameters_dissipative(measure: str, size: float) -> None:
    """T^T (D + T^-1) T has the sign of D + T^-1 and needs no inverse; zero to rounding of its size."""
    D, T = (value.numpy() for value in dissipative(*perturbed(measure, size), CEILINGS[measure]))
    T = matrix_of(torch.as_tensor(T))
    both = T.swapaxes(1, 2) @ (D[..., None] * T) + T.swapaxes(1, 2)
    symmetric = (both + both.swapaxes(1, 2)) / 2
    assert (np.linalg.eigvalsh(symmetric)[:, -1] <= 1e-13 * np.abs(symmetric).max((1, 2))).all()
    if size == 1:
        # Without the bounds most of these grow, so that there is something to keep.
        D, T = (value.numpy() for value in perturbed(measure, size))
        both = np.stack([np.diag(d) for d in D]) + np.linalg.inv(matrix_of(torch.as_tensor(T)))
        assert (np.linalg.eigvals(both).real.max(1) > 0).mean() > 0.5


@MEASURES
@pytest.mark.parametrize("size", [0.0, 0.1, 3.0])
@pytest.mark.parametrize("step", [1e-3, 0.3, 20.0])
def test_elimination_needs_no_pivoting(measure: str, size: float, step: float) -> None:
    """Solutions agree with those of LAPACK, which pivots, to 1e-9 of the largest entry."""
    D, T = dissipative(*perturbed(measure, size), CEILINGS[measure])
    scale = torch.as_tensor(hippo.low_recurrence(measure, D.shape[1]).P ** 2)
    f = (step / 2) * scale
    W = matrix_of((1 - f * D) * T) - np.diag(f)
    right = np.random.default_rng(0).normal(size=(*D.shape, 1))
    expected = np.linalg.solve(W, right)
    U, x = W.copy(), right.copy()
    n = D.shape[1]
    for k in range(1, n):
        factor = U[:, k, k - 1] / U[:, k - 1, k - 1]
        U[:, k] -= factor[:, None] * U[:, k - 1]
        x[:, k] -= factor[:, None] * x[:, k - 1]
    for k in reversed(range(n)):
        x[:, k] = (x[:, k] - (U[:, k, k + 1 : k + 2] * x[:, k + 1 : k + 2, 0]).sum(1)[:, None]) / U[
            :, k, k, None
        ]
    assert (np.abs(x - expected).max((1, 2)) <= 1e-9 * np.abs(expected).max((1, 2))).all()


@MEASURES
def test_bounds_have_a_gradient_on_either_side(measure: str) -> None:
    """A parameter that has left the bounds still feels the loss, and one on the bounds feels the inside."""
    for size in (0.0, 0.5):
        D, T = (value.requires_grad_() for value in perturbed(measure, size))
        bounded = dissipative(D, T, CEILINGS[measure])
        (
            sum((value * torch.linspace(1, 2, value.numel()).view_as(value)).sum() for value in bounded)
        ).backward()
        assert (D.grad != 0).all() and (T.grad[1] != 0).all()
        assert (T.grad[0, :, 1:] != 0).all() and (T.grad[2, :, :-1] != 0).all()
        if size == 0:
            assert (D.grad > 0).all() and (T.grad[1] > 0).all()
