"""The Triton kernels on a CUDA device; on other machines these tests say that they did not run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dplr_systems
import liquid_systems
import pytest
import torch
import tridiagonal_systems
from pooled_systems import TOLERANCE, assert_pooled, operands
from scans import Operands, convert
from systems import RULES, Problem, assert_close, by_reference, make_problem, results
from torch import Tensor

from tsssm.ops import (
    LiquidState,
    ScanState,
    causal_conv,
    diagonal_scan,
    dplr_scan,
    pooled_scan,
    tridiagonal_scan,
    vandermonde,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def on_device(problem: Problem) -> Problem:
    """A copy of the problem on the device."""
    operands = {name: t.cuda() for name, t in problem.differentiable().items()}
    return problem.with_operands(operands)._replace(dt=None if problem.dt is None else problem.dt.cuda())


class FromCPU(Problem):
    """A problem with its tensors on the CPU that is solved on the device."""

    def run(self, **options: Any) -> tuple[Tensor, ScanState]:
        y, state = Problem.run(on_device(Problem(*self)), **options)
        return y.cpu(), ScanState(state.x.cpu(), state.u.cpu())


def check(problem: Problem, **options: Any) -> None:
    """Results on the device in float32 against the specification in float64 on the CPU."""
    found = results(FromCPU(*problem), **options)
    with by_reference():
        expected = results(problem.to(torch.float64), **options)
    assert_close(found, expected, torch.float32)


@pytest.mark.parametrize(
    ("method", "liquid", "gaps"),
    [(*rule, "distinct") for rule in RULES] + [("zoh", False, "regular"), ("foh", False, "regular")],
)
def test_kernels_equal_reference(method: str | float, liquid: bool, gaps: str) -> None:
    """Several chunks and blocks of modes, a length that no chunk divides, and the rest in turn."""
    odd = RULES.index((method, liquid)) % 2 == 1
    problem = make_problem(
        batch=3,
        length=83,
        channels=37,
        modes=19,
        readouts=2 if odd else 1,
        gaps=gaps,
        state=True,
        both=not odd,
        dtype=torch.float32,
    )
    if liquid:
        problem = problem._replace(u=2 * problem.u)  # within and far beyond the bound
    check(problem, method=method, liquid=liquid, reverse=odd)


@pytest.mark.parametrize("length", [1, 16, 4096])
def test_lengths(length: int) -> None:
    """A single sample, a single chunk, and chunks that divide the length, against a run piece by piece."""
    p = on_device(make_problem(batch=2, length=length, channels=64, modes=4, dtype=torch.float32))
    whole, end = p.run()
    state, outputs = ScanState(torch.zeros_like(end.x), torch.zeros_like(end.u)), []
    for piece in p.u.split(-(-length // 3), dim=1):
        y, state = p._replace(u=piece, state=state).run()
        outputs.append(y)
    torch.testing.assert_close(torch.cat(outputs, dim=2), whole, rtol=1e-4, atol=1e-4)  # float32
    torch.testing.assert_close(state.x, end.x, rtol=1e-4, atol=1e-4)


def test_a_long_scan_equals_the_convolution_with_its_kernel() -> None:
    """More samples than the reference can take: by FFT, with a kernel whose phases are formed in float64."""
    p = on_device(make_problem(batch=4, length=16384, channels=16, modes=8, dtype=torch.float32))
    with torch.no_grad():
        y, _ = p.run()
        z = p.step[:, None] * p.A
        kernel = vandermonde(p.C[0] * (torch.expm1(z) / p.A) * p.B, z, 16384)
        expected = causal_conv(p.u, kernel.T[None].contiguous())
    error = (y - expected).abs().max() / expected.abs().max()
    assert error < 1e-4  # float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_that_of_the_input_and_the_output_alone(dtype: torch.dtype) -> None:
    p = on_device(make_problem(length=50, gaps="distinct", both=True, dtype=torch.float32))
    rounded = p.u.to(dtype)
    y, _ = p._replace(u=rounded).run()
    exact, _ = p._replace(u=rounded.float()).run()
    assert y.dtype == dtype and torch.equal(y, exact.to(dtype))


def training_step(p: Problem) -> Callable[[], list[Tensor]]:
    """A function that runs the scan forward and backward."""
    leaves = [t.requires_grad_() for t in p.differentiable().values()]

    def step() -> list[Tensor]:
        y, _ = p.run()
        return [y.detach(), *torch.autograd.grad(y.square().sum(), leaves)]

    return step


@pytest.mark.parametrize("gaps", ["regular", "distinct"])
def test_the_host_never_waits(gaps: str) -> None:
    step = training_step(on_device(make_problem(length=100, gaps=gaps, both=True, dtype=torch.float32)))
    step()  # kernels are compiled
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_training_step_is_captured_in_a_cuda_graph() -> None:
    step = training_step(on_device(make_problem(length=100, gaps="distinct", both=True, dtype=torch.float32)))
    expected = step()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    graph.replay()
    torch.cuda.synchronize()
    for found, value in zip(captured, expected, strict=True):
        assert torch.equal(found, value)


def test_the_same_call_gives_the_same_bits() -> None:
    problem = make_problem(length=200, channels=64, gaps="distinct", dtype=torch.float32)
    step = training_step(on_device(problem))
    for first, again in zip(step(), step(), strict=True):
        assert torch.equal(first, again)


def test_compiled_by_pytorch() -> None:
    p = on_device(make_problem(length=40, gaps="distinct", both=True, dtype=torch.float32))

    def loss(u: Tensor) -> Tensor:
        return p._replace(u=u).run()[0].square().sum()

    u = p.u.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(u), u)
    (found,) = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend="aot_eager")(u), u)
    torch.testing.assert_close(found, expected)


def test_a_gradient_of_the_gaps_is_left_to_plain_pytorch() -> None:
    p = on_device(make_problem(length=5, gaps="distinct", dtype=torch.float32))
    dt = p.dt.clone().requires_grad_()
    (found,) = torch.autograd.grad(p._replace(dt=dt).run()[0].sum(), dt)
    assert found.abs().max() > 0


def test_memory_does_not_hold_the_states() -> None:
    """Forward and backward take a fixed number of inputs' sizes, not one for each of the modes."""
    sizes = {"batch": 8, "length": 4096, "channels": 64, "modes": 16}
    p = on_device(make_problem(**sizes, gaps="distinct", dtype=torch.float32))
    step = training_step(p)
    step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    unit = p.u.numel() * p.u.element_size()
    # All states would be 32, in either pass. Kept: 2; of chunks: 2; partial sums: 3; y, gu and the loss: 5.
    assert (torch.cuda.max_memory_allocated() - before) / unit < 14


def test_operands_on_the_device_are_checked() -> None:
    p = on_device(make_problem(dtype=torch.float32))
    with pytest.raises(ValueError, match="step must be"):
        diagonal_scan(p.u, p.A, p.B, p.C, p.step[:1])


# ------------------------------------------------------------------------------------------------ pooled scan


def pooled_on_device(given: dict[str, Tensor], **kept: bool) -> Tensor:
    return pooled_scan(**{name: t.cuda() for name, t in given.items()}, **kept).cpu()


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize(
    ("sizes", "kept"),
    [
        ({"modes": 8, "groups": 5, "readouts": 64}, {}),
        ({"modes": 3, "groups": 2, "readouts": 8, "channels": 5}, {}),
        ({"modes": 16, "groups": 3, "readouts": 40, "held": 0}, {"shares": False}),
        ({"modes": 64, "groups": 1, "readouts": 16}, {"competition": False}),
        # Sizes of one, for which kernels are compiled apart.
        ({"modes": 1, "groups": 1, "readouts": 8, "channels": 1, "held": 1}, {}),
    ],
)
def test_pooled_kernel_equals_reference(sizes: dict[str, int], kept: dict[str, bool], dense: bool) -> None:
    """Series of less than a tile of samples, of whole tiles, and of several and a part."""
    given = operands((83, 1, 16, 15, 200), dense=dense, **sizes, dtype=torch.float32)
    assert_pooled(pooled_on_device(given, **kept), given, **kept)


def test_one_sample_of_one_series() -> None:
    given = operands((1,), groups=1, readouts=8, channels=1, held=1, dtype=torch.float32)
    assert_pooled(pooled_on_device(given), given)


@pytest.mark.parametrize("dense", [False, True])
def test_pooling_gives_the_same_bits_whatever_the_other_series(dense: bool) -> None:
    given = operands((500, 300), dense=dense, modes=8, readouts=64, dtype=torch.float32)
    both = pooled_on_device(given)
    assert torch.equal(pooled_on_device(given), both)
    alone = {name: given[name][..., 500:].contiguous() for name in ("u", "held", "index", "weight")}
    assert torch.equal(pooled_on_device({**given, **alone, "offsets": torch.tensor([0, 300])})[0], both[1])


@pytest.mark.parametrize(
    ("modes", "dtype"), [(5, torch.float64), (65, torch.float32)], ids=["double precision", "many modes"]
)
def test_what_the_pooled_kernel_leaves_to_plain_pytorch(modes: int, dtype: torch.dtype) -> None:
    given = operands((9, 4), modes=modes, groups=2, readouts=8, dtype=dtype)
    found = pooled_on_device(given)
    torch.testing.assert_close(found, pooled_scan(**given), rtol=0, atol=10 * TOLERANCE[dtype])


def test_pooling_keeps_no_readout_of_a_sample() -> None:
    given = operands((4096,) * 8, modes=8, groups=24, readouts=64, dtype=torch.float32)
    on_device = {name: t.cuda() for name, t in given.items()}
    pooled_scan(**on_device)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    pooled_scan(**on_device)
    torch.cuda.synchronize()
    # All readouts would be 192 MiB; the result is 0.2, the index in 32 bits 0.1, systems and readouts less.
    assert torch.cuda.max_memory_allocated() - before < 2 * 2**20


# ------------------------------------------------------------------------------------- liquid scans by order


def liquid_on_device(problem: Problem, state: LiquidState | None, **options: Any) -> dict[str, Tensor]:
    """Results of `liquid_scan` on the device, on the CPU."""
    moved = None if state is None else LiquidState(*(part.cuda() for part in state))
    found = liquid_systems.results(on_device(problem), moved, **options)
    return {name: value.cpu() for name, value in found.items()}


@pytest.mark.parametrize("gaps", ["regular", "distinct", "padded"])
@pytest.mark.parametrize("form", [("exact", 2), ("exact", 3), ("kb", 2), ("kb", 4), ("pb", 3)])
def test_liquid_kernels_equal_reference(form: tuple[str, int], gaps: str) -> None:
    """Several chunks and blocks of modes, a length that no chunk divides, and the rest in turn."""
    kernel, order = form
    odd = order % 2 == 1
    sizes = {"batch": 3, "length": 83, "channels": 37, "modes": 19, "readouts": 2 if odd else 1}
    problem, state = liquid_systems.make_liquid(kernel, order, **sizes, gaps=gaps, state=True, both=not odd)
    problem = problem._replace(state=None).to(torch.float32)
    state = LiquidState(*(part.to(torch.complex64) for part in state))
    options = {"kernel": kernel, "order": order, "reverse": odd, "method": "bilinear" if odd else "zoh"}
    found = liquid_on_device(problem, state, **options)
    state = LiquidState(*(part.to(torch.complex128) for part in state))
    with by_reference():
        expected = liquid_systems.results(problem.to(torch.float64), state, **options)
    assert_close(found, expected, torch.float32)


@pytest.mark.parametrize("kernel", liquid_systems.KERNELS)
@pytest.mark.parametrize("length", [1, 16, 4096])
def test_liquid_lengths(length: int, kernel: str) -> None:
    """A single sample, a single chunk, and chunks that divide the length, against a run piece by piece."""
    options = {"kernel": kernel, "order": 3}
    problem, _ = liquid_systems.make_liquid(kernel, 3, batch=2, length=length, channels=64, modes=4)
    p = on_device(problem.to(torch.float32))
    whole, end = liquid_systems.run(p, **options)
    state, outputs = LiquidState(*(torch.zeros_like(part) for part in end)), []
    for piece in p.u.split(-(-length // 3), dim=1):
        y, state = liquid_systems.run(p._replace(u=piece), state, **options)
        outputs.append(y)
    scale = whole.abs().max()
    torch.testing.assert_close(torch.cat(outputs, dim=2) / scale, whole / scale, rtol=0, atol=1e-4)  # float32
    torch.testing.assert_close(state.history, end.history, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_of_the_liquid_scan(dtype: torch.dtype) -> None:
    options = {"kernel": "kb", "order": 3}
    problem, _ = liquid_systems.make_liquid("kb", 3, length=50, gaps="distinct", both=True)
    p = on_device(problem.to(torch.float32))
    y, state = liquid_systems.run(p._replace(u=p.u.to(dtype)), **options)
    exact, _ = liquid_systems.run(p._replace(u=p.u.to(dtype).float()), **options)
    assert y.dtype == dtype and state.x.dtype == torch.complex64 and torch.equal(y, exact.to(dtype))


def liquid_step(kernel: str, **sizes: Any) -> Callable[[], list[Tensor]]:
    """A function that runs a liquid scan forward and backward on the device."""
    problem, _ = liquid_systems.make_liquid(kernel, 3, channels=64, gaps="distinct", **sizes)
    p = on_device(problem.to(torch.float32))
    leaves = [t.requires_grad_() for t in p.differentiable().values()]

    def step() -> list[Tensor]:
        y, _ = liquid_systems.run(p, kernel=kernel, order=3)
        return [y.detach(), *torch.autograd.grad(y.square().mean(), leaves)]

    return step


@pytest.mark.parametrize("kernel", ["exact", "kb"])
def test_the_liquid_scan_gives_the_same_bits_and_the_host_never_waits(kernel: str) -> None:
    step = liquid_step(kernel, length=200, both=True)
    expected = step()  # kernels are compiled
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for first, again in zip(expected, found, strict=True):
        assert torch.equal(first, again)


@pytest.mark.parametrize("kernel", ["exact", "kb"])
def test_memory_does_not_hold_the_liquid_states(kernel: str) -> None:
    step = liquid_step(kernel, batch=8, length=4096, modes=16)
    step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    # All states of the chain would be 96 inputs' sizes, in either pass. Kept: 6; of chunks: 2 for ends and
    # products and 4 for gradients of past inputs; partial sums: 3; y, gu and the loss: 5.
    assert (torch.cuda.max_memory_allocated() - before) / (4 * 8 * 4096 * 64) < 22


# ------------------------------------------------------------------------------------------- coupled systems


def coupled(kind: str, **sizes: Any) -> Operands:
    """Arguments of one of the scans in float32, on the CPU."""
    systems = dplr_systems.random_arguments if kind == "dplr" else tridiagonal_systems.arguments
    return systems(**sizes, dtype=torch.float32)


def moved(given: Operands) -> Operands:
    return {name: None if t is None else t.cuda() for name, t in given.items()}


@pytest.mark.parametrize("gaps", ["regular", "distinct", "padded"])
@pytest.mark.parametrize("modes", [3, 32, 64])
@pytest.mark.parametrize("kind", ["dplr", "tridiagonal"])
def test_coupled_kernels_equal_reference(kind: str, modes: int, gaps: str) -> None:
    sizes = {"batch": 3, "length": 37, "channels": 5, "readouts": 2, "directions": 2, "shared": modes == 3}
    given = coupled(kind, **sizes, modes=modes, gaps=gaps)
    results = (dplr_systems if kind == "dplr" else tridiagonal_systems).results
    found = {name: t.cpu() for name, t in results(moved(given)).items()}
    with by_reference():
        expected = results(convert(given, torch.float64))
    assert_close(found, expected, torch.float32)


@pytest.mark.parametrize("kind", ["dplr", "tridiagonal"])
def test_coupled_scans_give_the_same_bits_and_the_host_never_waits(kind: str) -> None:
    given = moved(coupled(kind, batch=2, length=100, channels=33, modes=16, gaps="distinct"))
    wanted = [t.requires_grad_() for name, t in given.items() if t is not None and name != "dt"]
    scan = dplr_scan if kind == "dplr" else tridiagonal_scan

    def step() -> list[Tensor]:
        y, _ = scan(**given)
        return [y.detach(), *torch.autograd.grad(y.square().sum(), wanted, allow_unused=True)]

    expected = step()  # kernels are compiled
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for first, again in zip(expected, found, strict=True):
        assert (first is None and again is None) or torch.equal(first, again)


@pytest.mark.parametrize("kind", ["diagonal", "dplr", "tridiagonal"])
def test_chunks_of_plain_pytorch_on_the_device(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where there is no Triton."""
    monkeypatch.setattr("tsssm.ops.operands._HAS_TRITON", False)
    if kind == "diagonal":
        check(make_problem(length=130, gaps="distinct", both=True, dtype=torch.float32))
        return
    given = coupled(kind, length=130, gaps="distinct")
    results = (dplr_systems if kind == "dplr" else tridiagonal_systems).results
    found = {name: t.cpu() for name, t in results(moved(given)).items()}
    with by_reference():
        expected = results(convert(given, torch.float64))
    assert_close(found, expected, torch.float32)
