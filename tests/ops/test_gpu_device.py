"""The Triton kernels on a CUDA device; on other machines these tests say that they did not run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from systems import RULES, Problem, assert_close, by_reference, make_problem, results
from torch import Tensor

from tsssm.ops import ScanState, causal_conv, diagonal_scan, vandermonde

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
        # Transitions stay off the kink at |F| = 1.
        problem = problem._replace(u=problem.u.abs() + 0.5, B=(problem.B.abs() + 0.1).to(problem.B.dtype))
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


def test_a_gradient_of_the_gaps_is_left_to_the_reference() -> None:
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
