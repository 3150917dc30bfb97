"""The forms of Liquid-S4: compiled kernels against the reference, and as operators of PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import pytest
import torch
from liquid_systems import FORMS, KERNELS, METHODS, make_liquid, results, run
from scans import BOTH_DTYPES
from systems import GAPS, assert_close, by_reference
from torch import Tensor

from tsssm.discretize import discretize_diagonal
from tsssm.ops import LiquidState
from tsssm.ops.autograd import liquid as compiled
from tsssm.ops.bounds import liquid_bound
from tsssm.ops.cpu import gaps as gaps_of_a_call
from tsssm.ops.cpu import liquid as cpu


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
    by_transform = options["method"] != "zoh"
    if form[0] == "exact" and by_transform and sizes["gaps"] == "tiny" and dtype == torch.float32:
        # |Abar + w| is 1 within rounding here, on the kink of the projection: which of its two one-sided
        # derivatives is taken is a matter of the last bit.
        for name in ("u", "A", "B", "step"):
            del found[f"gradient of {name}"], expected[f"gradient of {name}"]
    assert_close(found, expected, dtype)


@BOTH_DTYPES
@pytest.mark.parametrize("gaps", ["regular", "few", "distinct"])
@pytest.mark.parametrize("method", ["zoh", "bilinear"])
@pytest.mark.parametrize("size", [0.01, 3.0], ids=["within the bound", "far beyond"])
def test_the_bounds_of_the_chain(size: float, method: str, gaps: str, dtype: torch.dtype) -> None:
    """Inputs that none or most modes clip; by the transform the disc is left as well."""
    problem, state = make_liquid(
        "exact", 3, length=40, channels=17, readouts=2, gaps=gaps, state=True, both=True, seed=2
    )
    bound = liquid_bound(problem.A, problem.B)
    # Long steps: by the transform, a slow mode stays in the disc.
    problem = problem._replace(u=size * problem.u, step=5 * problem.step)
    s = problem.step if problem.dt is None else problem.dt[..., None] * problem.step
    A_bar, B_bar, _ = discretize_diagonal(problem.A, problem.B, s[..., None], method)
    clipped = problem.u[..., None].clamp(-bound, bound)
    fraction = (problem.u[..., None] != clipped).double().mean()
    assert fraction > 0.7 if size > 1 else fraction == 0
    if size > 1 and method != "zoh":
        assert ((A_bar + B_bar * clipped).abs() > 1.001).sum() > 20
    problem = problem._replace(state=None).to(dtype)
    start = LiquidState(*(part.to(problem.A.dtype) for part in state))
    found = results(problem, start, kernel="exact", order=3, method=method)
    with by_reference():
        start = LiquidState(*(part.to(torch.complex128) for part in start))
        expected = results(problem.to(torch.float64), start, kernel="exact", order=3, method=method)
    assert_close(found, expected, dtype)


@pytest.mark.parametrize("bursts", [False, True], ids=["distinct", "bursts"])
@pytest.mark.parametrize("form", [(kernel, 3) for kernel in KERNELS])
def test_coefficients_from_nodes(form: tuple[str, int], bursts: bool) -> None:
    """Zero-order hold in float32, with enough samples for a table; some channels do without."""
    problem, state = make_liquid(
        *form, batch=4, length=65, channels=17, modes=5, gaps="distinct", state=True, both=True, readouts=2
    )
    problem = problem._replace(state=None).to(torch.float32)
    if bursts:
        problem = problem._replace(dt=torch.where(problem.dt < 3, 1e-4 * problem.dt, problem.dt))
    # The first block has a channel that is slow throughout, the other one that a node does not reach.
    problem.step[0], problem.step[16] = 1e-5, 3000.0
    shared, _, _ = gaps_of_a_call.distinct_gaps(problem.u, problem.dt[None], 5)
    assert 0 < gaps_of_a_call.extent(problem.u, problem.dt[None], shared, "zoh")[0] < torch.inf
    options = dict(zip(("kernel", "order"), form, strict=True))
    found = results(problem, LiquidState(*(part.to(torch.complex64) for part in state)), **options)
    with by_reference():
        rounded = LiquidState(*(part.to(torch.complex64).to(torch.complex128) for part in state))
        expected = results(problem.to(torch.float64), rounded, **options)
    assert_close(found, expected, torch.float32)


# ------------------------------------------------------------------------------------ ways to run and to call


def test_shared_rows_equal_rows_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, state = make_liquid("kb", 3, batch=3, length=40, channels=9, gaps="few", state=True, readouts=2)
    shared = results(problem, state, kernel="kb", order=3)
    monkeypatch.setattr(gaps_of_a_call, "MAX_SHARED_ROWS", 0)
    assert_close(results(problem, state, kernel="kb", order=3), shared, torch.float64)


@pytest.mark.parametrize("channels", [3, 20], ids=["cut by series", "cut by blocks"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_threads_change_nothing(threads: Callable[[int], None], channels: int, kernel: str) -> None:
    problem, state = make_liquid(
        kernel, 3, batch=5, length=35, channels=channels, gaps="distinct", state=True, both=True
    )
    threads(1)
    alone = results(problem, state, kernel=kernel, order=3)
    threads(3)
    together = results(problem, state, kernel=kernel, order=3)
    assert torch.equal(together["y"], alone["y"]) and torch.equal(together["state.x"], alone["state.x"])
    assert_close(together, alone, torch.float64)  # gradients are summed in another order


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


# ------------------------------------------------------------------------ what PyTorch expects of an operator


def operator_arguments(kernel: str, both: bool, save: bool) -> list[Any]:
    p, state = make_liquid(kernel, 3, length=34, readouts=2, gaps="few", state=True, both=True)
    C = torch.stack([p.C, p.C_reverse])[: 1 + both]
    bound = liquid_bound(p.A, p.B)
    leaves = [t.detach().requires_grad_(save) for t in (p.u, p.A, p.B, C, p.D, p.step, bound)]
    D, bound = leaves[4] if both else None, leaves[6] if kernel == "exact" else None
    dt = torch.stack([p.dt, p.dt])[: 1 + both]
    start = torch.cat(state, dim=1).transpose(0, 1).contiguous()
    return [*leaves[:4], D, leaves[5], dt, bound, start, kernel, 3, "zoh", 0.0, False, save]


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
