"""The Triton kernels of the diagonal scan, interpreted, against the reference in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from interpreted import kernels, lanes, on_kernels
from systems import GAPS, RULES, Problem, assert_close, by_reference, make_problem, results, weighted_sum
from torch._subclasses.fake_tensor import FakeTensorMode

from tsssm.discretize import discretize_diagonal, gbt_alpha
from tsssm.ops import ScanState, diagonal_scan, operands, reference
from tsssm.ops.autograd.diagonal import _diagonal_scan_adjoint as adjoint
from tsssm.ops.autograd.diagonal import diagonal_scan as operator
from tsssm.ops.bounds import bounded_input, liquid_bound

pytestmark = pytest.mark.triton


def covering_set() -> Iterator[Any]:
    """Every rule and every kind of gaps, which take turns with sizes around those of chunks and blocks."""
    for i, (method, liquid) in enumerate(RULES):
        sizes = {
            "batch": 1 + i % 2,
            "length": (9, 1, 4, 5)[i % 4],
            "channels": (3, 40, 1)[i % 3],
            "modes": (3, 1, 2)[i % 3],
            "readouts": (2, 1, 1)[i % 3],
            "gaps": GAPS[i % len(GAPS)],
            "state": i % 4 < 2,
            "both": i % 3 == 1,
            "seed": i,
        }
        options = {"method": method, "liquid": liquid, "reverse": i % 2 == 1}
        name = "-".join([str(method), *["liquid"] * liquid, *map(str, sizes.values())])
        yield pytest.param(sizes, options, id=name)


def check(problem: Problem, **options: Any) -> None:
    """Outputs, states and gradients against the specification at the same rounded arguments."""
    with on_kernels():
        found = results(problem, **options)
    with by_reference():
        expected = results(problem.to(torch.float64), **options)
    assert_close(found, expected, torch.float32)


@pytest.mark.parametrize(("sizes", "options"), list(covering_set()))
def test_kernels_equal_reference(sizes: dict[str, Any], options: dict[str, Any]) -> None:
    check(make_problem(**sizes, dtype=torch.float32), **options)


@pytest.mark.parametrize(
    ("method", "gaps", "reverse"),
    [
        ("zoh", "distinct", False),
        ("zoh", "regular", True),
        (0.3, "padded", True),
        ("bilinear", "regular", False),
    ],
)
def test_inputs_within_and_far_beyond_the_bound(method: str | float, gaps: str, reverse: bool) -> None:
    """From a state and in both directions; with steps of which a transform projects some transitions."""
    sizes = {"length": 9, "channels": 3, "modes": 3, "gaps": gaps, "seed": 2}
    p = make_problem(**sizes, state=True, both=True, dtype=torch.float32)
    p = p._replace(u=3 * p.u, step=2 * torch.ones(3))
    bound = liquid_bound(p.A, p.B)
    within = (p.u[..., None].abs() < bound).float().mean()
    assert 0.1 < within < 0.5
    gaps_of_one = torch.ones(9) if p.dt is None else p.dt[0]
    A_bar, B_bar, _ = discretize_diagonal(p.A, p.B, gaps_of_one[:, None, None] * p.step[:, None], method)
    longest = (A_bar + B_bar * bounded_input(p.u[0][..., None], bound)).abs().max()
    assert longest <= 1 if method == "zoh" else longest > 1.1
    check(p, method=method, liquid=True, reverse=reverse)


@pytest.mark.parametrize(("method", "gaps"), [("zoh", "distinct"), ("bilinear", "regular")])
def test_gradient_of_the_bound(method: str, gaps: str) -> None:
    """Of the operator, for which it is an operand: of any size, and with a gradient of every mode."""
    p = make_problem(length=9, channels=3, modes=3, gaps=gaps, both=True, dtype=torch.float32)
    dt = None if p.dt is None else torch.stack([p.dt, p.dt])
    bound = torch.linspace(0.2, 1.2, p.A.numel()).reshape(p.A.shape)

    def gradients(scan: Any, dtype: torch.dtype, *options: Any) -> dict[str, torch.Tensor]:
        q = p.to(dtype)
        limit = bound.to(dtype, copy=True).requires_grad_()
        gap = None if dt is None else dt.to(dtype)
        C = torch.stack([q.C, q.C_reverse])
        y, x, *_ = scan(q.u.requires_grad_(), None, q.A, q.B, C, q.D, q.step, gap, limit, None, *options)
        found = torch.autograd.grad(weighted_sum(y, x), [q.u, limit])
        return dict(zip(("gradient of u", "gradient of bound"), found, strict=True))

    alpha = gbt_alpha(method)
    with on_kernels():
        rule = "zoh" if alpha is None else "gbt"
        found = gradients(operator, torch.float32, rule, alpha or 0.0, False, True)
    expected = gradients(reference.diagonal_scan, torch.float64, method, False)
    assert expected["gradient of bound"].abs().min() > 0
    assert_close(found, expected, torch.float32)


@pytest.mark.parametrize("gaps", ["regular", "distinct"])
def test_sizes_that_a_device_sees(gaps: str) -> None:
    """Samples between kept states, and groups of them, as the launches choose them."""
    problem = make_problem(batch=1, length=19, channels=3, modes=2, gaps=gaps, dtype=torch.float32)
    with on_kernels(lanes.SAMPLES, 8, 16):
        found = results(problem)
    with by_reference():
        expected = results(problem.to(torch.float64))
    assert_close(found, expected, torch.float32)


@pytest.mark.parametrize(
    ("method", "liquid"),
    [("zoh", False), ("foh", False), ("bilinear", False), ("zoh", True), ("bilinear", True)],
)
def test_integrator(method: str | float, liquid: bool) -> None:
    """A = 0, and eigenvalues whose square underflows; the gradient of A included."""
    problem = make_problem(length=3, modes=4, gaps="few", seed=5, dtype=torch.float32)
    problem.A[:] = torch.tensor([0, -1e-30, 1e-25j, -1e-15])
    check(problem, method=method, liquid=liquid)


@pytest.mark.parametrize("method", ["zoh", "foh", "bilinear"])
def test_arguments_from_tiny_to_large(method: str) -> None:
    """Products of step and eigenvalue from 1e-9 to 1e3, which cross every switch between formulas."""
    problem = make_problem(length=4, channels=48, modes=1, gaps="distinct", dtype=torch.float32)
    A = torch.polar(torch.logspace(-7, 3.5, 48), torch.linspace(torch.pi / 2, torch.pi, 48))
    problem = problem._replace(A=A[:, None], step=torch.full((48,), 0.5))
    with on_kernels():
        found = results(problem, method=method)
    with by_reference():
        expected = results(problem.to(torch.float64), method=method)
    assert_close(found, expected, torch.float32)
    for name in ("A", "B", "C", "step"):
        # Channel by channel, so that a slow one does not hide behind a fast one.
        # Where |z| is large the gradients vanish against what they are summed from.
        truth = expected[f"gradient of {name}"].reshape(48, -1)[:32]
        error = (found[f"gradient of {name}"].reshape(48, -1)[:32].to(truth.dtype) - truth).abs().amax(1)
        assert (error <= 1e-4 * truth.abs().amax(1)).all(), name  # float32


def test_a_slow_mode_keeps_its_digits_over_many_steps() -> None:
    """Abar = 1 - 1e-6 has two digits in float32; what the kernels multiply by, Abar - 1, has all."""
    length = 100
    arguments = {
        "u": torch.ones(1, length, 1),
        "A": torch.tensor([[-1.0 + 0.5j]], dtype=torch.complex64),
        "B": torch.tensor([[1.0 + 0j]], dtype=torch.complex64),
        "C": torch.tensor([[[1.0 + 0j]]], dtype=torch.complex64),
        "step": torch.tensor([1e-6]),
    }
    with on_kernels(), torch.no_grad():
        y, _ = diagonal_scan(**arguments)
    lam, times = complex(-1, 0.5), 1e-6 * torch.arange(1, length + 1, dtype=torch.float64)
    expected = (torch.expm1(lam * times.to(torch.complex128)) / lam).real
    torch.testing.assert_close(y[0, 0, :, 0].double(), expected, rtol=2e-6, atol=0)  # float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_that_of_the_input_and_the_output_alone(dtype: torch.dtype) -> None:
    problem = make_problem(length=9, gaps="distinct", both=True, dtype=torch.float32)
    rounded = problem.u.to(dtype)
    with on_kernels(), torch.no_grad():
        y, _ = problem._replace(u=rounded).run()
        exact, _ = problem._replace(u=rounded.float()).run()
    assert y.dtype == dtype and torch.equal(y, exact.to(dtype))


def test_memory_layout_does_not_matter() -> None:
    def turned(t: torch.Tensor) -> torch.Tensor:
        return t.transpose(0, -1).contiguous().transpose(0, -1)

    sizes = {"batch": 2, "length": 3, "channels": 2, "modes": 2, "readouts": 2}
    p = make_problem(**sizes, gaps="few", state=True, both=True, dtype=torch.float32)
    odd = p._replace(
        u=turned(p.u),
        A=p.A.conj().resolve_conj().conj(),
        B=turned(p.B),
        C=turned(p.C),
        dt=turned(p.dt),
        D=turned(p.D),
        state=ScanState(turned(p.state.x), torch.complex(p.state.u, -p.state.u).conj().imag),
    )
    with on_kernels():
        assert_close(results(odd), results(p), torch.float32)


def test_the_same_call_gives_the_same_bits() -> None:
    problem = make_problem(length=5, modes=2, gaps="distinct", dtype=torch.float32)
    with on_kernels():
        first, again = results(problem), results(problem)
    for name, value in first.items():
        assert torch.equal(value, again[name]), name


@pytest.mark.parametrize("liquid", [False, True])
def test_no_series(liquid: bool) -> None:
    problem = make_problem(batch=1, length=5, both=True, dtype=torch.float32)
    with on_kernels():
        found = results(problem._replace(u=problem.u[:0]), liquid=liquid)
    assert found["y"].shape == (0, 1, 5, 3) and found["state.x"].shape == (0, 3, 3)
    assert found["gradient of u"].shape == (0, 5, 3)
    assert all(not found[f"gradient of {name}"].any() for name in ("A", "B", "C", "D", "step"))


def test_nothing_is_kept_without_a_gradient() -> None:
    assert kernels.saved_shape(2, 3, 33, 5, 4, torch.float32, False)[0] == 0
    assert kernels.saved_shape(2, 3, 33, 5, 4, torch.float32, True) == (2, 3, 3, 2, 4, 5)


def test_chunks_fill_a_device_and_cover_every_length() -> None:
    assert lanes.chunk_length(32, 4096, 128, 8) == 128
    assert lanes.chunk_length(1, 1, 1, 1) == lanes.SAMPLES
    assert lanes.chunk_length(1, 4096, 1, 32) == 64
    assert lanes.chunk_length(10**6, 4096, 128, 8) == 4096
    for length in (1, 15, 16, 17, 1000, 4097):
        chunk = lanes.chunk_length(8, length, 64, 4)
        chunks = -(-length // chunk)
        assert chunk % lanes.SAMPLES == 0 and (chunks - 1) * chunk < length <= chunks * chunk


# ----------------------------------------------------------------------------------------- who is called when


def test_cuda_tensors_go_to_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operands, "_HAS_TRITON", True)
    with FakeTensorMode():
        u = torch.empty(2, 20, 3, device="cuda")
        gaps = torch.empty(1, 2, 20, device="cuda")
        assert operands.backend("diagonal", u.device) is kernels
        assert operands.runs_compiled(u, gaps, True)
        # Without kernels, in double precision, and for a gradient of the gaps, in plain PyTorch.
        assert not operands.runs_compiled(u, gaps)
        assert not operands.runs_compiled(u.double(), None, True)
        assert not operands.runs_compiled(u, gaps.requires_grad_(), True)


@pytest.mark.parametrize("liquid", [False, True])
def test_operator_is_well_formed(liquid: bool) -> None:
    p = make_problem(length=5, channels=2, modes=1, readouts=2, gaps="few", both=True, dtype=torch.float32)
    C, dt = torch.stack([p.C, p.C_reverse]), torch.stack([p.dt, p.dt])
    operands = [p.u, None, p.A, p.B, C, p.D, p.step, dt, liquid_bound(p.A, p.B) if liquid else None]
    options = ["zoh", 0.0, False]
    checks = ("test_schema", "test_faketensor")
    with on_kernels():
        y, x, saved = operator(*operands, None, *options, True)
        torch.library.opcheck(operator, [*operands, None, *options, False], test_utils=checks)
        upstream = [torch.ones_like(y), torch.ones_like(x), saved]
        torch.library.opcheck(adjoint, [*upstream, *operands, *options, True], test_utils=checks)


def test_shapes_that_the_operator_promises() -> None:
    """What ``torch.compile`` is told about a call is what the kernels return."""
    p = make_problem(length=9, both=True, dtype=torch.float32)
    arguments = (p.u, None, p.A, p.B, torch.stack([p.C, p.C_reverse]), p.D, p.step, None, None, None)
    options = ("zoh", 0.0, False, True)
    with on_kernels():
        found = kernels.diagonal_scan(*arguments, *options)
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            fakes = [t if t is None else mode.from_tensor(t) for t in arguments]
            promised = operator(*fakes, *options)
    for value, promise in zip(found, promised, strict=True):
        assert (value.shape, value.stride(), value.dtype) == (promise.shape, promise.stride(), promise.dtype)
