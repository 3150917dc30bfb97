"""The forms of Liquid-S4 over a diagonal plus low-rank system, against the dense one it stands for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from liquid_systems import make_liquid
from numpy.typing import NDArray
from scans import BOTH_DTYPES
from systems import make_problem
from torch import Tensor
from torch.autograd import gradcheck

from tsssm.discretize import discretize_diagonal
from tsssm.hippo import conjugate_half, nplr
from tsssm.ops import diagonal_scan, liquid_dplr_scan, liquid_scan


def low_rank_problem(measure: str = "legt", gaps: str = "distinct", size: float = 1.0) -> dict[str, Any]:
    """A HiPPO system of three conjugate pairs in two channels, both directions."""
    problem = make_problem(length=9, channels=2, modes=3, gaps=gaps, both=True, seed=8)
    half = conjugate_half(nplr(measure, 6))
    P = torch.as_tensor(half.P)[:, None].repeat(1, 2, 1)
    return {
        "u": size * problem.u,
        "Lambda": torch.as_tensor(half.Lambda).repeat(2, 1) - 0.1,
        "P": P,
        "Q": 2 * P,
        "B": torch.as_tensor(half.B).repeat(2, 1),
        "C": torch.stack([problem.C, problem.C_reverse]),
        "step": torch.tensor([0.05, 0.2], dtype=torch.float64),
        "dt": problem.dt,
        "D": problem.D,
    }


def bounded(f: NDArray[Any]) -> NDArray[Any]:
    return f / np.maximum(1, np.abs(f))


def dense_liquid(p: dict[str, Any], alpha: float, kernel: str, order: int | None) -> NDArray[Any]:
    """Outputs of the forward direction by dense matrices over both halves of the pairs, without D."""
    batch, length, channels = p["u"].shape
    y = np.zeros((batch, length, channels))
    for b in range(batch):
        for h in range(channels):
            Lambda, P, B, C = (
                np.concatenate([z, z.conj()], axis=-1)
                for z in (p[name].numpy()[..., h, :] for name in ("Lambda", "P", "B", "C"))
            )
            A, C, one = np.diag(Lambda) - P.T @ P.conj(), C[0, 0] / 2, np.eye(6)
            x, past = np.zeros((order or 1 if kernel == "exact" else 1, 6), complex), []
            for k in range(length):
                s = p["step"][h].item() * (1 if p["dt"] is None else p["dt"][b, k].item())
                left = np.linalg.inv(one - alpha * s * A)
                A_bar, w = left @ (one + (1 - alpha) * s * A), left @ B * s * p["u"][b, k, h].item()
                if kernel == "exact" and order is None:
                    v = A_bar @ x[0] + w * x[0]
                    longer = np.linalg.norm(v) > np.linalg.norm(x[0])
                    x = (v * (np.linalg.norm(x[0]) / np.linalg.norm(v) if longer else 1) + w)[None]
                    seen = x[0]
                elif kernel == "exact":
                    x = x @ A_bar.T + np.concatenate([w[None], bounded(w) * x[:-1]])
                    seen = x.sum(0)
                else:
                    z = w * sum(
                        (np.prod(past[-q:], axis=0) for q in range(1, min(order, len(past) + 1))), 0 * w
                    )
                    x = x @ A_bar.T + w + (z if kernel == "kb" else 0)
                    seen = x[0] + (z if kernel == "pb" else 0)
                    past += [bounded(w)] if s > 0 else []
                y[b, k, h] = (C @ seen).real
    return y


LOW_RANK_FORMS = [("exact", None), ("exact", 3), ("kb", 2), ("kb", 4), ("pb", 3)]


@pytest.mark.parametrize("size", [0.1, 30.0], ids=["bounds inactive", "bounds active"])
@pytest.mark.parametrize(
    ("measure", "alpha", "gaps"),
    [("legs", 0.5, "regular"), ("legt", 0.8, "gap of zero"), ("legs", 0.0, "distinct")],
)
@pytest.mark.parametrize(("kernel", "order"), LOW_RANK_FORMS)
def test_low_rank_equals_the_dense_system(
    kernel: str, order: int | None, measure: str, alpha: float, gaps: str, size: float
) -> None:
    p = low_rank_problem(measure, gaps, size)
    expected = dense_liquid(p, alpha, kernel, order)
    # Half of the pairs is stored, so that it counts twice.
    found, _ = liquid_dplr_scan(**p | {"C": p["C"][0], "D": None}, alpha=alpha, kernel=kernel, order=order)
    np.testing.assert_allclose(found[:, 0], expected, rtol=0, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize("kernel", ["kb", "pb"])
def test_low_rank_of_zero_is_the_diagonal_system(kernel: str) -> None:
    p = low_rank_problem(size=5)
    diagonal = {name: value for name, value in p.items() if name not in ("Lambda", "P", "Q")}
    y, state = liquid_dplr_scan(**p | {"P": 0 * p["P"], "Q": 0 * p["P"]}, kernel=kernel, order=3)
    expected, end = liquid_scan(A=p["Lambda"], **diagonal, method="bilinear", kernel=kernel, order=3)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state.x, end.x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state.history, end.history, rtol=1e-12, atol=1e-12)


def test_the_bound_of_one_mode_is_the_projection_to_the_disc() -> None:
    """As over a diagonal system while inputs are within its bound, and only then."""
    problem, _ = make_liquid("exact", 2, modes=1, channels=8, gaps="distinct")
    # Fast ones: a transform of a slow mode stays within the disc.
    problem = problem._replace(A=problem.A + 3j, step=20 * problem.step)
    P = torch.zeros_like(problem.A)[None]
    bound = (-problem.A.real / problem.B.abs())[:, 0]
    within = problem._replace(u=problem.u.clamp(-bound, bound))
    s = (problem.dt[..., None] * problem.step)[..., None]
    A_bar, B_bar, _ = discretize_diagonal(problem.A, problem.B, s, "bilinear")
    assert ((A_bar + B_bar * within.u[..., None]).abs() > 1.01).sum() > 10
    apart = []
    for given in (within, problem):
        y, _ = liquid_dplr_scan(given.u, given.A, P, P, *given[2:6], kernel="exact")
        expected, _ = diagonal_scan(*given[:6], method="bilinear", liquid=True)
        apart.append((y - expected).abs().max().item())
    assert apart[0] < 1e-12 and apart[1] > 0.01


def test_low_rank_orders_add_up_to_the_full_recurrence() -> None:
    p = low_rank_problem("legs", size=0.03)
    expected, _ = liquid_dplr_scan(**p, kernel="exact")
    errors = [
        (liquid_dplr_scan(**p, kernel="exact", order=order)[0] - expected).abs().max().item()
        for order in (2, 3, 4, 9)
    ]
    assert errors[1] < 0.1 * errors[0] and errors[2] < 0.1 * errors[1] and errors[3] < 1e-13


@BOTH_DTYPES
@pytest.mark.parametrize(("kernel", "order"), LOW_RANK_FORMS)
def test_low_rank_is_bounded(kernel: str, order: int | None, dtype: torch.dtype) -> None:
    p = low_rank_problem("legs", "distinct") | {"u": torch.full((2, 60, 2), 1e6, dtype=torch.float64)}
    p["dt"] = 0.2 + torch.arange(120, dtype=torch.float64).reshape(2, 60) % 7 / 3
    p = {name: t.to(dtype.to_complex() if t.is_complex() else dtype) for name, t in p.items()}
    for sign in (torch.ones(60), -torch.ones(60), (-1.0) ** torch.arange(60)):
        leaves = {name: t.clone().requires_grad_(name != "dt") for name, t in p.items()}
        u = leaves["u"] * sign[:, None].to(dtype)
        y, state = liquid_dplr_scan(**leaves | {"u": u}, kernel=kernel, order=order)
        assert y.isfinite().all() and state.x.isfinite().all()
        gradients = torch.autograd.grad(y.sum(), [t for t in leaves.values() if t.requires_grad])
        assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize(("kernel", "order"), LOW_RANK_FORMS)
def test_low_rank_gradcheck(kernel: str, order: int | None) -> None:
    p = low_rank_problem("legs", size=20)
    p["u"], p["dt"] = p["u"][:1, :3], p["dt"][:1, :3]
    names = [name for name in p if name != "D"]

    def scan(*values: Tensor) -> Tensor:
        return liquid_dplr_scan(**dict(zip(names, values, strict=True)), kernel=kernel, order=order)[0]

    assert gradcheck(scan, [p[name].requires_grad_() for name in names], atol=1e-6, rtol=1e-5)


def test_low_rank_wrong_options_are_named() -> None:
    p = low_rank_problem()
    with pytest.raises(ValueError, match="^order must be .*got None"):
        liquid_dplr_scan(**p, kernel="kb")
    with pytest.raises(ValueError, match="^kernel must be .*got 'full'"):
        liquid_dplr_scan(**p, kernel="full")
    with pytest.raises(ValueError, match="alpha"):
        liquid_dplr_scan(**p, kernel="exact", alpha=1.5)
    with pytest.raises(ValueError, match="^P must be"):
        liquid_dplr_scan(**p | {"P": p["P"][0]}, kernel="exact")
