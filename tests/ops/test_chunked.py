"""The operations in plain PyTorch over chunks of time, against the reference, forward and gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from typing import Any

import dplr_systems
import liquid_systems
import pooled_systems
import pytest
import torch
import tridiagonal_systems
from scans import convert
from systems import GAPS, RULES, assert_close, by_reference, make_gaps, make_problem, results
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tsssm.hippo import conjugate_half, nplr
from tsssm.ops import (
    chunked,
    diagonal_scan,
    dplr_scan,
    features,
    liquid_dplr_scan,
    liquid_scan,
    operands,
    readout_scan,
    reference,
    tridiagonal_scan,
)
from tsssm.ops.chunked import dplr, linear

LENGTHS = (9, 1, 8, 21, 2)


@contextmanager
def over_chunks(samples: int = 8, block: int = 4) -> Iterator[None]:
    """Let the public operations run over chunks, so short that a short test has several of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operands, "runs_compiled", lambda *_: False)
        patch.setattr(linear, "_ENTRIES", 1)
        patch.setattr(linear, "SAMPLES", samples)
        patch.setattr(dplr, "_BLOCK", block)
        yield


def compare(run: Any, given: Any, dtype: torch.dtype, exact: Any, **options: Any) -> None:
    """Results at a precision against those of the specification in float64, at the same rounded arguments."""
    with over_chunks():
        found = run(given, **options)
    with by_reference():
        expected = run(exact, **options)
    assert_close(found, expected, dtype)


@pytest.mark.parametrize("case", range(len(RULES)), ids=[f"{rule}" for rule in RULES])
def test_diagonal(case: int) -> None:
    """Every rule, with and without a liquid term; gaps, lengths, directions and states take turns."""
    method, liquid = RULES[case]
    for i, dtype in ((2 * case, torch.float64), (2 * case + 1, torch.float32)):
        p = make_problem(
            length=LENGTHS[i % 5],
            readouts=1 + i % 2,
            gaps=GAPS[i % len(GAPS)],
            state=i % 3 > 0,
            both=i % 4 < 2,
            dtype=dtype,
            seed=i,
        )
        if liquid:
            p = p._replace(u=3 * p.u)
        compare(results, p, dtype, p.to(torch.float64), method=method, liquid=liquid, reverse=i % 2 == 1)


@pytest.mark.parametrize(("kernel", "order"), [(k, o) for k in liquid_systems.KERNELS for o in (2, 4)])
def test_liquid(kernel: str, order: int) -> None:
    dtype = torch.float64 if order == 2 else torch.float32
    for i, gaps in enumerate(("regular", "gap of zero", "padded")):
        sizes = {"length": (9, 21, 1)[i], "gaps": gaps, "both": i == 1, "state": i < 2, "seed": i}
        p, state = liquid_systems.make_liquid(kernel, order, **sizes)
        p = p._replace(state=None).to(dtype)
        complex_type = dtype.to_complex()
        state = None if state is None else type(state)(*(t.to(complex_type) for t in state))
        exact = None if state is None else type(state)(*(t.to(torch.complex128) for t in state))
        options = {"kernel": kernel, "order": order, "reverse": i == 1, "method": ("zoh", "bilinear")[i % 2]}
        with over_chunks():
            found = liquid_systems.results(p, state, **options)
        with by_reference():
            expected = liquid_systems.results(p.to(torch.float64), exact, **options)
        assert_close(found, expected, dtype)


@pytest.mark.parametrize(("rank", "alpha"), list(product((1, 2, 3), (0.3, 0.5, 1.0))))
def test_dplr(rank: int, alpha: float) -> None:
    i = 3 * rank + int(2 * alpha)
    dtype = (torch.float64, torch.float32)[i % 2]
    sizes = {"length": LENGTHS[i % 5], "gaps": GAPS[i % len(GAPS)], "rank": rank, "shared": i % 3 == 0}
    p = dplr_systems.random_arguments(**sizes, directions=1 + i % 2, state=i % 4 < 3, seed=i, dtype=dtype)
    compare(dplr_systems.results, p, dtype, convert(p, torch.float64), alpha=alpha, reverse=i % 2 == 0)


def liquid_dplr_arguments(size: float, seed: int, length: int) -> dict[str, Any]:
    """A HiPPO system whose liquid term is as large as the input is."""
    rank = 2 if seed % 2 else 1
    half = conjugate_half(nplr(("legs", "legt")[rank - 1], 6))
    random = torch.Generator().manual_seed(seed)
    batch, channels, modes = 2, 2, len(half.Lambda)
    P = torch.as_tensor(half.P)[:, None].repeat(1, channels, 1)
    C = torch.randn(2, 1, channels, modes, generator=random, dtype=torch.complex128)
    return {
        "u": size * torch.randn(batch, length, channels, generator=random, dtype=torch.float64),
        "Lambda": torch.as_tensor(half.Lambda).repeat(channels, 1) - 0.01,
        "P": P,
        "Q": 2 * P,
        "B": torch.as_tensor(half.B).repeat(channels, 1),
        "C": C if seed % 3 else C[0],
        "step": torch.tensor([0.03, 0.2], dtype=torch.float64),
        "dt": make_gaps(GAPS[seed % len(GAPS)], batch, length, random),
        "D": torch.ones(1, channels, dtype=torch.float64),
    }


def liquid_dplr_results(p: dict[str, Any], **options: Any) -> dict[str, Tensor]:
    leaves = {name: t if t is None else t.clone().requires_grad_(name != "dt") for name, t in p.items()}
    y, end = liquid_dplr_scan(**leaves, **options)
    again, _ = liquid_dplr_scan(**leaves | {"dt": None}, state=end, **options)
    weights = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y)
    wanted = [t for t in leaves.values() if t is not None and t.requires_grad]
    gradients = torch.autograd.grad((weights * (y + again)).sum() + end.x.real.sum(), wanted)
    return {"y": y, "x": end.x, "history": end.history} | {str(i): g for i, g in enumerate(gradients)}


@pytest.mark.parametrize(
    ("kernel", "order"), [("exact", None), ("exact", 2), ("exact", 3), ("kb", 3), ("pb", 2)]
)
@pytest.mark.parametrize("alpha", [0.3, 0.5, 1.0])
def test_liquid_dplr(kernel: str, order: int | None, alpha: float) -> None:
    """Inputs below the bounds and beyond them, several blocks and chunks, a state to go on from; compiled."""
    for i, size in enumerate((0.1, 2.0, 300.0)):
        seed = 3 * i + int(10 * alpha)
        p = liquid_dplr_arguments(size, seed, LENGTHS[seed % 5])
        options = {"kernel": kernel, "order": order, "alpha": alpha, "reverse": i == 1}
        with over_chunks():
            found = liquid_dplr_results(p, **options)
        compiled = liquid_dplr_results(p, **options)
        with by_reference():
            expected = liquid_dplr_results(p, **options)
        for name, value in expected.items():
            scale = max(1e-12, float(value.detach().abs().max())) if value.numel() else 1.0
            torch.testing.assert_close(found[name] / scale, value / scale, rtol=0, atol=1e-9)
            torch.testing.assert_close(compiled[name] / scale, value / scale, rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [0.5, 30.0])
def test_float32_of_the_full_recurrence(size: float) -> None:
    """As near to the exact result as the loop over samples is, bounds active or not, over whole blocks."""
    given = liquid_dplr_arguments(size, seed=3, length=70)
    found, looped, expected = [], [], []
    for kept, backend, dtype in (
        (found, over_chunks(70, 64), torch.float32),
        (looped, by_reference(), torch.float32),
        (expected, by_reference(), torch.float64),
    ):
        p = convert(given, torch.float32)
        leaves = [p[name].to(dtype).requires_grad_() for name in ("u", "step")]
        p = convert(p, dtype) | dict(zip(("u", "step"), leaves, strict=True))
        with backend:
            y, _ = liquid_dplr_scan(**p, kernel="exact")
        kept += [y.detach(), *torch.autograd.grad(y.square().mean(), leaves)]
    for value, single, double in zip(found, looped, expected, strict=True):
        allowed = 8 * (single - double).abs().max() + 1e-5 * double.abs().max()
        assert (value - double).abs().max() <= allowed


@pytest.mark.parametrize("gaps", ["regular", "distinct"])
@pytest.mark.parametrize("measure", ["legs", "legt"])
def test_float32_of_a_stiff_system(measure: str, gaps: str) -> None:
    """HiPPO of 64 states and long steps: what couples the modes is far larger than what remains of it."""
    form = nplr(measure, 64)
    random = torch.Generator().manual_seed(3)
    p: dict[str, Any] = {
        "u": torch.randn(1, 100, 2, generator=random, dtype=torch.float64),
        "Lambda": torch.as_tensor(form.Lambda)[None],
        "P": torch.as_tensor(form.P)[:, None],
        "Q": torch.as_tensor(form.P)[:, None],
        "B": torch.as_tensor(form.B)[None],
        "C": torch.randn(1, 2, 64, generator=random, dtype=torch.complex128),
        "step": torch.tensor([0.01, 0.1], dtype=torch.float64),
        "dt": make_gaps(gaps, 1, 100, random),
        "x0": None,
    }
    p = convert(p, torch.float32)
    with over_chunks(100, 64):
        y, x = dplr_scan(**p)
    with by_reference():
        expected_y, expected_x = dplr_scan(**convert(p, torch.float64))
        single_y, single_x = dplr_scan(**p)
    for found, single, expected in ((y, single_y, expected_y), (x, single_x, expected_x)):
        scale = expected.abs().max()
        allowed = 4 * (single - expected).abs().max() / scale + 1e-5
        assert (found - expected).abs().max() / scale <= allowed


@pytest.mark.parametrize("alpha", tridiagonal_systems.ALPHAS)
@pytest.mark.parametrize("kind", tridiagonal_systems.KINDS)
def test_tridiagonal(kind: str, alpha: float) -> None:
    i = tridiagonal_systems.KINDS.index(kind) + int(10 * alpha)
    dtype = (torch.float64, torch.float32)[i % 2]
    sizes = {"kind": kind, "length": LENGTHS[i % 5], "gaps": GAPS[i % len(GAPS)], "shared": i % 3 == 0}
    sizes |= {"directions": 1 + i % 2, "state": i % 4 < 3}
    p = tridiagonal_systems.arguments(**sizes, seed=i, dtype=dtype)
    options = {"alpha": alpha, "reverse": i % 2 == 0}
    compare(tridiagonal_systems.results, p, dtype, convert(p, torch.float64), **options)


@pytest.mark.parametrize("dense", [False, True])
def test_readouts_and_what_is_pooled_of_them(dense: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    given = pooled_systems.operands((40, 1, 23), dense=dense, dtype=torch.float32)
    monkeypatch.setattr(features, "runs_compiled", lambda *_, **__: False)
    with over_chunks():
        found = features.pooled_scan(**given)
        y = readout_scan(**{k: t for k, t in given.items() if k not in ("weight", "thresholds")})
    pooled_systems.assert_pooled(found, given)
    expected = reference.readout_scan(**{k: t for k, t in given.items() if k not in ("weight", "thresholds")})
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)


def test_clocks() -> None:
    random = torch.Generator().manual_seed(0)
    offsets = torch.tensor([0, 3, 4, 25])
    given = [torch.rand(*shape, generator=random, dtype=torch.float64) for shape in ((25, 3), (25,), (3, 2))]
    found, expected = [], []
    with over_chunks():
        for results, scan in ((found, chunked.clock_scan), (expected, reference.clock_scan)):
            values, gaps, rates = (t.clone().requires_grad_() for t in given)
            states = scan(values, gaps, offsets, rates)
            weights = torch.linspace(-1, 2, states.numel(), dtype=torch.float64).view_as(states)
            results += [states, *torch.autograd.grad((weights * states).sum(), (values, gaps, rates))]
    for value, other in zip(found, expected, strict=True):
        torch.testing.assert_close(value, other, rtol=1e-11, atol=1e-11)
    assert chunked.clock_scan(values[:0], gaps[:0], offsets[:1], rates[:0]).shape == (0, 2, 3)


@pytest.mark.parametrize("scan", [diagonal_scan, dplr_scan, tridiagonal_scan])
def test_gradient_of_the_gaps(scan: Any) -> None:
    """On any device, the CPU included, no kernel has it."""
    if scan is diagonal_scan:
        p = make_problem(length=12, gaps="distinct")
        arguments: list[Any] = [p.u, p.A, p.B, p.C, p.step]
        gaps = p.dt
    else:
        systems = dplr_systems.random_arguments if scan is dplr_scan else tridiagonal_systems.arguments
        given = systems(length=12, gaps="distinct", feedthrough=False, state=False)
        gaps = given["dt"]
        arguments = [t for name, t in given.items() if name not in ("dt", "x0", "D")]
    gradients = []
    for backend in (over_chunks, by_reference):
        with backend():
            dt = gaps.clone().requires_grad_()
            gradients += torch.autograd.grad(scan(*arguments, dt)[0].square().sum(), dt)
    torch.testing.assert_close(*gradients)


# --------------------------------------------------------------------------------------- time: long and short


def long_calls(length: int, gap: float = 1.0, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """A call of each scan, by name."""
    random = torch.Generator().manual_seed(0)
    u = torch.randn(1, length, 2, generator=random).to(dtype)
    dt = torch.full((1, length), gap, dtype=dtype)
    d = make_problem(batch=1, channels=2, dtype=dtype)
    low = dplr_systems.random_arguments(batch=1, channels=2, modes=2, state=False, dtype=dtype)
    # Inputs that seldom make the liquid term reach its bound.
    slow = {name: t for name, t in low.items() if name not in ("x0", "dt")} | {"dt": dt}
    slow |= {"B": low["B"] / 8}
    tri = tridiagonal_systems.arguments(batch=1, channels=2, modes=3, state=False, dtype=dtype)
    return {
        "diagonal": lambda: diagonal_scan(u, *d[1:5], dt)[0],
        "liquid": lambda: diagonal_scan(u, *d[1:5], dt, liquid=True)[0],
        "exact": lambda: liquid_scan(u, *d[1:5], dt, kernel="exact", order=2)[0],
        "kb": lambda: liquid_scan(u, *d[1:5], dt, kernel="kb", order=3)[0],
        "dplr": lambda: dplr_scan(**low | {"u": u, "dt": dt})[0],
        **{
            f"dplr, {kernel} of order {order}": partial(
                lambda kernel, order: liquid_dplr_scan(**slow | {"u": u}, kernel=kernel, order=order)[0],
                kernel,
                order,
            )
            for kernel, order in (("exact", None), ("exact", 2), ("kb", 3))
        },
        "tridiagonal": lambda: tridiagonal_scan(**tri | {"u": u, "dt": dt})[0],
    }


class Launches(TorchDispatchMode):
    """Counts the operations of PyTorch, each of which is at least one launch on a device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("name", list(long_calls(1)))
def test_python_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more of them than L / 64, however large the systems, each of as many operations as the last."""
    counts = {}
    monkeypatch.setattr(linear, "_ENTRIES", 1)
    monkeypatch.setattr(operands, "runs_compiled", lambda *_: False)
    steps = []
    run_chunk = linear.run_chunk
    monkeypatch.setattr(linear, "run_chunk", lambda *given: steps.append(None) or run_chunk(*given))
    for length in (128, 256, 384):
        steps.clear()
        with torch.no_grad(), Launches() as launches:
            long_calls(length)[name]()
        assert len(steps) <= length // 64
        counts[length] = launches.count
    assert counts[384] - counts[256] == pytest.approx(counts[256] - counts[128], rel=0.02)


@pytest.mark.parametrize("gap", [0.0, 1e6])
@pytest.mark.parametrize("name", list(long_calls(1)))
def test_gaps_of_any_size(name: str, gap: float) -> None:
    """Modes vanish over such a gap, and nothing becomes infinite, or no number."""
    with over_chunks(64, 64):
        found = long_calls(70, gap)[name]()
    with by_reference():
        expected = long_calls(70, gap, torch.float64)[name]()
    assert found.isfinite().all()
    scale = expected.abs().max().clamp(min=1e-30)
    assert (found - expected).abs().max() / scale < 1e-4  # float32


@pytest.mark.parametrize("name", ["diagonal", "dplr", "tridiagonal"])
def test_autocast_leaves_the_system_alone(name: str) -> None:
    with over_chunks():
        expected = long_calls(20)[name]()
        with torch.autocast("cpu", torch.bfloat16):
            found = long_calls(20)[name]()
    assert torch.equal(found, expected)


def test_small_systems_have_longer_chunks() -> None:
    assert linear.chunk_length(2, 3, 4) == 2**22 // 24
    assert linear.chunk_length(32, 128, 64) == linear.SAMPLES == dplr._BLOCK == 64


def test_memory_of_a_gradient_is_that_of_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What autograd keeps is inputs, outputs and the states between chunks, not those of samples."""
    p = make_problem(batch=1, length=512, channels=2, modes=16, dtype=torch.float32)
    monkeypatch.setattr(linear, "_ENTRIES", 1)
    monkeypatch.setattr(operands, "runs_compiled", lambda *_: False)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        diagonal_scan(p.u, p.A.requires_grad_(), *p[2:5])
    entries = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() // 4 for t in kept}
    assert sum(entries.values()) < 512 * 2 * 2 * 16
