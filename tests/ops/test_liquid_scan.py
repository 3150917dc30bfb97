"""The forms of Liquid-S4 against the formulas of the paper as loops, and compiled against the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from systems import GAPS, Problem, assert_close, by_reference, make_problem, weighted_sum
from torch import Tensor
from torch.autograd import gradcheck

from tsssm.discretize import discretize_diagonal
from tsssm.hippo import conjugate_half, nplr
from tsssm.ops import LiquidState, diagonal_scan, liquid_dplr_scan, liquid_scan
from tsssm.ops.autograd import liquid as compiled
from tsssm.ops.cpu import layout
from tsssm.ops.cpu import liquid as cpu

KERNELS = ("exact", "kb", "pb")
FORMS = [(kernel, order) for kernel in KERNELS for order in (2, 3, 6)]
METHODS = ("zoh", "bilinear", 0.7)
BOTH_DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


def make_liquid(kernel: str, order: int, *, state: bool = False, **sizes: Any) -> tuple[Problem, Any]:
    """A problem in which the bounds are active at some of the samples, and a state to start from."""
    problem = make_problem(**sizes)
    problem = problem._replace(B=2 * problem.B)
    if not state:
        return problem, None
    random = torch.Generator().manual_seed(3)
    chain = order if kernel == "exact" else 1
    shapes = [(len(problem.u), count, *problem.A.shape) for count in (chain, order - chain)]
    parts = [0.5 * torch.randn(*shape, generator=random, dtype=torch.complex128) for shape in shapes]
    return problem, LiquidState(*(part.to(problem.A.dtype) for part in parts))


def run(problem: Problem, state: LiquidState | None = None, **options: Any) -> tuple[Tensor, LiquidState]:
    C = problem.C if problem.C_reverse is None else torch.stack([problem.C, problem.C_reverse])
    return liquid_scan(*problem[:3], C, *problem[4:6], state, D=problem.D, **options)


def leaves_of(problem: Problem, state: LiquidState | None) -> dict[str, Tensor]:
    """Copies of what has a gradient, by name."""
    named = problem.differentiable() | ({} if state is None else {"x": state.x, "history": state.history})
    return {name: t.detach().clone().requires_grad_() for name, t in named.items()}


def with_leaves(
    problem: Problem, state: LiquidState | None, leaves: dict[str, Tensor]
) -> tuple[Problem, LiquidState | None]:
    leaves = dict(leaves)
    if state is not None:
        state = LiquidState(leaves.pop("x"), leaves.pop("history"))
    return problem.with_operands(leaves), state


def results(problem: Problem, state: LiquidState | None, **options: Any) -> dict[str, Tensor]:
    """Outputs, final state and the gradients of a weighted sum of them."""
    leaves = leaves_of(problem, state)
    y, end = run(*with_leaves(problem, state, leaves), **options)
    total = weighted_sum(y, *end)
    gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True)
    named = {"y": y, "state.x": end.x, "state.history": end.history}
    named |= {f"gradient of {name}": g for name, g in zip(leaves, gradients, strict=True)}
    return {name: value.detach() for name, value in named.items() if value.numel()}


# ------------------------------------------------------------------------------------- the paper's formulas


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
    expected, _ = diagonal_scan(*problem[:3], C, *problem[4:6], D=problem.D, method=method, liquid=True)
    errors = [
        (run(problem, kernel="exact", order=order, method=method)[0] - expected).abs().max().item()
        for order in (2, 4, 6, 8, 12)
    ]
    assert errors[-2] < 0.3 * errors[0] or gaps == "tiny"  # where the first is rounding already
    assert errors[-1] <= 1e-12 * expected.abs().max().item()


# ----------------------------------------------------------------- the compiled kernels and the reference


def covering_set() -> Iterator[Any]:
    """Every form with every kind of gaps; sizes, methods and the rest take turns."""
    lengths, channels = cycle([1, 31, 32, 33, 65]), cycle([1, 3, 16, 17])
    for i, (form, gaps) in enumerate((form, gaps) for form in FORMS for gaps in GAPS):
        both = i // 2 % 2 == 1
        sizes = {
            "batch": 1 + i % 2,
            "length": next(lengths),
            "channels": next(channels),
            "readouts": 1 + i // 3 % 2,
            "state": i % 3 != 0,
            "both": both,
            "gaps": gaps,
            "seed": i,
        }
        options = {"method": METHODS[i % 3], "reverse": i // 4 % 2 == 1}
        name = "-".join(map(str, [*form, *options.values(), *sizes.values()]))
        yield pytest.param(form, sizes, options, id=name)


@BOTH_DTYPES
@pytest.mark.parametrize(("form", "sizes", "options"), list(covering_set()))
def test_compiled_equals_reference(
    form: tuple[str, int], sizes: dict[str, Any], options: dict[str, Any], dtype: torch.dtype
) -> None:
    options = options | dict(zip(("kernel", "order"), form, strict=True))
    problem, state = make_liquid(*form, **sizes)
    problem = problem._replace(state=None).to(dtype)
    if state is not None:
        state = LiquidState(*(part.to(problem.A.dtype) for part in state))
    found = results(problem, state, **options)
    if state is not None:
        state = LiquidState(*(part.to(torch.complex128) for part in state))
    # In either precision the truth is the specification in float64, at the same rounded arguments.
    with by_reference():
        expected = results(problem.to(torch.float64), state, **options)
    if form[0] == "exact" and sizes["gaps"] == "tiny" and dtype == torch.float32:
        # |Abar + w| is 1 within rounding here, on the kink of the bound: which of its two one-sided
        # derivatives is taken is a matter of the last bit.
        for name in ("u", "A", "B", "step"):
            del found[f"gradient of {name}"], expected[f"gradient of {name}"]
    assert_close(found, expected, dtype)


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


# ---------------------------------------------------------------------------------- what every form promises


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
    assert not torch.isclose(z[:, :, after], y[:, :, after]).any()


# ----------------------------------------------------------------------------------- a diagonal plus low rank


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
    problem, _ = make_liquid("exact", 2, modes=1, gaps="distinct")
    P = torch.zeros_like(problem.A)[None]
    y, _ = liquid_dplr_scan(problem.u, problem.A, P, P, *problem[2:6], kernel="exact")
    expected, _ = diagonal_scan(*problem[:6], method="bilinear", liquid=True)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)


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


# ----------------------------------------------------------------------------------- ways to run and to call


def test_shared_rows_equal_rows_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    from tsssm.ops.cpu.diagonal import scan

    problem, state = make_liquid("kb", 3, batch=3, length=40, channels=9, gaps="few", state=True, readouts=2)
    shared = results(problem, state, kernel="kb", order=3)
    monkeypatch.setattr(scan, "_MAX_SHARED_ROWS", 0)
    assert_close(results(problem, state, kernel="kb", order=3), shared, torch.float64)


@pytest.mark.parametrize("channels", [3, 20], ids=["cut by series", "cut by blocks"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch, channels: int, kernel: str) -> None:
    monkeypatch.setattr(layout, "_MIN_WORK_PER_THREAD", 1)
    problem, state = make_liquid(
        kernel, 3, batch=5, length=35, channels=channels, gaps="distinct", state=True, both=True
    )
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = results(problem, state, kernel=kernel, order=3)
        torch.set_num_threads(3)
        together = results(problem, state, kernel=kernel, order=3)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(together["y"], alone["y"]) and torch.equal(together["state.x"], alone["state.x"])
    assert_close(together, alone, torch.float64)  # gradients are summed in another order


def test_half_precision_input_is_computed_in_float32() -> None:
    problem, _ = make_liquid("kb", 3, length=35, gaps="few", dtype=torch.float32)
    half = problem.u.bfloat16()
    y, state = run(problem._replace(u=half), kernel="kb", order=3)
    expected, _ = run(problem._replace(u=half.float()), kernel="kb", order=3)
    assert y.dtype == torch.bfloat16 and state.x.dtype == torch.complex64
    assert torch.equal(y, expected.bfloat16())


def test_memory_layout_does_not_matter() -> None:
    problem, state = make_liquid("pb", 4, batch=3, length=34, channels=17, gaps="few", state=True, both=True)
    expected = results(problem, state, kernel="pb", order=4)

    def turned(t: Tensor) -> Tensor:
        t = t.transpose(0, -1).contiguous().transpose(0, -1)
        return t.conj().resolve_conj().conj() if t.is_complex() else t

    odd = problem.with_operands({name: turned(t) for name, t in problem.differentiable().items()})
    y, end = run(odd._replace(dt=turned(odd.dt)), LiquidState(*map(turned, state)), kernel="pb", order=4)
    assert torch.equal(y, expected["y"]) and torch.equal(end.x, expected["state.x"])


def test_nothing_is_kept_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, _ = make_liquid("exact", 3, length=70)
    expected, _ = run(problem, kernel="exact", order=3)
    problem.A.requires_grad_()
    kept: list[int] = []
    scan = cpu.liquid_scan

    def watched(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
        out = scan(*args)
        kept.append(out[2].numel())
        return out

    monkeypatch.setattr(cpu, "liquid_scan", watched)
    with torch.no_grad():
        y, _ = run(problem, kernel="exact", order=3)
    assert torch.equal(y, expected) and kept == [0]


def test_second_derivative_is_refused() -> None:
    problem, _ = make_liquid("kb", 2)
    u = problem.u.requires_grad_()
    y, _ = run(problem, kernel="kb", order=2)
    (first,) = torch.autograd.grad(y.square().sum(), u, create_graph=True)
    with pytest.raises(RuntimeError, match="twice"):
        first.square().sum().backward()


def test_a_batch_of_none_is_none() -> None:
    problem, _ = make_liquid("kb", 3)
    y, state = run(problem._replace(u=problem.u[:0]), kernel="kb", order=3)
    assert y.shape == (0, 1, 11, 3) and state.history.shape == (0, 2, 3, 3)


# ---------------------------------------------------------------------- what PyTorch expects of an operator


def operator_arguments(kernel: str, both: bool, save: bool) -> list[Any]:
    p, state = make_liquid(kernel, 3, length=34, readouts=2, gaps="few", state=True, both=True)
    C = torch.stack([p.C, p.C_reverse])[: 1 + both]
    leaves = [t.detach().requires_grad_(save) for t in (p.u, p.A, p.B, C, p.D, p.step)]
    D = leaves[4] if both else None
    dt = torch.stack([p.dt, p.dt])[: 1 + both]
    start = torch.cat(state, dim=1).transpose(0, 1).contiguous()
    return [*leaves[:4], D, leaves[5], dt, start, kernel, 3, "zoh", 0.0, False, save]


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
def test_operator_is_well_formed(kernel: str, both: bool) -> None:
    for save in (True, False):
        torch.library.opcheck(compiled.liquid_scan, operator_arguments(kernel, both, save))
    args = [t.detach() if isinstance(t, Tensor) else t for t in operator_arguments(kernel, both, True)]
    y, x, saved = compiled.liquid_scan(*args)
    *operands, _, kernel, _, rule, alpha, reverse, _ = args
    upstream = [torch.ones_like(y), torch.ones_like(x), saved]
    torch.library.opcheck(compiled._liquid_scan_adjoint, [*upstream, *operands, kernel, rule, alpha, reverse])


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
