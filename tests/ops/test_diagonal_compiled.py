"""The diagonal scan: the compiled kernels against the reference, and as an operator of PyTorch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scans import BOTH_DTYPES
from systems import (
    GAPS,
    RULES,
    TOLERANCE,
    Problem,
    assert_close,
    by_reference,
    make_problem,
    results,
    weighted_sum,
)
from torch import Tensor

from tsssm.ops import ScanState, diagonal_scan
from tsssm.ops.autograd import diagonal as compiled
from tsssm.ops.cpu import diagonal as cpu
from tsssm.ops.cpu import gaps as gaps_of_a_call
from tsssm.ops.cpu import layout
from tsssm.ops.cpu.diagonal import scan


def covering_set() -> Iterator[Any]:
    """Every rule with every kind of gaps; the sizes and the rest take turns.

    Lengths stand around the chunk of 32 samples, channels around the registers of 8 (float64) and 16.
    """
    cases = [(*rule, gaps) for rule in RULES for gaps in GAPS]
    for i, (method, liquid, gaps) in enumerate(cases, start=1):
        sizes = {
            "batch": (1, 3)[i % 2],
            "length": (1, 31, 32, 33, 97)[i % 5],
            "channels": (1, 5, 16, 17, 40)[(i + i // 5) % 5],
            "readouts": 1 + i % 3,
            "state": i // 2 % 2 == 0,
            "both": i // 4 % 2 == 0,
        }
        options = {"method": method, "liquid": liquid, "reverse": i // 3 % 2 == 1}
        name = "-".join([str(method), *["liquid"] * liquid, gaps, *map(str, sizes.values())])
        yield pytest.param(sizes | {"gaps": gaps, "seed": i}, options, id=name)


@BOTH_DTYPES
@pytest.mark.parametrize(("sizes", "options"), list(covering_set()))
def test_compiled_equals_reference(
    sizes: dict[str, Any], options: dict[str, Any], dtype: torch.dtype
) -> None:
    problem = make_problem(**sizes, dtype=dtype)
    found = results(problem, **options)
    # In either precision the truth is the specification in float64, at the same rounded arguments.
    with by_reference():
        expected = results(problem.to(torch.float64), **options)
    projected = options["liquid"] and options["method"] != "zoh"
    if projected and sizes["gaps"] == "tiny" and dtype == torch.float32:
        # |Abar + Bbar u| is 1 within rounding here, on the kink of the projection to the disc: which of its
        # two one-sided derivatives is taken is a matter of the last bit.
        for name in ("A", "B", "step"):
            del found[f"gradient of {name}"], expected[f"gradient of {name}"]
    assert_close(found, expected, dtype)


@BOTH_DTYPES
@pytest.mark.parametrize("gaps", [*(kind for kind in GAPS if kind != "regular"), "heavy-tailed", "bursts"])
@pytest.mark.parametrize("method", ["zoh", "bilinear", 0.3])
def test_plain_scan_equals_reference(method: str | float, gaps: str, dtype: torch.dtype) -> None:
    """One readout from rest, which most calls are; enough samples for a table of nodes."""
    problem = make_problem(
        batch=4,
        length=65,
        channels=17,
        modes=5,
        gaps="distinct" if gaps in ("heavy-tailed", "bursts") else gaps,
        both=method != 0.3,
        dtype=dtype,
        seed=11,
    )
    if gaps == "heavy-tailed":
        problem = problem._replace(dt=1e-4 * 10 ** (2 * problem.dt))  # from 2e-4 to 3e2
    if gaps == "bursts":
        problem = problem._replace(dt=torch.where(problem.dt < 3, 1e-4 * problem.dt, problem.dt))
    # One channel slow throughout, one with eigenvalues that a node does not reach.
    problem.step[0], problem.step[1] = 1e-5, 3.0 if method == "zoh" else 0.1
    found = results(problem, method=method)
    with by_reference():
        expected = results(problem.to(torch.float64), method=method)
    assert_close(found, expected, dtype)
    for name, value in expected.items():
        # Channel by channel too, so that a slow one does not hide behind a fast one.
        if name in ("gradient of A", "gradient of B", "gradient of step"):
            error = (found[name].to(value.dtype) - value).abs().reshape(17, -1).amax(1)
            allowed = 10 * TOLERANCE[dtype]["gradient"] * value.abs().reshape(17, -1).amax(1)
            assert (error <= allowed).all(), name


@BOTH_DTYPES
@pytest.mark.parametrize("gaps", ["regular", "constant", "few", "padded", "distinct"])
@pytest.mark.parametrize("size", [0.1, 3.0], ids=["within the bound", "beyond it"])
@pytest.mark.parametrize("modes", [1, 4, 6, pytest.param(7, marks=pytest.mark.slow)])
def test_plain_liquid_scan_equals_reference(modes: int, size: float, gaps: str, dtype: torch.dtype) -> None:
    """One readout from rest by zero-order hold: modes are run four and two at a time, the last ones alone."""
    problem = make_problem(
        batch=3, length=97, channels=17, modes=modes, gaps=gaps, both=modes > 4, dtype=dtype, seed=13
    )
    problem = problem._replace(u=size * problem.u)
    # One channel slow throughout, one that forgets at once.
    problem.step[0], problem.step[1] = 1e-5, 3.0
    found = results(problem, liquid=True)
    with by_reference():
        expected = results(problem.to(torch.float64), liquid=True)
    assert_close(found, expected, dtype)
    for name in ("gradient of A", "gradient of B", "gradient of step"):
        # Channel by channel too, so that a slow one does not hide behind a fast one.
        value = expected[name]
        error = (found[name].to(value.dtype) - value).abs().reshape(17, -1).amax(1)
        allowed = 10 * TOLERANCE[dtype]["gradient"] * value.abs().reshape(17, -1).amax(1)
        assert (error <= allowed).all(), name


@pytest.mark.parametrize("liquid", [False, True])
def test_coefficients_from_nodes(liquid: bool) -> None:
    """Several readouts and a state, by zero-order hold in float32 with enough samples for a table."""
    problem = make_problem(
        batch=4,
        length=65,
        channels=17,
        modes=5,
        gaps="distinct",
        readouts=2,
        state=True,
        both=True,
        dtype=torch.float32,
        seed=12,
    )
    # The first block has a channel that is slow throughout, the other one that a node does not reach.
    problem.step[0], problem.step[16] = 1e-5, 3000.0
    shared, _, each = gaps_of_a_call.distinct_gaps(problem.u, problem.dt[None], 5)
    assert gaps_of_a_call.extent(problem.u, problem.dt[None], shared, "zoh")[0] == each.max()
    found = results(problem, liquid=liquid)
    with by_reference():
        expected = results(problem.to(torch.float64), liquid=liquid)
    assert_close(found, expected, torch.float32)


@BOTH_DTYPES
@pytest.mark.parametrize(("method", "liquid"), RULES)
def test_integrator(method: str | float, liquid: bool, dtype: torch.dtype) -> None:
    """A = 0, and eigenvalues whose square underflows; the gradient of A included."""
    problem = make_problem(length=35, modes=4, gaps="few", seed=5, dtype=dtype)
    problem.A[:] = torch.tensor([0, -1e-30, 1e-25j, -1e-15])
    found = results(problem, method=method, liquid=liquid)
    with by_reference():
        expected = results(problem.to(torch.float64), method=method, liquid=liquid)
    assert_close(found, expected, dtype)


# ------------------------------------------------------------------------------------ ways to run and to call


def test_shared_rows_equal_rows_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = make_problem(batch=3, length=40, channels=9, gaps="few", readouts=2, both=True)
    assert gaps_of_a_call.distinct_gaps(problem.u, problem.dt[None], 3)[0].size == 3
    shared = results(problem, method="foh")
    monkeypatch.setattr(gaps_of_a_call, "MAX_SHARED_ROWS", 0)
    assert gaps_of_a_call.distinct_gaps(problem.u, problem.dt[None], 3)[0].size == 0
    assert_close(results(problem, method="foh"), shared, torch.float64)


@pytest.mark.parametrize("channels", [3, 20], ids=["cut by series", "cut by blocks"])
@pytest.mark.parametrize("gaps", ["regular", "few", "distinct"])
def test_threads_change_nothing(threads: Callable[[int], None], channels: int, gaps: str) -> None:
    problem = make_problem(
        batch=5, length=35, channels=channels, readouts=2, gaps=gaps, state=True, both=True
    )
    threads(1)
    alone = results(problem)
    for count in (2, 3, 8):
        threads(count)
        cut = layout.ranges(problem.u, 10**9)
        assert len(cut.blocks) * len(cut.series) > 1
        together = results(problem)
        assert torch.equal(together["y"], alone["y"])
        assert torch.equal(together["state.x"], alone["state.x"])
        assert_close(together, alone, torch.float64)  # gradients are summed in another order


def oddly_laid_out(p: Problem) -> Problem:
    """The same numbers with other strides and as views that are conjugated or negated only when read."""

    def turned(t: Tensor) -> Tensor:
        return t.transpose(0, -1).contiguous().transpose(0, -1)

    def conjugated(t: Tensor) -> Tensor:
        return t.conj().resolve_conj().conj()

    state = ScanState(conjugated(p.state.x), torch.complex(p.state.u, -p.state.u).conj().imag)
    return p._replace(
        u=turned(p.u),
        A=conjugated(p.A),
        B=turned(conjugated(p.B)),
        C=turned(p.C),
        step=torch.stack([p.step, p.step], dim=1)[:, 0],
        dt=turned(p.dt),
        state=state,
        D=turned(p.D),
        C_reverse=conjugated(p.C_reverse),
    )


def test_memory_layout_does_not_matter() -> None:
    problem = make_problem(batch=3, length=34, channels=17, readouts=2, gaps="few", state=True, both=True)
    leaves = {name: t.clone().requires_grad_() for name, t in problem.differentiable().items()}
    odd = oddly_laid_out(problem.with_operands(leaves))
    assert odd.A.is_conj() and odd.state.u.is_neg() and not odd.u.is_contiguous()
    y, state = odd.run(method="foh")
    gradients = torch.autograd.grad(weighted_sum(y, *state), list(leaves.values()))
    found = {"y": y.detach(), "state.x": state.x.detach(), "state.u": state.u.detach()}
    found |= {f"gradient of {name}": g for name, g in zip(leaves, gradients, strict=True)}
    assert_close(found, results(problem, method="foh"), torch.float64)


def test_expanded_operands() -> None:
    problem = make_problem(batch=3, length=34, readouts=2, gaps="few")
    u, C, dt = problem.u[:1].expand(3, -1, -1), problem.C[:1].expand(2, -1, -1), problem.dt[:1].expand(3, -1)
    y, _ = problem._replace(u=u, C=C, dt=dt).run()
    copies, _ = problem._replace(u=u.contiguous(), C=C.contiguous(), dt=dt.contiguous()).run()
    assert torch.equal(y, copies) and torch.equal(y, y[:1, :1].expand(3, 2, -1, -1))


@pytest.mark.parametrize("method", ["zoh", "foh"])
def test_gradient_of_one_operand_alone(method: str) -> None:
    problem = make_problem(length=34, gaps="few", readouts=2, state=True, both=True)
    together = results(problem, method=method)
    for name in problem.differentiable():
        alone = results(problem, only=name, method=method)
        assert_close(alone, {key: together[key] for key in alone}, torch.float64)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_without_gradients(context: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    problem = make_problem(length=70, state=True)
    expected, _ = problem.run()
    problem.A.requires_grad_()
    kept: list[int] = []
    run = cpu.diagonal_scan

    def watched(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
        out = run(*args)
        kept.append(out[2].numel())
        return out

    monkeypatch.setattr(cpu, "diagonal_scan", watched)
    with context():
        y, state = problem.run()
    assert torch.equal(y, expected)
    assert not y.requires_grad and not state.x.requires_grad
    assert kept == [0], "no states are kept for a gradient that cannot be asked for"


def test_second_derivative_is_refused() -> None:
    problem = make_problem()
    u = problem.u.requires_grad_()
    y, _ = problem.run()
    (first,) = torch.autograd.grad(y.square().sum(), u, create_graph=True)
    with pytest.raises(RuntimeError, match="twice"):
        first.square().sum().backward()


def test_negative_view_of_one_number() -> None:
    """A view of one number is contiguous whatever its strides, so that nothing else resolves it."""
    u = torch.complex(torch.ones(1, 1, 1), torch.ones(1, 1, 1)).conj().imag
    assert u.is_neg() and u.is_contiguous()
    problem = make_problem(batch=1, length=1, channels=1, dtype=torch.float32)
    y, _ = problem._replace(u=u).run()
    assert torch.equal(y, problem._replace(u=torch.full((1, 1, 1), -1.0)).run()[0])


def test_a_batch_of_none_is_none() -> None:
    problem = make_problem()
    y, state = problem._replace(u=problem.u[:0]).run()
    assert y.shape == (0, 1, 11, 3) and state.x.shape == (0, 3, 3)


# ------------------------------------------------------------------------ what PyTorch expects of an operator


def operator_arguments(directions: int, save: bool) -> list[Any]:
    """Those of one direction with a liquid hold, or of two with first-order hold and D; u is strided."""
    p = make_problem(length=34, channels=3, readouts=2, gaps="few", state=True, both=True)
    u = p.u.transpose(0, 1).contiguous().transpose(0, 1)
    C, dt = torch.stack([p.C, p.C_reverse])[:directions], torch.stack([p.dt, p.dt])[:directions]
    leaves = [t.requires_grad_(save) for t in (u, p.A, p.B, C, p.D, p.step)]
    options = ("zoh" if directions == 1 else "foh", 0.0, False, save)
    bound = torch.full((3, 3), 0.5, dtype=u.dtype, requires_grad=save) if directions == 1 else None
    u_prev = torch.stack([p.u.detach()] * 2) if directions == 2 else None
    D = leaves[4] if directions == 2 else None
    return [leaves[0], u_prev, *leaves[1:4], D, leaves[5], dt, bound, p.state.x, *options]


@pytest.mark.parametrize("directions", [1, 2])
def test_operator_is_well_formed(directions: int) -> None:
    for save in (True, False):
        torch.library.opcheck(compiled.diagonal_scan, operator_arguments(directions, save))


@pytest.mark.parametrize("directions", [1, 2])
def test_adjoint_is_well_formed(directions: int) -> None:
    args = [t.detach() if isinstance(t, Tensor) else t for t in operator_arguments(directions, True)]
    y, x, saved = compiled.diagonal_scan(*args)
    *operands, _, rule, alpha, reverse, _ = args
    at_rest = False
    torch.library.opcheck(
        compiled._diagonal_scan_adjoint,
        [torch.ones_like(y), torch.ones_like(x), saved, *operands, rule, alpha, reverse, at_rest],
    )


@pytest.mark.parametrize("gaps", ["regular", "padded"])
def test_compile(gaps: str) -> None:
    problem = make_problem(length=34, gaps=gaps, state=True, readouts=2, both=True)

    def run(*operands: Any) -> Any:
        u, A, B, C, step, dt, state, D, C_reverse = operands
        return diagonal_scan(u, A, B, torch.stack([C, C_reverse]), step, dt, state, D=D, method="foh")

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    operands = {name: t.clone().requires_grad_() for name, t in problem.differentiable().items()}
    y, state = compiled(*problem.with_operands(operands))
    gradients = torch.autograd.grad(weighted_sum(y, *state), list(operands.values()))
    expected = results(problem, method="foh")
    assert torch.equal(y.detach(), expected["y"])
    for name, gradient in zip(operands, gradients, strict=True):
        torch.testing.assert_close(gradient, expected[f"gradient of {name}"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", ["plain", "own gaps", "slow", "state", "foh", "liquid", "two readouts"])
def test_a_call_compiles_what_it_needs(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    taken: list[dict[str, Any]] = []
    names = inspect.signature(scan.forward_pass.py_func)
    run = SimpleNamespace(by=lambda key: lambda *args: taken.append(names.bind(*args).arguments))
    monkeypatch.setattr(scan, "forward_pass", run)
    u, step = torch.zeros(2, 40, 3), torch.full((3,), 0.1)
    A, readouts = torch.full((3, 4), -1 + 1j), 2 if case == "two readouts" else 1
    if case == "slow":
        A[1, 2] = 1e-4j  # over 40 samples less than is_slow allows
    C = torch.ones(1, readouts, 3, 4, dtype=A.dtype)
    dt = torch.rand(1, 2, 40) if case == "own gaps" else None
    v, x0 = torch.zeros(1, 2, 40, 3) if case == "foh" else None, A[None] * 0 if case == "state" else None
    bound = torch.ones(3, 4) if case == "liquid" else None
    x0 = None if x0 is None else x0.expand(2, 3, 4)
    rule = "foh" if case == "foh" else "zoh"
    cpu.diagonal_scan(u, v, A, A, C, None, step, dt, bound, x0, rule, 0.0, False, False)
    (call,) = taken
    own, form = call["dt"], call["form"]
    assert (own is not None) == (call["times"].gaps.size == 0) == (case == "own gaps")
    assert (call["operands"].bound == (0, (0, 0))) == (case != "liquid")
    by_modes = {"state": None, "foh": None, "two readouts": None, "liquid": "AsDriven"}.get(case, "AsPlain")
    assert (form.modes and type(form.modes).__name__) == by_modes
    assert (form.rows is not None) == (case in ("slow", "state", "foh", "two readouts"))
