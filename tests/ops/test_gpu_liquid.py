"""The Triton kernels of the scan of Liquid-S4, interpreted, against the reference in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from interpreted import lanes, on_kernels
from interpreted import liquid_kernels as kernels
from interpreted import liquid_scan as scan
from liquid_systems import KERNELS, make_liquid, results, run
from systems import Problem, assert_close, by_reference, weighted_sum
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from tsssm.discretize import discretize_diagonal, gbt_alpha
from tsssm.ops import LiquidState, operands, reference
from tsssm.ops.autograd.liquid import _liquid_scan_adjoint as adjoint
from tsssm.ops.autograd.liquid import liquid_scan as operator
from tsssm.ops.bounds import bounded_input, liquid_bound
from tsssm.ops.liquid import liquid_state_shape

pytestmark = pytest.mark.triton

FORMS = [("exact", 2), ("kb", 2), ("pb", 3), ("exact", 3), ("kb", 4), ("pb", 2)]


def to_dtype(state: LiquidState | None, dtype: torch.dtype) -> LiquidState | None:
    return None if state is None else LiquidState(*(part.to(dtype.to_complex()) for part in state))


def check(problem: Problem, state: LiquidState | None, **options: Any) -> None:
    """Outputs, states and gradients against the specification at the same rounded arguments."""
    problem, state = problem._replace(state=None).to(torch.float32), to_dtype(state, torch.float32)
    with on_kernels():
        found = results(problem, state, **options)
    with by_reference():
        expected = results(problem.to(torch.float64), to_dtype(state, torch.float64), **options)
    assert_close(found, expected, torch.float32)


def covering_set() -> Iterator[Any]:
    """Every form, whose gaps, sizes and options take turns."""
    for i, (kernel, order) in enumerate(FORMS):
        sizes = {
            "batch": 1 + i % 2,
            "length": (9, 6, 5)[i % 3],
            "channels": 33 if i == 1 else 3,
            "modes": (2, 1, 1, 1)[i % 4],
            "readouts": 1 + i // 2 % 2,
            "gaps": ("regular", "distinct", "gap of zero", "padded", "regular")[i % 5],
            "state": i % 3 != 1,
            "both": i % 3 == 2,
            "seed": i,
        }
        options = {"kernel": kernel, "order": order, "method": ("zoh", "bilinear", 0.7)[i % 3]}
        options["reverse"] = i // 2 % 2 == 1
        name = "-".join(map(str, [*options.values(), *sizes.values()]))
        yield pytest.param(sizes, options, id=name)


@pytest.mark.parametrize(("sizes", "options"), list(covering_set()))
def test_kernels_equal_reference(sizes: dict[str, Any], options: dict[str, Any]) -> None:
    problem, state = make_liquid(options["kernel"], options["order"], **sizes)
    check(problem, state, **options)


@pytest.mark.parametrize(
    ("method", "gaps", "reverse"),
    [
        ("zoh", "distinct", True),
        ("zoh", "padded", False),
        (0.3, "distinct", False),
        ("bilinear", "regular", True),
    ],
)
def test_inputs_within_and_far_beyond_the_bound_of_the_chain(
    method: str | float, gaps: str, reverse: bool
) -> None:
    """From a state and in both directions; with steps of which a transform projects some transitions."""
    sizes = {"length": 11, "channels": 2, "modes": 2, "gaps": gaps, "seed": 2}
    p, state = make_liquid("exact", 2, **sizes, state=True, both=True)
    p = p._replace(u=3 * p.u, step=2 * torch.ones(2, dtype=torch.float64))
    bound = liquid_bound(p.A, p.B)
    within = (p.u[..., None].abs() < bound).double().mean()
    assert 0.1 < within < 0.5
    gaps_of_one = torch.ones(11, dtype=torch.float64) if p.dt is None else p.dt[0]
    A_bar, B_bar, _ = discretize_diagonal(p.A, p.B, gaps_of_one[:, None, None] * p.step[:, None], method)
    longest = (A_bar + B_bar * bounded_input(p.u[0][..., None], bound)).abs().max()
    assert longest <= 1 if method == "zoh" else longest > 1.1
    check(p, state, kernel="exact", order=2, method=method, reverse=reverse)


@pytest.mark.parametrize("method", ["zoh", "bilinear"])
def test_gradient_of_the_bound(method: str) -> None:
    """Of the operator, for which it is an operand: of any size, and with a gradient of every mode."""
    p, _ = make_liquid("exact", 2, length=9, channels=2, modes=2, gaps="distinct", both=True)
    p = p.to(torch.float32)
    bound = torch.linspace(0.2, 1.2, p.A.numel()).reshape(p.A.shape)

    def gradients(scan: Any, dtype: torch.dtype, *options: Any) -> dict[str, Tensor]:
        q = p.to(dtype)
        limit = bound.to(dtype, copy=True).requires_grad_()
        C, dt = torch.stack([q.C, q.C_reverse]), torch.stack([q.dt, q.dt])
        y, x, *_ = scan(q.u.requires_grad_(), q.A, q.B, C, q.D, q.step, dt, limit, None, "exact", 2, *options)
        found = torch.autograd.grad(weighted_sum(y, x), [q.u, limit])
        return dict(zip(("gradient of u", "gradient of bound"), found, strict=True))

    alpha = gbt_alpha(method)
    with on_kernels():
        rule = "zoh" if alpha is None else "gbt"
        found = gradients(operator, torch.float32, rule, alpha or 0.0, False, True)
    expected = gradients(reference.liquid_scan, torch.float64, method, False)
    assert expected["gradient of bound"].abs().min() > 0
    assert_close(found, expected, torch.float32)


@pytest.mark.parametrize("kernel", KERNELS)
def test_an_input_of_one_chunk_counts_in_several_later_ones(kernel: str) -> None:
    """Chunks of no, one and three samples; the first ones look back on the state that was given."""
    problem, state = make_liquid(
        kernel, 4, batch=2, length=18, channels=2, modes=1, gaps="distinct", state=True
    )
    dt = problem.dt.clone()
    dt[0, [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 13]] = 0
    dt[1, 1:] = 0
    check(problem._replace(dt=dt), state, kernel=kernel, order=4)


@pytest.mark.parametrize("kernel", ["exact", "kb"])
def test_sizes_that_a_device_sees(kernel: str) -> None:
    """Samples between kept states, and groups of them, as the launches choose them."""
    problem, _ = make_liquid(kernel, 2, batch=1, length=35, channels=2, modes=1)
    problem = problem.to(torch.float32)
    with on_kernels(lanes.SAMPLES, scan._GROUP, 16):
        found = results(problem, None, kernel=kernel, order=2)
    with by_reference():
        expected = results(problem.to(torch.float64), None, kernel=kernel, order=2)
    assert_close(found, expected, torch.float32)


@pytest.mark.parametrize("kernel", KERNELS)
def test_large_inputs(kernel: str) -> None:
    """Where the bounds act at every sample."""
    problem, _ = make_liquid(kernel, 2, length=6, channels=2, modes=2, gaps="few", seed=7)
    problem = problem._replace(u=1e6 * torch.sign(problem.u)).to(torch.float32)
    with on_kernels():
        found = results(problem, None, kernel=kernel, order=2)
    with by_reference():
        exact = results(problem.to(torch.float64), None, kernel=kernel, order=2)
    assert all(value.isfinite().all() for value in found.values())
    names = ("y", "state.x")
    assert_close({name: found[name] for name in names}, {name: exact[name] for name in names}, torch.float32)


def test_numbers_of_previous_samples() -> None:
    """Against looking for them one by one."""
    random = torch.Generator().manual_seed(0)
    dt = (torch.rand(2, 3, 23, generator=random) < 0.4).float()
    dt[0, 0], dt[1, 2] = 0, 1
    found = scan.previous_samples(dt, [False, True], chunk=4, past=3)
    assert found.shape == (2, 3, 6, 3) and found.dtype == torch.int32
    for k, backwards in enumerate([False, True]):
        for b in range(3):
            gaps = dt[k, b].flip(0) if backwards else dt[k, b]
            for c in range(6):
                before = [i for i in reversed(range(4 * c)) if gaps[i] > 0]
                assert found[k, b, c].tolist() == [*before, -1, -2, -3][:3]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_that_of_the_input_and_the_output_alone(dtype: torch.dtype) -> None:
    problem, _ = make_liquid("kb", 3, batch=1, length=5, modes=1, gaps="distinct", dtype=torch.float32)
    rounded = problem.u.to(dtype)
    with on_kernels(), torch.no_grad():
        y, state = run(problem._replace(u=rounded), kernel="kb", order=3)
        exact, _ = run(problem._replace(u=rounded.float()), kernel="kb", order=3)
    assert y.dtype == dtype and state.x.dtype == torch.complex64 and torch.equal(y, exact.to(dtype))


def test_memory_layout_does_not_matter() -> None:
    def turned(t: Tensor) -> Tensor:
        t = t.transpose(0, -1).contiguous().transpose(0, -1)
        return t.conj().resolve_conj().conj() if t.is_complex() else t

    sizes = {"batch": 2, "length": 3, "channels": 2, "modes": 2, "readouts": 2, "gaps": "few"}
    problem, state = make_liquid("pb", 2, **sizes, state=True, both=True, dtype=torch.float32)
    odd = problem.with_operands({name: turned(t) for name, t in problem.differentiable().items()})
    options = {"kernel": "pb", "order": 2}
    with on_kernels():
        y, end = run(odd._replace(dt=turned(odd.dt)), LiquidState(*map(turned, state)), **options)
        expected, plain = run(problem, state, **options)
    assert torch.equal(y, expected) and torch.equal(end.x, plain.x)


@pytest.mark.parametrize("kernel", ["exact", "kb"])
def test_no_series(kernel: str) -> None:
    problem, _ = make_liquid(kernel, 3, batch=1, length=5, both=True, dtype=torch.float32)
    with on_kernels():
        y, end = run(problem._replace(u=problem.u[:0]), kernel=kernel, order=3)
        found = results(problem._replace(u=problem.u[:0]), None, kernel=kernel, order=3)
    states, past = liquid_state_shape(kernel, 3)
    assert y.shape == (0, 1, 5, 3)
    assert end.x.shape == (0, states, 3, 3) and end.history.shape == (0, past, 3, 3)
    assert all(not found[f"gradient of {name}"].any() for name in ("A", "B", "C", "D", "step"))


def test_nothing_is_kept_without_a_gradient() -> None:
    assert kernels.saved_shape(2, 3, 33, 5, 4, 2, torch.float32, False)[0] == 0
    assert kernels.saved_shape(2, 3, 33, 5, 4, 2, torch.float32, True) == (2, 2, 3, 3, 2, 4, 5)


# ----------------------------------------------------------------------------------------- who is called when


def test_cuda_tensors_go_to_the_kernels() -> None:
    with FakeTensorMode():
        u = torch.empty(2, 20, 3, device="cuda")
        assert operands.backend("liquid", u.device) is kernels


@pytest.mark.parametrize(("found", "serves"), [("3.2.0", False), ("3.3.1", True), ("3.10.0+git", True)])
def test_a_triton_without_tuples_is_none(found: str, serves: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operands, "version", lambda _: found)
    assert operands._has_triton() == serves


@pytest.mark.parametrize("kernel", ["exact", "kb"])
def test_operator_is_well_formed(kernel: str) -> None:
    sizes = {"batch": 1, "length": 3, "channels": 2, "modes": 1, "readouts": 2, "gaps": "few"}
    p, state = make_liquid(kernel, 2, **sizes, state=True, both=True, dtype=torch.float32)
    C, dt = torch.stack([p.C, p.C_reverse]), torch.stack([p.dt, p.dt])
    arguments = [p.u, p.A, p.B, C, p.D, p.step, dt, liquid_bound(p.A, p.B) if kernel == "exact" else None]
    start = torch.cat(state, dim=1).transpose(0, 1).contiguous()
    options = [kernel, "zoh", 0.0, False]
    checks = ("test_schema", "test_faketensor")
    with on_kernels():
        y, x, saved = operator(*arguments, start, kernel, 2, "zoh", 0.0, False, True)
        torch.library.opcheck(
            operator, [*arguments, start, kernel, 2, "zoh", 0.0, False, False], test_utils=checks
        )
        upstream = [torch.ones_like(y), torch.ones_like(x), saved]
        torch.library.opcheck(adjoint, [*upstream, *arguments, *options], test_utils=checks)
