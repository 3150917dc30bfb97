"""The diagonal plus low-rank scan against the dense system it stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import cont2discrete
from systems import GAPS, make_gaps
from torch import Tensor
from torch.autograd import gradcheck

from tsssm.discretize import discretize_dense
from tsssm.hippo import nplr, transition
from tsssm.ops import dplr_scan

N, H, M = 6, 3, 2
STEPS = torch.tensor([0.01, 0.05, 0.2], dtype=torch.float64)


def arguments(measure: str, shared: bool = True, gaps: str = "regular", length: int = 9) -> dict[str, Any]:
    """A HiPPO system in its normal plus low-rank form, one for all channels or one copy each."""
    random = torch.Generator().manual_seed(1)
    form = nplr(measure, N)
    copies = 1 if shared else H

    def real(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    V = torch.as_tensor(form.V)
    return {
        "u": real(2, length, H),
        "Lambda": torch.as_tensor(form.Lambda).repeat(copies, 1),
        "P": torch.as_tensor(form.P)[:, None].repeat(1, copies, 1),
        "Q": torch.as_tensor(form.P)[:, None].repeat(1, copies, 1),
        "B": torch.as_tensor(form.B).repeat(copies, 1),
        "C": real(M, H, N).to(V.dtype) @ V,
        "step": STEPS,
        "dt": make_gaps(gaps, 2, length, random),
        "x0": real(2, H, N).to(V.dtype) @ V.conj(),
    }


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


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("gaps", GAPS)
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "a system a channel"])
@pytest.mark.parametrize("measure", ["legs", "legt"])
def test_equals_the_dense_system(measure: str, shared: bool, gaps: str, alpha: float) -> None:
    p = arguments(measure, shared, gaps)
    y, x = dplr_scan(**p, alpha=alpha)
    expected_y, expected_x = dense_loop(measure, p, alpha)
    real_x = x @ torch.as_tensor(nplr(measure, N).V).T
    for found, expected in ((y, expected_y), (real_x.real, expected_x)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    assert real_x.imag.abs().max() <= 1e-10 * real_x.real.abs().max()


def test_impulse_response_is_that_of_scipy() -> None:
    p = arguments("legs", length=20) | {"x0": None, "u": torch.zeros(1, 20, H, dtype=torch.float64)}
    p["u"][:, 0] = 1
    y, _ = dplr_scan(**p, alpha=0.5)
    A, B = transition("legs", N)
    C = (p["C"] @ torch.as_tensor(nplr("legs", N).V).conj().T).real.numpy()
    for h in range(H):
        for m in range(M):
            system = (A, B[:, None], C[m, h][None], np.zeros((1, 1)))
            A_bar, B_bar, *_ = cont2discrete(system, STEPS[h].item(), "bilinear")
            expected = [C[m, h] @ np.linalg.matrix_power(A_bar, i) @ B_bar[:, 0] for i in range(20)]
            np.testing.assert_allclose(y[0, m, :, h], expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def test_padding_leaves_the_state_alone() -> None:
    p = arguments("legt", gaps="distinct")
    dt = p["dt"].clone()
    dt[:, 6:] = 0
    _, padded = dplr_scan(**p | {"dt": dt})
    _, cut = dplr_scan(**p | {"dt": dt[:, :6], "u": p["u"][:, :6]})
    torch.testing.assert_close(padded, cut, rtol=1e-13, atol=1e-13)


def test_gradcheck() -> None:
    p = arguments("legt", gaps="distinct", length=2)
    names = ("u", "Lambda", "P", "Q", "B", "C", "step", "dt", "x0")

    def run(*values: Tensor) -> tuple[Tensor, ...]:
        return dplr_scan(*values, alpha=0.3)

    assert gradcheck(run, [p[name].requires_grad_() for name in names], atol=1e-6, rtol=1e-5)


def test_half_precision_input_is_computed_at_the_precision_of_the_system() -> None:
    p = {
        name: value.to(torch.complex64 if value.is_complex() else torch.float32)
        for name, value in arguments("legs", gaps="few").items()
    }
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
        ("B", lambda t: t[:, :2]),
        ("B", lambda t: t.to(torch.complex64)),
        ("C", lambda t: t[:, :2]),
        ("step", lambda t: t.float()),
        ("dt", lambda t: t[:, 1:]),
        ("x0", lambda t: t[:1]),
    ],
)
def test_wrong_argument_is_named(name: str, spoil: Callable[[Tensor], Tensor]) -> None:
    p = arguments("legs", gaps="few")
    with pytest.raises(ValueError, match=rf"^{name} must be .*; got "):
        dplr_scan(**p | {name: spoil(p[name])})


@pytest.mark.parametrize("alpha", [-0.1, 1.5])
def test_alpha_out_of_range(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        dplr_scan(**arguments("legs"), alpha=alpha)
