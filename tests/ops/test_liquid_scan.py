"""The forms of Liquid-S4, against the formulas of the paper as loops, and what every form promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from liquid_systems import FORMS, KERNELS, METHODS, leaves_of, make_liquid, results, run, with_leaves
from numpy.typing import NDArray
from scans import BOTH_DTYPES
from systems import GAPS, Problem, assert_close, by_reference, make_problem, weighted_sum
from torch import Tensor
from torch.autograd import gradcheck

from tsssm.discretize import discretize_diagonal
from tsssm.ops import LiquidState, diagonal_scan, liquid_dplr_scan, liquid_scan


class Loop:
    """One series, one channel and one readout in NumPy: coefficients of each sample, bounds not active."""

    def __init__(self, method: str | float, gaps: str, length: int = 9) -> None:
        problem = make_problem(batch=1, length=length, channels=1, modes=3, gaps=gaps, seed=4)
        problem = problem._replace(u=0.3 * problem.u)
        self.problem = problem
        dt = torch.ones(length, dtype=torch.float64) if problem.dt is None else problem.dt[0]
        A_bar, B_bar, _ = discretize_diagonal(problem.A, problem.B, (dt * problem.step)[:, None], method)
        self.u, self.A_bar = problem.u[0, :, 0].numpy(), A_bar.numpy()
        self.w = B_bar.numpy() * self.u[:, None]
        self.C = problem.C[0, 0].numpy()
        self.length = length
        assert np.abs(self.u).max() < (-problem.A.real / problem.B.abs()).min()
        assert np.abs(self.w).max() < 1 and np.abs(self.A_bar + self.w).max() < 1

    def after(self, j: int, k: int) -> NDArray[Any]:
        """The transition from sample j to sample k, which is Abar^(k - j) on a regular grid."""
        return np.prod(self.A_bar[j + 1 : k + 1], axis=0)


def test_the_regular_grid_has_powers() -> None:
    """The products of the loops are the powers of the paper's kernels."""
    loop = Loop("zoh", "regular")
    np.testing.assert_allclose(loop.after(2, 7), loop.A_bar[0] ** 5, rtol=1e-14)
    B_bar = loop.w[0] / loop.u[0]
    correlation = loop.u[4] * loop.u[3] * loop.u[2]
    np.testing.assert_allclose(np.prod(loop.w[2:5], axis=0), B_bar**3 * correlation, rtol=1e-13)


@pytest.mark.parametrize("gaps", ["regular", "few", "distinct"])
@pytest.mark.parametrize("method", METHODS[:2])
@pytest.mark.parametrize("order", [2, 3, 6])
def test_kb_is_the_kernel_of_the_paper(order: int, method: str, gaps: str) -> None:
    """y_k = sum over q and i of C Abar^i Bbar^q times the correlation of q inputs up to sample k - i."""
    loop = Loop(method, gaps)
    y = np.zeros(loop.length)
    for k in range(loop.length):
        for q in range(1, order + 1):
            for j in range(q - 1, k + 1):
                y[k] += (loop.C @ (loop.after(j, k) * np.prod(loop.w[j - q + 1 : j + 1], axis=0))).real
    found, _ = run(loop.problem, kernel="kb", order=order, method=method)
    np.testing.assert_allclose(found[0, 0, :, 0], y, rtol=0, atol=1e-13 * np.abs(y).max())


@pytest.mark.parametrize("gaps", ["regular", "few", "distinct"])
@pytest.mark.parametrize("method", METHODS[:2])
@pytest.mark.parametrize("order", [2, 3, 6])
def test_pb_is_the_kernel_of_the_paper(order: int, method: str, gaps: str) -> None:
    """The linear part with C Abar^i Bbar, and C Bbar^q times the correlation of the last q inputs."""
    loop = Loop(method, gaps)
    y = np.zeros(loop.length)
    for k in range(loop.length):
        for j in range(k + 1):
            y[k] += (loop.C @ (loop.after(j, k) * loop.w[j])).real
        for q in range(2, min(order, k + 1) + 1):
            y[k] += (loop.C @ np.prod(loop.w[k - q + 1 : k + 1], axis=0)).real
    found, _ = run(loop.problem, kernel="pb", order=order, method=method)
    np.testing.assert_allclose(found[0, 0, :, 0], y, rtol=0, atol=1e-13 * np.abs(y).max())


@pytest.mark.parametrize("method", METHODS)
def test_order_two_is_the_second_volterra_series(method: str | float) -> None:
    """With kernels K1(i) = C Abar^i Bbar and K2(i, j) = C Abar^(i + j - 1) Bbar^2 on the regular grid."""
    loop = Loop(method, "regular", length=12)
    A_bar, B_bar = loop.A_bar[0], loop.w[0] / loop.u[0]
    y = np.zeros(loop.length)
    for k in range(loop.length):
        for i in range(k + 1):
            y[k] += (loop.C @ (A_bar**i * B_bar)).real * loop.u[k - i]
            for j in range(1, k - i + 1):
                # The later input u[k - i] meets a state that the earlier one left j samples before.
                K2 = (loop.C @ (A_bar ** (i + j - 1) * B_bar**2)).real
                y[k] += K2 * loop.u[k - i] * loop.u[k - i - j]
    found, _ = run(loop.problem, kernel="exact", order=2, method=method)
    np.testing.assert_allclose(found[0, 0, :, 0], y, rtol=0, atol=1e-13 * np.abs(y).max())


@pytest.mark.parametrize("gaps", GAPS)
@pytest.mark.parametrize("method", METHODS)
def test_orders_add_up_to_the_full_recurrence(method: str | float, gaps: str) -> None:
    """To rounding once there is an order for every sample, bounds active or not, and closer with each."""
    problem, _ = make_liquid("exact", 2, length=12, gaps=gaps, both=True)
    C = torch.stack([problem.C, problem.C_reverse])
    with by_reference():
        expected, _ = diagonal_scan(*problem[:3], C, *problem[4:6], D=problem.D, method=method, liquid=True)
    errors = [
        (run(problem, kernel="exact", order=order, method=method)[0] - expected).abs().max().item()
        for order in (2, 4, 6, 8, 12)
    ]
    assert errors[-2] < 0.3 * errors[0] or gaps == "tiny"  # where the first is rounding already
    assert errors[-1] <= 1e-12 * expected.abs().max().item()


@pytest.mark.parametrize("gaps", ["regular", "distinct", "gap of zero"])
@pytest.mark.parametrize(("kernel", "order"), [(kernel, order) for kernel, order in FORMS if order < 6])
def test_gradcheck(kernel: str, order: int, gaps: str) -> None:
    sizes = {"batch": 1, "length": 4, "channels": 2, "modes": 1, "readouts": 2, "gaps": gaps, "seed": 1}
    problem, state = make_liquid(kernel, order, state=True, both=True, **sizes)
    leaves = {name: t for name, t in leaves_of(problem, state).items() if t.numel()}
    empty = {"history": state.history} if kernel == "exact" else {}

    def scan(*operands: Tensor) -> tuple[Tensor, ...]:
        given = with_leaves(problem, state, dict(zip(leaves, operands, strict=True)) | empty)
        y, end = run(*given, kernel=kernel, order=order)
        return y, *(part for part in end if part.numel())

    assert gradcheck(scan, list(leaves.values()), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradient_of_the_gaps(kernel: str) -> None:
    problem, _ = make_liquid(kernel, 3, length=5, gaps="distinct", seed=2)

    def scan(dt: Tensor) -> Tensor:
        return liquid_scan(*problem[:5], dt, kernel=kernel, order=3, reverse=True)[0]

    assert gradcheck(scan, [problem.dt.requires_grad_()], atol=1e-6, rtol=1e-5)


# ----------------------------------------------------------------------------------- what every form promises


@BOTH_DTYPES
@pytest.mark.parametrize(("kernel", "order"), FORMS)
@pytest.mark.parametrize("gaps", ["regular", "distinct", "gap of zero"])
def test_finite_for_large_inputs(kernel: str, order: int, gaps: str, dtype: torch.dtype) -> None:
    problem, _ = make_liquid(kernel, order, length=97, gaps=gaps, seed=7)
    problem = problem._replace(u=1e6 * torch.sign(problem.u)).to(dtype)
    for u in (problem.u, problem.u.abs(), -problem.u.abs()):
        found = results(problem._replace(u=u), None, kernel=kernel, order=order)
        assert all(value.isfinite().all() for value in found.values())
        with by_reference():
            exact = results(problem._replace(u=u).to(torch.float64), None, kernel=kernel, order=order)
        assert all(value.isfinite().all() for value in exact.values())
        names = ("y", "state.x")
        assert_close({name: found[name] for name in names}, {name: exact[name] for name in names}, dtype)


@pytest.mark.parametrize("gaps", ["regular", "gap of zero", "padded"])
@pytest.mark.parametrize(("kernel", "order"), FORMS)
def test_a_cut_changes_neither_outputs_nor_gradients(kernel: str, order: int, gaps: str) -> None:
    problem, state = make_liquid(kernel, order, length=40, gaps=gaps, state=True)
    whole = results(problem, state, kernel=kernel, order=order)
    for cuts in ([0, 1, 40], [0, 33, 34, 40], list(range(41))):
        leaves = leaves_of(problem, state)
        given, carried = with_leaves(problem, state, leaves)
        ys = []
        for start, stop in zip(cuts, cuts[1:], strict=False):
            dt = None if given.dt is None else given.dt[:, start:stop]
            piece = given._replace(u=given.u[:, start:stop], dt=dt)
            y, carried = run(piece, carried, kernel=kernel, order=order)
            ys.append(y)
        y = torch.cat(ys, dim=2)
        gradients = torch.autograd.grad(
            weighted_sum(y, *carried), list(leaves.values()), allow_unused=True, materialize_grads=True
        )
        found = {"y": y, "state.x": carried.x, "state.history": carried.history}
        found |= {f"gradient of {name}": g for name, g in zip(leaves, gradients, strict=True)}
        assert_close({name: found[name].detach() for name in whole}, whole, torch.float64)


@pytest.mark.parametrize(("kernel", "order"), FORMS)
def test_a_sample_of_zero_gap_is_none(kernel: str, order: int) -> None:
    """Inside and at the end; its own output is the readout of the state alone."""
    problem, state = make_liquid(kernel, order, length=12, gaps="distinct", state=True)
    padded = [4, 5, 10, 11]
    kept = [k for k in range(12) if k not in padded]
    problem.dt[:, padded] = 0
    options = {"kernel": kernel, "order": order}
    y, end = run(problem._replace(u=problem.u.index_fill(1, torch.tensor(padded), 1e6)), state, **options)
    expected, without = run(problem._replace(u=problem.u[:, kept], dt=problem.dt[:, kept]), state, **options)
    torch.testing.assert_close(y[:, :, kept], expected, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(end.x, without.x, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(end.history, without.history, rtol=1e-13, atol=1e-13)
    alone = torch.einsum("mhn,bqhn->bmh", problem.C, end.x).real
    torch.testing.assert_close(y[:, :, 11], alone, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("kernel", "order"), FORMS)
@pytest.mark.parametrize("reverse", [False, True])
def test_causal(kernel: str, order: int, reverse: bool) -> None:
    problem, _ = make_liquid(kernel, order, length=40, gaps="distinct")
    y, _ = run(problem, kernel=kernel, order=order, reverse=reverse)
    changed = problem.u.clone()
    changed[:, 20] += 1
    z, _ = run(problem._replace(u=changed), kernel=kernel, order=order, reverse=reverse)
    before, after = (slice(21, None), slice(0, 21)) if reverse else (slice(0, 20), slice(20, None))
    assert torch.equal(z[:, :, before], y[:, :, before])
    assert not torch.isclose(z[:, :, after], y[:, :, after], rtol=1e-9).any()


def test_half_precision_input_is_computed_in_float32() -> None:
    problem, _ = make_liquid("kb", 3, length=35, gaps="few", dtype=torch.float32)
    half = problem.u.bfloat16()
    y, state = run(problem._replace(u=half), kernel="kb", order=3)
    expected, _ = run(problem._replace(u=half.float()), kernel="kb", order=3)
    assert y.dtype == torch.bfloat16 and state.x.dtype == torch.complex64
    assert torch.equal(y, expected.bfloat16())


# ------------------------------------------------------------------------------------------------------ edges


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("u", lambda p, s: (p._replace(u=p.u[0]), s)),
        ("A", lambda p, s: (p._replace(A=p.A.real), s)),
        ("B", lambda p, s: (p._replace(B=p.B[:, :2]), s)),
        ("C", lambda p, s: (p._replace(C=p.C[0]), s)),
        ("step", lambda p, s: (p._replace(step=p.step.float()), s)),
        ("dt", lambda p, s: (p._replace(dt=p.dt[:, 1:]), s)),
        ("D", lambda p, s: (p._replace(D=p.D[0]), s)),
        ("state.x", lambda p, s: (p, s._replace(x=s.x[:, 0]))),
        ("state.x", lambda p, s: (p, s._replace(x=s.x.to(torch.complex64)))),
        ("state.history", lambda p, s: (p, s._replace(history=s.history[:, :1]))),
    ],
)
def test_wrong_argument_is_named(name: str, spoil: Callable[..., tuple[Problem, LiquidState]]) -> None:
    problem, state = make_liquid("kb", 3, gaps="few", state=True, both=True)
    with pytest.raises(ValueError, match=rf"^{name} must be .*; got "):
        run(*spoil(problem._replace(C_reverse=None), state), kernel="kb", order=3)
    low_rank = {"P": torch.zeros_like(problem.A)[None], "Q": torch.zeros_like(problem.A)[None]}
    p, s = spoil(problem._replace(C_reverse=None), state)
    renamed = "Lambda" if name == "A" else name
    with pytest.raises(ValueError, match=rf"^{renamed} must be .*; got "):
        liquid_dplr_scan(
            p.u, p.A, **low_rank, B=p.B, C=p.C, step=p.step, dt=p.dt, state=s, D=p.D, kernel="kb", order=3
        )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("method", {"method": "foh", "kernel": "kb", "order": 2}),
        ("method", {"method": "tustin", "kernel": "kb", "order": 2}),
        ("kernel", {"kernel": "full", "order": 2}),
        ("order", {"kernel": "kb", "order": 1}),
        ("order", {"kernel": "exact", "order": None}),
        ("order", {"kernel": "pb", "order": 2.0}),
        ("order", {"kernel": "pb", "order": True}),
    ],
)
def test_wrong_option_is_named(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be .*got"):
        run(make_problem(), **options)
