"""The tridiagonal scan, by reference and compiled, against the dense system that it stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scans import BACKENDS, BOTH_DTYPES, Operands, convert
from scipy.signal import cont2discrete
from torch import Tensor
from torch.autograd import gradcheck
from tridiagonal_systems import ALPHAS, KINDS, arguments, dense, results

from tsssm.discretize import discretize_dense
from tsssm.ops import tridiagonal_scan


def dense_loop(given: Operands, alpha: float) -> tuple[Tensor, Tensor]:
    """One direction by a loop with dense matrices."""
    u, dt, x = given["u"], given["dt"], given["x0"]
    A, ys = dense(given), []
    for k in range(u.shape[1]):
        s = (given["step"] if dt is None else dt[:, k, None] * given["step"]).expand(u.shape[0], -1)
        A_bar, B_bar, _ = discretize_dense(A, given["B"], s, alpha)
        x = torch.einsum("bhij,bhj->bhi", A_bar, x) + B_bar * u[:, k, :, None]
        ys.append(torch.einsum("mhn,bhn->bmh", given["C"][0], x))
    return torch.stack(ys, dim=2) + given["D"][:, None] * u[:, None], x


@BACKENDS
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("gaps", ["regular", "distinct", "padded"])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_dense_system(kind: str, gaps: str, alpha: float, backend: Callable[[], Any]) -> None:
    given = arguments(kind=kind, gaps=gaps, shared=kind == "legs")
    with backend():
        found = tridiagonal_scan(**given, alpha=alpha)
    for value, expected in zip(found, dense_loop(given, alpha), strict=True):
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-10 * expected.abs().max().item())


@BACKENDS
@pytest.mark.parametrize("kind", KINDS)
def test_impulse_response_is_that_of_scipy(kind: str, backend: Callable[[], Any]) -> None:
    given = arguments(kind=kind, length=20, feedthrough=False, state=False, batch=1)
    given["u"] = torch.zeros_like(given["u"])
    given["u"][:, 0] = 1
    with backend():
        y, _ = tridiagonal_scan(**given)
    A, B, C = dense(given).numpy(), given["B"].numpy(), given["C"][0].numpy()
    for h in range(A.shape[0]):
        for m in range(C.shape[0]):
            parts = (A[h], B[h][:, None], C[m, h][None], np.zeros((1, 1)))
            A_bar, B_bar, *_ = cont2discrete(parts, given["step"][h].item(), "bilinear")
            expected = [C[m, h] @ np.linalg.matrix_power(A_bar, i) @ B_bar[:, 0] for i in range(20)]
            np.testing.assert_allclose(y[0, m, :, h], expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@BACKENDS
def test_both_directions_are_one_and_the_other(backend: Callable[[], Any]) -> None:
    given = arguments(directions=2, gaps="distinct")
    with backend():
        y, x = tridiagonal_scan(**given)
        one, state = tridiagonal_scan(**given | {"C": given["C"][0]})
        other, _ = tridiagonal_scan(**given | {"C": given["C"][1], "x0": None, "D": None}, reverse=True)
    torch.testing.assert_close(y, one + other, rtol=1e-12, atol=1e-12)
    assert torch.equal(x, state)


@BACKENDS
@pytest.mark.parametrize("kind", KINDS)
def test_padding_leaves_the_state_alone(kind: str, backend: Callable[[], Any]) -> None:
    given = arguments(kind=kind, gaps="distinct", modes=6)
    dt = given["dt"].clone()
    dt[:, 6:] = 0
    with backend():
        _, padded = tridiagonal_scan(**given | {"dt": dt})
        _, cut = tridiagonal_scan(**given | {"dt": dt[:, :6], "u": given["u"][:, :6]})
    assert torch.equal(padded, cut)


@BOTH_DTYPES
def test_padding_needs_no_regular_matrix(dtype: torch.dtype) -> None:
    """T need not have an inverse for the state to stay as it is, nor does it reach any gradient."""
    given = arguments(kind="random", length=4, state=True, dtype=dtype)
    given["T"][:] = 0
    given["dt"] = torch.zeros(2, 4, dtype=dtype)
    found = results(given)
    assert torch.equal(found["state"], given["x0"])
    assert all(value.isfinite().all() for value in found.values())
    assert not found["gradient of T"].any() and not found["gradient of B"].any()


@BOTH_DTYPES
@pytest.mark.parametrize("gap", [1e4, 1e8, 1e15])
def test_huge_gap_is_finite_and_forgets(gap: float, dtype: torch.dtype) -> None:
    """Backward Euler goes to the equilibrium -A^{-1} B u of the sample after such a gap."""
    given = arguments(kind="legs", length=40, gaps="few", readouts=1, feedthrough=False, dtype=dtype)
    given["dt"][:, 20] = gap
    found = results(given, alpha=1.0)
    assert all(value.isfinite().all() for value in found.values())
    exact = convert(given, torch.float64)
    rest = -torch.linalg.solve(dense(exact), exact["B"])
    expected = torch.einsum("hn,hn,bh->bh", exact["C"][0, 0], rest, exact["u"][:, 20])
    # The slowest time constant is 1, the shortest step a hundredth of the gap.
    tolerance = max(1e-5, 200 / gap) * expected.abs().max().item()
    torch.testing.assert_close(found["y"][:, 0, 20].double(), expected, rtol=0, atol=tolerance)
    before = {name: t[:, :20] for name, t in given.items() if name in ("u", "dt")}
    ordinary = results(given | before, alpha=1.0)["gradient of u"].abs().max()
    assert found["gradient of u"].abs().max() <= 100 * ordinary


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("gaps", ["regular", "few", "distinct", "padded"])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_gradcheck(alpha: float, gaps: str, reverse: bool) -> None:
    given = arguments(
        kind="random", batch=1, length=4, channels=2, modes=3, gaps=gaps, directions=1 + reverse, seed=1
    )
    names = [name for name in given if name != "dt"]

    def run(*operands: Tensor) -> tuple[Tensor, ...]:
        return tridiagonal_scan(
            **given | dict(zip(names, operands, strict=True)), alpha=alpha, reverse=reverse
        )

    assert gradcheck(run, [given[name].requires_grad_() for name in names], atol=1e-6, rtol=1e-5)


def test_gradient_of_the_gaps() -> None:
    given = arguments(kind="random", length=5, gaps="distinct")

    def run(dt: Tensor) -> Tensor:
        return tridiagonal_scan(**given | {"dt": dt}, reverse=True)[0]

    assert gradcheck(run, [given["dt"].requires_grad_()], atol=1e-6, rtol=1e-5)


@BACKENDS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input_is_computed_at_the_precision_of_the_system(
    dtype: torch.dtype, backend: Callable[[], Any]
) -> None:
    given = arguments(gaps="few", dtype=torch.float32)
    half = given["u"].to(dtype).requires_grad_()
    with backend():
        y, x = tridiagonal_scan(**given | {"u": half})
        expected, _ = tridiagonal_scan(**given | {"u": half.detach().float()})
    assert y.dtype == dtype and x.dtype == torch.float32
    assert torch.equal(y, expected.to(dtype))
    y.sum().backward()
    assert half.grad.dtype == dtype and half.grad.isfinite().all() and half.grad.any()


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("u", lambda t: t[0]),
        ("u", lambda t: t[:, :0]),
        ("u", lambda t: t.long()),
        ("T", lambda t: t[:2]),
        ("T", lambda t: t[:, :, :0]),
        ("T", lambda t: t[:, :2]),
        ("T", lambda t: t.half()),
        ("T", lambda t: t + 0j),
        ("shift", lambda t: t[:, :2]),
        ("shift", lambda t: t[:1]),
        ("scale", lambda t: t.float()),
        ("B", lambda t: t[:, :2]),
        ("B", lambda t: t.float()),
        ("C", lambda t: t[0, 0]),
        ("C", lambda t: t.repeat(3, 1, 1, 1)),
        ("C", lambda t: t[..., :2]),
        ("step", lambda t: t.float()),
        ("step", lambda t: t[:, None]),
        ("dt", lambda t: t[:, 1:]),
        ("x0", lambda t: t[:1]),
        ("x0", lambda t: t.float()),
        ("D", lambda t: t[0]),
        ("D", lambda t: t.float()),
    ],
)
def test_wrong_argument_is_named(name: str, spoil: Callable[[Tensor], Tensor]) -> None:
    given = arguments(gaps="few")
    with pytest.raises(ValueError, match=rf"^{name} must be .*; got "):
        tridiagonal_scan(**given | {name: spoil(given[name])})


@pytest.mark.parametrize("alpha", [-0.1, 1.5])
def test_alpha_out_of_range(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        tridiagonal_scan(**arguments(), alpha=alpha)
