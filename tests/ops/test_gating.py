"""Activation, gate and dropout between layers, against the reference, SciPy and published numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, ndtr
from scipy.stats import norm

from tsssm.ops import dropout_noise, gated_sum, gelu, reference
from tsssm.ops.cpu.gating import kernels
from tsssm.ops.cpu.gating.noise import fill
from tsssm.ops.gating import dropout_level

# float32: a few roundings of numbers of about the size of the largest input, 30.
CLOSE = {"rtol": 1e-6, "atol": 4e-6}


def noise_of(shape, seed=0):
    return dropout_noise(torch.empty(shape), torch.Generator().manual_seed(seed))


def operands(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(*shape, generator=generator)
    z = 5 * torch.randn(*shape[:-1], 2 * shape[-1], generator=generator)
    bias = torch.randn(2 * shape[-1], generator=generator)
    return [t.requires_grad_() for t in (h, z, bias)]


def by_reference(function, tensors, noise, p):
    """Output and gradients in float64 of the reference, and those of ``function`` in float32."""
    plain = [t.detach().double().requires_grad_() for t in tensors]
    expected = getattr(reference, function.__name__)(*plain, noise, dropout_level(p))
    g = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    out = function(*tensors, noise, p)
    return (
        [expected, *torch.autograd.grad(expected, plain, g.double())],
        [out, *torch.autograd.grad(out, tensors, g)],
    )


@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(3, 7, 32), (1, 1, 16), (5, 48), (600, 16)])
def test_compiled_equals_the_reference(shape, p):
    noise = noise_of(shape) if p else None
    y = (4 * torch.randn(*shape, generator=torch.Generator().manual_seed(2))).requires_grad_()
    for function, tensors in ((gelu, [y]), (gated_sum, operands(*shape))):
        for expected, got in zip(*by_reference(function, tensors, noise, p), strict=True):
            # The gradient of the bias is a sum over all rows.
            scale = max(1.0, float(expected.detach().abs().max()))
            torch.testing.assert_close(got.double() / scale, expected / scale, **CLOSE)


def test_gelu_and_its_slope_over_the_whole_range():
    y = torch.linspace(-20, 20, 40_016, dtype=torch.float32).requires_grad_()
    out = gelu(y)
    (slope,) = torch.autograd.grad(out.sum(), y)
    at = y.detach().double().numpy()
    np.testing.assert_allclose(out.detach().numpy(), at * ndtr(at), rtol=3e-7, atol=3e-8)
    np.testing.assert_allclose(slope.numpy(), ndtr(at) + at * norm.pdf(at), rtol=5e-7, atol=1e-7)


def test_the_gate_saturates_without_cancellation():
    b = torch.linspace(-60, 60, 1600)
    z = torch.stack([torch.ones_like(b), b], -1).reshape(100, 16, 2).transpose(1, 2).reshape(100, 32)
    z.requires_grad_()
    out = gated_sum(torch.zeros(100, 16), z, torch.zeros(32))
    (gz,) = torch.autograd.grad(out.sum(), z)
    b = b.double().reshape(100, 16).numpy()
    np.testing.assert_allclose(out.detach().numpy(), expit(b), rtol=1e-6)
    np.testing.assert_allclose(gz[:, 16:].numpy(), expit(b) * expit(-b), rtol=1e-6)


def test_what_is_dropped_is_zero_and_the_rest_is_scaled_up():
    y = torch.full((50, 200, 16), 2.0)
    noise = noise_of(y.shape)
    out, kept = gelu(y, noise, 0.25), noise >= -(2**15) + 2**14
    assert torch.equal(out != 0, kept)
    torch.testing.assert_close(out[kept], (gelu(y) / 0.75)[kept])
    # five standard deviations of the mean of 160,000 draws
    assert abs(kept.double().mean() - 0.75) < 5 * (0.25 * 0.75 / y.numel()) ** 0.5


@pytest.mark.parametrize("p", [0.0, 1e-9])
def test_a_share_that_rounds_to_zero_drops_nothing(p):
    h, z, bias = operands(4, 16)
    assert torch.equal(gelu(h, noise_of(h.shape), p), gelu(h))
    assert torch.equal(gated_sum(h, z, bias, noise_of(h.shape), p), gated_sum(h, z, bias))


def test_all_dropped_is_finite():
    h = torch.ones(4, 16)
    assert gelu(h, noise_of(h.shape), 1.0).isfinite().all()


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
    noise = noise_of(tensors[0].shape)
    results = []
    for count in (1, 2, 3):
        threads(count)
        out = gated_sum(*tensors, noise, 0.1)
        active = gelu(tensors[0], noise, 0.1)
        results.append([out, active, *torch.autograd.grad(out.sum() + active.sum(), tensors)])
    for other in results[1:]:
        for one, two in zip(results[0][:4], other[:4], strict=True):
            assert torch.equal(one, two)
        torch.testing.assert_close(results[0][4], other[4], rtol=1e-5, atol=1e-3)  # sums of 65,536 rows


def test_inputs_need_not_be_contiguous():
    h, z, bias = operands(32, 6, 16)
    swapped = gated_sum(h.transpose(0, 1), z.transpose(0, 1), bias)
    assert torch.equal(swapped, gated_sum(h, z, bias).transpose(0, 1))
    assert torch.equal(gelu(h.transpose(0, 1)), gelu(h).transpose(0, 1))


@pytest.mark.parametrize(
    ("shape", "dtype"), [((3, 5, 12), torch.float32), ((3, 16), torch.float64), ((3, 16), torch.bfloat16)]
)
def test_other_widths_and_dtypes_run_the_reference(shape, dtype, monkeypatch):
    for name in ("gelu", "gated_sum"):
        monkeypatch.setattr(kernels, name, None)
    h, z, bias = (t.detach().to(dtype) for t in operands(*shape))
    noise = noise_of(shape)
    level = dropout_level(0.2)
    assert torch.equal(gelu(h, noise, 0.2), reference.gelu(h, noise, level))
    assert torch.equal(gated_sum(h, z, bias, noise, 0.2), reference.gated_sum(h, z, bias, noise, level))


def test_nan_comes_through():
    h, z, bias = (t.detach() for t in operands(4, 16))
    h[1, 2], z[2, 20] = float("nan"), float("nan")
    assert torch.equal(gelu(h).isnan(), h.isnan())
    expected = h.isnan()
    expected[2, 4] = True
    assert torch.equal(gated_sum(h, z, bias).isnan(), expected)


def test_compiled_graphs_take_the_plain_operations():
    h, z, bias = (t.detach() for t in operands(4, 16))
    graph = torch.compile(lambda h, z, bias: gated_sum(gelu(h), z, bias), backend="eager", fullgraph=True)
    torch.testing.assert_close(graph(h, z, bias), gated_sum(gelu(h), z, bias))


@pytest.mark.parametrize(
    ("z", "bias", "noise", "message"),
    [
        ((4, 16), (32,), None, r"z must be .*\(4, 16\); got \(4, 16\)"),
        ((4, 32), (16,), None, r"bias \(2 H,\).*got \(4, 32\) and \(16,\)"),
        (
            (4, 32),
            (32,),
            torch.zeros(4, 15, dtype=torch.int16),
            r"noise must be int16 .*got torch.int16 \(4, 15\)",
        ),
        ((4, 32), (32,), torch.zeros(4, 16), r"noise must be int16 .*got torch.float32"),
    ],
)
def test_shapes_that_disagree_are_refused(z, bias, noise, message):
    with pytest.raises(ValueError, match=message):
        gated_sum(torch.zeros(4, 16), torch.zeros(z), torch.zeros(bias), noise, 0.1)
