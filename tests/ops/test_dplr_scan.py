"""The diagonal plus low-rank scan, by reference and compiled, against the dense system that it stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from dplr_systems import STEPS, H, M, N, hippo_arguments, random_arguments
from scans import BACKENDS, convert
from scipy.signal import cont2discrete
from systems import GAPS
from torch import Tensor
from torch.autograd import gradcheck

from tsssm.discretize import discretize_dense
from tsssm.hippo import nplr, transition
from tsssm.ops import dplr_scan


def dense_loop(measure: str, p: dict[str, Any], alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """The same in HiPPO's own coordinates, where A is dense."""
    A, B = (torch.as_tensor(value) for value in transition(measure, N))
    V = torch.as_tensor(nplr(measure, N).V)
    x = (p["x0"] @ V.T).real
    C = (p["C"] @ V.conj().T).real
    ys = []
    for k in range(p["u"].shape[1]):
        s = p["step"].expand(2, H) if p["dt"] is None else p["dt"][:, k, None] * p["step"]
        A_bar, B_bar, _ = discretize_dense(A, B, s, alpha)
        x = torch.einsum("bhij,bhj->bhi", A_bar, x) + B_bar * p["u"][:, k, :, None]
        ys.append(torch.einsum("mhn,bhn->bmh", C, x))
    return torch.stack(ys, dim=2).numpy(), x.numpy()


@BACKENDS
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("gaps", GAPS)
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "a system a channel"])
@pytest.mark.parametrize("measure", ["legs", "legt"])
def test_equals_the_dense_system(
    measure: str, shared: bool, gaps: str, alpha: float, backend: Callable[[], Any]
) -> None:
    p = hippo_arguments(measure, shared, gaps)
    with backend():
        y, x = dplr_scan(**p, alpha=alpha)
    expected_y, expected_x = dense_loop(measure, p, alpha)
    real_x = x @ torch.as_tensor(nplr(measure, N).V).T
    for found, expected in ((y, expected_y), (real_x.real, expected_x)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    assert real_x.imag.abs().max() <= 1e-10 * real_x.real.abs().max()


@BACKENDS
def test_impulse_response_is_that_of_scipy(backend: Callable[[], Any]) -> None:
    p = hippo_arguments("legs", length=20) | {"x0": None, "u": torch.zeros(1, 20, H, dtype=torch.float64)}
    p["u"][:, 0] = 1
    with backend():
        y, _ = dplr_scan(**p, alpha=0.5)
    A, B = transition("legs", N)
    C = (p["C"] @ torch.as_tensor(nplr("legs", N).V).conj().T).real.numpy()
    for h in range(H):
        for m in range(M):
            system = (A, B[:, None], C[m, h][None], np.zeros((1, 1)))
            A_bar, B_bar, *_ = cont2discrete(system, STEPS[h].item(), "bilinear")
            expected = [C[m, h] @ np.linalg.matrix_power(A_bar, i) @ B_bar[:, 0] for i in range(20)]
            np.testing.assert_allclose(y[0, m, :, h], expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@BACKENDS
def test_padding_leaves_the_state_alone(backend: Callable[[], Any]) -> None:
    p = hippo_arguments("legt", gaps="distinct")
    dt = p["dt"].clone()
    dt[:, 6:] = 0
    with backend():
        _, padded = dplr_scan(**p | {"dt": dt})
        _, cut = dplr_scan(**p | {"dt": dt[:, :6], "u": p["u"][:, :6]})
    torch.testing.assert_close(padded, cut, rtol=1e-13, atol=1e-13)


def test_gradient_of_the_gaps() -> None:
    p = hippo_arguments("legt", gaps="distinct", length=2)
    names = ("u", "Lambda", "P", "Q", "B", "C", "step", "dt", "x0")

    def run(*values: Tensor) -> tuple[Tensor, ...]:
        return dplr_scan(*values, alpha=0.3)

    assert gradcheck(run, [p[name].requires_grad_() for name in names], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("alpha", [0.3, 0.5])
@pytest.mark.parametrize("gaps", ["regular", "distinct", "padded"])
@pytest.mark.parametrize("rank", [1, 2])
def test_gradcheck(rank: int, gaps: str, alpha: float) -> None:
    p = random_arguments(
        batch=1, length=4, channels=2, modes=2, rank=rank, directions=rank, gaps=gaps, shared=rank == 2
    )
    dt = p.pop("dt")
    names = list(p)

    def run(*operands: Tensor) -> tuple[Tensor, ...]:
        return dplr_scan(**dict(zip(names, operands, strict=True)), dt=dt, alpha=alpha)

    assert gradcheck(run, [t.requires_grad_() for t in p.values()], atol=1e-6, rtol=1e-5)


def test_half_precision_input_is_computed_at_the_precision_of_the_system() -> None:
    p = convert(hippo_arguments("legs", gaps="few"), torch.float32)
    half = p["u"].to(torch.bfloat16)
    y, x = dplr_scan(**p | {"u": half})
    expected, _ = dplr_scan(**p | {"u": half.float()})
    assert y.dtype == torch.bfloat16 and x.dtype == torch.complex64
    assert torch.equal(y, expected.to(torch.bfloat16))


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("u", lambda t: t[0]),
        ("Lambda", lambda t: t.real),
        ("Lambda", lambda t: t.repeat(2, 1)),
        ("P", lambda t: t[0]),
        ("P", lambda t: t[:0]),
        ("Q", lambda t: t[:, :, :1]),
        ("C", lambda t: t[:0]),
        ("B", lambda t: t[:, :2]),
        ("B", lambda t: t.to(torch.complex64)),
        ("C", lambda t: t[:, :2]),
        ("step", lambda t: t.float()),
        ("dt", lambda t: t[:, 1:]),
        ("x0", lambda t: t[:1]),
    ],
)
def test_wrong_argument_is_named(name: str, spoil: Callable[[Tensor], Tensor]) -> None:
    p = hippo_arguments("legs", gaps="few")
    with pytest.raises(ValueError, match=rf"^{name} must be .*; got "):
        dplr_scan(**p | {name: spoil(p[name])})


@pytest.mark.parametrize("alpha", [-0.1, 1.5, True, None, "bilinear"])
def test_alpha_out_of_range(alpha: object) -> None:
    with pytest.raises(ValueError, match="^alpha must be a number in"):
        dplr_scan(**hippo_arguments("legs"), alpha=alpha)
