"""Activation, gate and dropout between layers, against the reference, SciPy and published numbers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy.special import expit, ndtr
from scipy.stats import norm
from teams import DEADLOCK

from tsssm.ops import dropout_noise, gated_mix, gating, reference
from tsssm.ops.cpu.gating import gate, kernels
from tsssm.ops.cpu.gating.noise import fill
from tsssm.ops.gating import dropout_level


@pytest.fixture(autouse=True)
def small_calls_too(monkeypatch):
    """Let small calls without noise run the compiled kernels as well."""
    monkeypatch.setattr(gating, "_SMALL", 0)


# float32: a few roundings of numbers of about the size of the largest input, 30.
CLOSE = {"rtol": 1e-6, "atol": 4e-6}


def noise_of(shape, seed=0):
    return dropout_noise(torch.empty(shape), torch.Generator().manual_seed(seed))


def noises_of(shape):
    return noise_of(shape, 1), noise_of(shape, 2)


def operands(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    channels = shape[-1]
    h, y = torch.randn(*shape, generator=generator), 2 * torch.randn(*shape, generator=generator)
    weight = 3 * torch.randn(2 * channels, channels, generator=generator) / channels**0.5
    bias = torch.randn(2 * channels, generator=generator)
    return [t.requires_grad_() for t in (h, y, weight, bias)]


def identity(channels):
    """A weight and a bias that make a equal to the activation and b equal to 0."""
    weight = torch.cat([torch.eye(channels), torch.zeros(channels, channels)])
    return weight, torch.zeros(2 * channels)


@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(3, 7, 32), (1, 1, 16), (5, 48), (700, 16), (3, 2000, 32)])
def test_compiled_equals_the_reference(shape, p):
    """Output and gradients of float32 against those of the reference in float64."""
    tensors, noises = operands(*shape), noises_of(shape) if p else None
    plain = [t.detach().double().requires_grad_() for t in tensors]
    expected = reference.gated_mix(*plain, *(noises or (None, None)), dropout_level(p))
    g = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    out = gated_mix(*tensors, noises, p)
    slow = [expected, *torch.autograd.grad(expected, plain, g.double())]
    fast = [out, *torch.autograd.grad(out, tensors, g)]
    for name, want, got in zip(("out", "h", "y", "weight", "bias"), slow, fast, strict=True):
        # Gradients of the weight and the bias are sums over all rows.
        scale = max(1.0, float(want.detach().abs().max()))
        torch.testing.assert_close(
            got.double() / scale, want / scale, **CLOSE, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_gradients_of_some_operands(missing):
    """As where a weight is frozen: the others get what they get otherwise."""
    tensors = operands(6, 16)
    complete = torch.autograd.grad(gated_mix(*tensors).square().sum(), tensors)
    frozen = [t.detach() if i == missing else t for i, t in enumerate(tensors)]
    wanted = [t for t in frozen if t.requires_grad]
    some = torch.autograd.grad(gated_mix(*frozen).square().sum(), wanted)
    expected = [g for i, g in enumerate(complete) if i != missing]
    assert all(torch.equal(one, two) for one, two in zip(some, expected, strict=True))


def test_without_gradient_the_same_comes_out():
    tensors = operands(5, 300, 16)
    with torch.no_grad():
        out = gated_mix(*tensors)
    assert torch.equal(out, gated_mix(*tensors))


def test_activation_and_its_slope_over_the_whole_range():
    y = torch.linspace(-20, 20, 40_016, dtype=torch.float32).reshape(-1, 16).requires_grad_()
    out = gated_mix(torch.zeros(y.shape), y, *identity(16))
    (slope,) = torch.autograd.grad(out.sum(), y)
    at = y.detach().double().numpy()
    # Half of it, because the gate is half open.
    np.testing.assert_allclose(2 * out.detach().numpy(), at * ndtr(at), rtol=3e-7, atol=3e-8)
    np.testing.assert_allclose(2 * slope.numpy(), ndtr(at) + at * norm.pdf(at), rtol=5e-7, atol=1e-7)


def test_the_gate_saturates_without_cancellation():
    b = torch.linspace(-60, 60, 1600).reshape(100, 16)
    outs, slopes = [], []
    for row in b:  # a = 1 and b from the bias alone
        bias = torch.cat([torch.ones(16), row]).requires_grad_()
        out = gated_mix(torch.zeros(1, 16), torch.ones(1, 16), torch.zeros(32, 16), bias)
        outs.append(out.detach().numpy()[0])
        slopes.append(torch.autograd.grad(out.sum(), bias)[0][16:].numpy())
    b = b.double().numpy()
    np.testing.assert_allclose(outs, expit(b), rtol=1e-6)
    np.testing.assert_allclose(slopes, expit(b) * expit(-b), rtol=1e-6)


def test_what_is_dropped_is_zero_and_the_rest_is_scaled_up():
    shape = (50, 200, 16)
    h, y, (weight, bias) = torch.zeros(shape), torch.full(shape, 2.0), identity(16)
    noises = noises_of(shape)
    out = gated_mix(h, y, weight, bias, noises, 0.25)
    first, second = (noise >= -(2**15) + 2**14 for noise in noises)
    assert torch.equal(out != 0, first & second)
    expected = gated_mix(h, y, weight, bias) / 0.75**2
    torch.testing.assert_close(out[first & second], expected[first & second])
    # five standard deviations of the mean of 160,000 draws
    for kept in (first, second):
        assert abs(kept.double().mean() - 0.75) < 5 * (0.25 * 0.75 / y.numel()) ** 0.5


@pytest.mark.parametrize("p", [0.0, 1e-9])
def test_a_share_that_rounds_to_zero_drops_nothing(p):
    tensors = operands(4, 16)
    assert torch.equal(gated_mix(*tensors, noises_of((4, 16)), p), gated_mix(*tensors))


def test_all_dropped_is_finite():
    tensors = operands(4, 16)
    assert gated_mix(*tensors, noises_of((4, 16)), 1.0).isfinite().all()


def test_words_are_those_of_splitmix64():
    # The first words of its author's C code for the seed 1234567.
    words = np.empty(5, np.uint64)
    fill(words, 1234567)
    assert words.tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_noise_is_uniform_and_follows_from_the_generator():
    shape = (64, 501, 3)
    noise = noise_of(shape)
    assert noise.shape == shape and noise.dtype == torch.int16
    assert torch.equal(noise, noise_of(shape)) and not torch.equal(noise, noise_of(shape, seed=1))
    generator = torch.Generator().manual_seed(0)
    first, second = (dropout_noise(noise, generator) for _ in range(2))
    assert torch.equal(first, noise) and not torch.equal(first, second)
    counts = torch.bincount((noise.long().flatten() + 2**15) // 4096, minlength=16).double()
    expected = noise.numel() / 16
    # chi-squared with 15 degrees of freedom; 45 has a probability of 1e-4
    assert ((counts - expected) ** 2 / expected).sum() < 45


def test_no_noise_for_no_entry():
    assert dropout_noise(torch.empty(0, 4)).shape == (0, 4)


def test_threads_change_nothing(threads):
    tensors = operands(16, 4096, 32)  # large enough for several threads
    noises = noises_of(tensors[0].shape)
    results = []
    for count in (1, 2, 3):
        threads(count)
        out = gated_mix(*tensors, noises, 0.1)
        results.append([out, *torch.autograd.grad(out.sum(), tensors)])
    for other in results[1:]:
        for one, two in zip(results[0][:3], other[:3], strict=True):
            assert torch.equal(one, two)
        for one, two in zip(results[0][3:], other[3:], strict=True):
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-2)  # sums of 65,536 rows


def test_calls_at_the_same_time():
    """Each has buffers of its own."""
    problems = [operands(40, 100, 16, seed=seed) for seed in range(8)]
    expected = [torch.autograd.grad(gated_mix(*p).square().sum(), p) for p in problems]

    def work(seed):
        return [
            torch.autograd.grad(gated_mix(*problems[seed]).square().sum(), problems[seed]) for _ in range(5)
        ]

    with ThreadPoolExecutor(8) as pool:
        for seed, repeated in enumerate(pool.map(work, range(8), timeout=DEADLOCK)):
            for found in repeated:
                assert all(torch.equal(one, two) for one, two in zip(found, expected[seed], strict=True))


def test_modes_of_pytorch(monkeypatch):
    """Buffers that inference made serve training, whatever dtype is the default."""
    tensors = operands(6, 16)
    expected = gated_mix(*tensors)
    monkeypatch.setattr(gate, "_free", [])
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            assert torch.equal(gated_mix(*tensors), expected)
        gated_mix(*tensors).sum().backward()
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(t.grad.isfinite().all() for t in tensors) and gate._free


def test_inputs_need_not_be_contiguous():
    h, y, weight, bias = operands(32, 6, 16)
    swapped = gated_mix(h.transpose(0, 1), y.transpose(0, 1), weight.t().contiguous().t(), bias)
    torch.testing.assert_close(swapped, gated_mix(h, y, weight, bias).transpose(0, 1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "dtype"), [((3, 5, 12), torch.float32), ((3, 16), torch.float64), ((3, 16), torch.bfloat16)]
)
def test_other_widths_and_dtypes_run_the_reference(shape, dtype, monkeypatch):
    for name in ("gelu", "gated_sum"):
        monkeypatch.setattr(kernels, name, None)
    tensors = [t.detach().to(dtype) for t in operands(*shape)]
    noises = noises_of(shape)
    expected = reference.gated_mix(*tensors, *noises, dropout_level(0.2))
    assert torch.equal(gated_mix(*tensors, noises, 0.2), expected)


@pytest.mark.parametrize(("rows", "compiled"), [(100, False), (2**13, True)])
def test_small_calls_without_noise_run_the_reference(rows, compiled, monkeypatch):
    monkeypatch.undo()
    calls = []
    monkeypatch.setattr(kernels, "gelu", lambda *arguments: calls.append(1))
    gated_mix(*(t.detach() for t in operands(rows, 16)))
    assert bool(calls) == compiled


def test_nan_comes_through():
    h, y, weight, bias = (t.detach() for t in operands(4, 16))
    h[1, 2], y[2, 5] = float("nan"), float("nan")
    expected = h.isnan()
    expected[2] = True  # the map mixes the channels of a sample
    assert torch.equal(gated_mix(h, y, weight, bias).isnan(), expected)


def test_compiled_graphs_take_the_plain_operations():
    tensors = [t.detach() for t in operands(4, 16)]
    graph = torch.compile(gated_mix, backend="eager", fullgraph=True)
    torch.testing.assert_close(graph(*tensors), gated_mix(*tensors))


@pytest.mark.parametrize(
    ("y", "weight", "bias", "noise", "message"),
    [
        (
            (4, 32),
            (32, 16),
            (32,),
            None,
            r"y must be of the shape of h .* = \(4, 16\).*got \(4, 32\)",
        ),
        ((4, 16), (16, 32), (32,), None, r"weight \(2 H, H\).*got \(4, 16\), \(16, 32\) and \(32,\)"),
        ((4, 16), (32, 16), (16,), None, r"bias \(2 H,\).*got .*\(16,\)"),
        (
            (4, 16),
            (32, 16),
            (32,),
            torch.zeros(4, 15, dtype=torch.int16),
            r"noises must be int16 of the shape of h, \(4, 16\); got torch.int16 \(4, 15\)",
        ),
        ((4, 16), (32, 16), (32,), torch.zeros(4, 16), r"noises must be int16 .*got torch.float32"),
    ],
)
def test_shapes_that_disagree_are_refused(y, weight, bias, noise, message):
    noises = None if noise is None else (noise, noise)
    with pytest.raises(ValueError, match=message):
        gated_mix(torch.zeros(4, 16), *(torch.zeros(shape) for shape in (y, weight, bias)), noises, 0.1)
