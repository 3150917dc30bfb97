"""What the diagonal scan promises under every rule: gradients, extreme gaps and inputs, clear errors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from scans import BOTH_DTYPES
from systems import (
    RULES,
    Problem,
    assert_close,
    by_reference,
    make_problem,
    results,
)
from torch import Tensor
from torch.autograd import gradcheck

from tsssm.ops import diagonal_scan

BOTH_DIRECTIONS = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


@BOTH_DIRECTIONS
@pytest.mark.parametrize("gaps", ["regular", "few", "distinct", "padded"])
@pytest.mark.parametrize(("method", "liquid"), RULES)
def test_gradcheck(method: str | float, liquid: bool, gaps: str, reverse: bool) -> None:
    problem = make_problem(
        batch=1, length=4, channels=2, modes=1, readouts=2, gaps=gaps, state=True, both=reverse, seed=1
    )
    names = problem.differentiable().keys()

    def run(*operands: Tensor) -> tuple[Tensor, ...]:
        given = problem.with_operands(dict(zip(names, operands, strict=True)))
        y, state = given.run(method=method, liquid=liquid, reverse=reverse)
        return y, *state

    operands = [t.requires_grad_() for t in problem.differentiable().values()]
    assert gradcheck(run, operands, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("liquid", [False, True])
def test_gradient_of_the_gaps(liquid: bool) -> None:
    problem = make_problem(length=5, gaps="distinct", seed=2)

    def run(dt: Tensor) -> Tensor:
        return diagonal_scan(*problem[:5], dt, liquid=liquid, reverse=True)[0]

    assert gradcheck(run, [problem.dt.requires_grad_()], atol=1e-6, rtol=1e-5)


@BOTH_DTYPES
@pytest.mark.parametrize("method", ["zoh", "foh", "backward-euler"])
@pytest.mark.parametrize("gap", [1e4, 1e8, 1e15])
def test_huge_gap_is_finite_and_forgets(gap: float, method: str, dtype: torch.dtype) -> None:
    """A gap so long that its angle cannot be reduced to a turn, as when the first stamp is an epoch."""
    problem = make_problem(length=40, gaps="few", seed=6, dtype=dtype)
    problem.dt[:, 20] = gap
    y, state = problem.run(method=method)
    assert y.isfinite().all() and state.x.isfinite().all()
    held = -problem.B / problem.A * problem.u[:, 20, :, None]  # what zero-order hold settles at
    if method == "zoh":
        settled = torch.einsum("mhn,bhn->bmh", problem.C, held).real
        torch.testing.assert_close(y[:, :, 20], settled, rtol=1e-4, atol=1e-4 * settled.abs().max().item())


@BOTH_DTYPES
@pytest.mark.parametrize("method", ["zoh", "bilinear"])
@pytest.mark.parametrize("gaps", ["regular", "few", "distinct"])
def test_liquid_is_bounded(method: str, gaps: str, dtype: torch.dtype) -> None:
    problem = make_problem(length=97, gaps=gaps, seed=7, dtype=dtype)
    u = 1e6 * torch.sign(problem.u)
    problem = problem._replace(u=u)
    found = results(problem, method=method, liquid=True)
    assert all(value.isfinite().all() for value in found.values())
    # The bound is |x_k| <= |x_{k-1}| + |Bbar u_k|, so that 97 inputs add up at worst.
    s = problem.step if problem.dt is None else problem.dt[..., None] * problem.step
    largest = 97 * (s.max() * problem.B.abs().max() * 1e6).item()
    assert found["state.x"].abs().max() <= largest
    with by_reference():
        expected = results(problem.to(torch.float64), method=method, liquid=True)
    # Entries of 1e6 beside others of 1: the tolerance is relative to the largest.
    assert_close(
        {name: found[name] for name in ("y", "state.x")},
        {name: expected[name] for name in ("y", "state.x")},
        dtype,
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("liquid", [False, True])
def test_half_precision_input_is_computed_in_float32(dtype: torch.dtype, liquid: bool) -> None:
    problem = make_problem(length=35, gaps="few", dtype=torch.float32, state=True)
    half = problem.u.to(dtype)
    rounded = problem._replace(u=half.float())
    expected, _ = rounded.run(liquid=liquid)
    half.requires_grad_()
    y, state = problem._replace(u=half).run(liquid=liquid)
    assert y.dtype == dtype and state.x.dtype == torch.complex64
    assert torch.equal(y, expected.to(dtype))
    y.sum().backward()
    assert half.grad.dtype == dtype and half.grad.isfinite().all() and half.grad.any()


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("u", lambda p: p._replace(u=p.u[0])),
        ("u", lambda p: p._replace(u=p.u[:, :0])),
        ("u", lambda p: p._replace(u=p.u.long())),
        ("u", lambda p: p._replace(u=p.u + 0j)),
        ("A", lambda p: p._replace(A=p.A[:2])),
        ("A", lambda p: p._replace(A=p.A.real)),
        ("A", lambda p: p._replace(A=p.A[0, 0])),
        ("B", lambda p: p._replace(B=p.B[:, :2])),
        ("B", lambda p: p._replace(B=p.B.to(torch.complex64))),
        ("C", lambda p: p._replace(C=p.C[0])),
        ("C", lambda p: p._replace(C=p.C.real)),
        ("step", lambda p: p._replace(step=p.step[:, None])),
        ("step", lambda p: p._replace(step=p.step.float())),
        ("dt", lambda p: p._replace(dt=p.dt[:, 1:])),
        ("state.x", lambda p: p._replace(state=p.state._replace(x=p.state.x[:1]))),
        ("state.x", lambda p: p._replace(state=p.state._replace(x=p.state.x.to(torch.complex64)))),
        ("state.u", lambda p: p._replace(state=p.state._replace(u=p.state.u[:, 1:]))),
        ("state.u", lambda p: p._replace(state=p.state._replace(u=p.state.u.float()))),
        ("D", lambda p: p._replace(D=p.D[0])),
        ("D", lambda p: p._replace(D=p.D.float())),
        ("C", lambda p: p._replace(C=p.C[None, :, :, :1])),
        ("C", lambda p: p._replace(C=torch.stack([p.C] * 3))),
    ],
)
def test_wrong_argument_is_named(name: str, spoil: Callable[[Problem], Problem]) -> None:
    problem = make_problem(gaps="few", state=True, both=True)._replace(C_reverse=None)
    with pytest.raises(ValueError, match=rf"^{name} must be .*; got "):
        spoil(problem).run()


def test_wrong_method_is_named() -> None:
    problem = make_problem()
    with pytest.raises(ValueError, match="method"):
        problem.run(method="tustin")
    with pytest.raises(ValueError, match="liquid"):
        problem.run(method="foh", liquid=True)
