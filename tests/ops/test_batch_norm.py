"""Batch normalisation with padding: compiled against PyTorch's of the gathered samples, in float64."""

from __future__ import annotations

import pytest
import torch

from tsssm.ops import batch_norm, normalization, reference
from tsssm.ops.cpu.normalization import kernels, norm

# float32 of numbers of size one
CLOSE = {"rtol": 1e-5, "atol": 2e-6}


def operands(*shape, seed=0, mean=0.5):
    generator = torch.Generator().manual_seed(seed)
    h = mean + 2 * torch.randn(*shape, generator=generator)
    weight, bias = (torch.randn(shape[-1], generator=generator) for _ in range(2))
    return [t.requires_grad_() for t in (h, weight, bias)]


def running(channels, dtype=torch.float32):
    return torch.full((channels,), 0.25, dtype=dtype), torch.full((channels,), 2.0, dtype=dtype)


def keep_of(kind, batch, length):
    if kind == "all":
        return None
    share = 1.0 if kind == "all are kept" else 0.6
    keep = torch.rand(batch, length, generator=torch.Generator().manual_seed(3)) < share
    if kind == "a long gap":
        keep[:, length // 3 :] = False  # blocks of rows without one that counts
    keep[0, :2] = True
    return keep


@pytest.mark.parametrize("kind", ["all", "all are kept", "some", "a long gap"])
@pytest.mark.parametrize("shape", [(3, 50, 32), (1, 40, 16), (2, 700, 48)])
def test_compiled_equals_the_reference(shape, kind):
    keep = keep_of(kind, *shape[:2])
    tensors = operands(*shape)
    plain = [t.detach().double().requires_grad_() for t in tensors]
    ours, theirs = running(shape[-1]), running(shape[-1], torch.float64)
    out = batch_norm(tensors[0], *ours, *tensors[1:], keep)
    expected = reference.batch_norm(plain[0], *theirs, *plain[1:], keep, 0.1, 1e-5)
    torch.testing.assert_close(out.double(), expected, **CLOSE)
    for got, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got.double(), wanted, **CLOSE)
    g = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    gradients = torch.autograd.grad(out, tensors, g)
    for got, wanted in zip(gradients, torch.autograd.grad(expected, plain, g.double()), strict=True):
        scale = max(1.0, float(wanted.abs().max()))  # those of weight and bias are sums over all samples
        torch.testing.assert_close(got.double() / scale, wanted / scale, **CLOSE)
    if keep is not None:
        assert not out[~keep].any() and not gradients[0][~keep].any()


@pytest.mark.parametrize("kind", ["some", "a long gap"])
def test_sums_of_a_device_equal_the_reference(kind):
    """What runs where the host must not wait for the number of samples."""
    keep, tensors = keep_of(kind, 3, 50), operands(3, 50, 8)
    plain = [t.detach().double().requires_grad_() for t in tensors]
    ours, theirs = running(8), running(8, torch.float64)
    out = normalization._masked(tensors[0], *ours, *tensors[1:], keep, 0.1, 1e-5)
    expected = reference.batch_norm(plain[0], *theirs, *plain[1:], keep, 0.1, 1e-5)
    g = torch.randn(3, 50, 8, generator=torch.Generator().manual_seed(1))
    found = [out, *ours, *torch.autograd.grad(out, tensors, g)]
    for got, wanted in zip(
        found, [expected, *theirs, *torch.autograd.grad(expected, plain, g.double())], strict=True
    ):
        scale = max(1.0, float(wanted.detach().abs().max()))
        torch.testing.assert_close(got.double() / scale, wanted / scale, **CLOSE)


def test_a_sample_alone_is_normalised_by_the_running_statistics_on_a_device():
    h, weight, bias = operands(2, 4, 8)
    keep = torch.zeros(2, 4, dtype=torch.bool)
    statistics = running(8)
    for count in (0, 1):
        keep[0, :count] = True
        out = normalization._masked(h, *statistics, weight, bias, keep, 0.1, 1e-5)
        for found, before in zip(statistics, running(8), strict=True):
            torch.testing.assert_close(found, before)
        assert all(g.isfinite().all() for g in torch.autograd.grad(out.sum(), (h, weight, bias)))
    mean, variance = statistics
    expected = (h[0, 0] - mean) / torch.sqrt(variance + 1e-5) * weight + bias
    torch.testing.assert_close(out[0, 0], expected)


@pytest.mark.parametrize("whole", [False, True])
def test_a_mean_far_from_zero_keeps_the_variance(whole):
    h, weight, bias = (t.detach() for t in operands(4, 2000, 16, mean=1e4))
    ours, theirs = running(16), running(16, torch.float64)
    keep = None if whole else torch.ones(4, 2000, dtype=torch.bool)
    out = batch_norm(h, *ours, weight, bias, keep)
    expected = reference.batch_norm(h.double(), *theirs, weight.double(), bias.double(), None, 0.1, 1e-5)
    off = out.double() - expected
    if whole:  # PyTorch sums means in float32: all of a channel may be off by a hundredth of its spread or so
        shift = off.mean((0, 1))
        assert (shift.abs() < 0.05 * weight.abs()).all()
        off = off - shift
    # The inputs stand 1e-3 apart at 1e4, a part in 2,000 of their spread.
    assert (off.abs() < 2e-3 + 1e-3 * expected.abs()).all()
    torch.testing.assert_close(ours[1].double(), theirs[1], rtol=1e-4, atol=0)


def test_padding_may_hold_anything():
    h, weight, bias = (t.detach() for t in operands(3, 40, 16))
    keep = keep_of("some", 3, 40)
    clean = batch_norm(h, *running(16), weight, bias, keep)
    h[~keep] = float("nan")
    assert torch.equal(batch_norm(h, *running(16), weight, bias, keep), clean)


def test_threads_change_nothing_but_rounding(threads, monkeypatch):
    monkeypatch.setattr(norm, "_ENTRIES_PER_THREAD", 1)
    tensors, keep = operands(5, 333, 32), keep_of("some", 5, 333)
    results = []
    for count in (1, 2, 3):
        threads(count)
        statistics = running(32)
        out = batch_norm(tensors[0], *statistics, *tensors[1:], keep)
        results.append([out, *statistics, *torch.autograd.grad(out.square().sum(), tensors)])
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("channels", "dtype"), [(12, torch.float32), (16, torch.float64)])
def test_other_widths_and_dtypes_run_the_reference(channels, dtype, monkeypatch):
    monkeypatch.setattr(kernels, "statistics", None)
    h, weight, bias = (t.detach().to(dtype) for t in operands(3, 8, channels))
    keep = keep_of("some", 3, 8)
    expected = reference.batch_norm(h, *running(channels, dtype), weight, bias, keep, 0.1, 1e-5)
    assert torch.equal(batch_norm(h, *running(channels, dtype), weight, bias, keep), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"h": torch.zeros(4, 16)}, r"h must be floating point \(batch, L, H\); got .* \(4, 16\)"),
        ({"weight": torch.zeros(15)}, r"weight must be \(16,\) for h \(2, 3, 16\); got \(15,\)"),
        ({"running_var": torch.zeros(1)}, r"running_var must be \(16,\)"),
        ({"keep": torch.ones(2, 3)}, r"keep must be bool \(2, 3\); got torch.float32"),
        (
            {"keep": torch.ones(3, 2, dtype=torch.bool)},
            r"keep must be bool \(2, 3\); got torch.bool \(3, 2\)",
        ),
        (
            {"keep": torch.zeros(2, 3, dtype=torch.bool)},
            r"at least two samples to keep; got 0 of \(2, 3, 16\)",
        ),
    ],
)
def test_what_disagrees_is_refused_and_changes_no_statistics(change, message):
    mean, variance = running(16)
    given = {
        "h": torch.zeros(2, 3, 16),
        "running_mean": mean,
        "running_var": variance,
        "weight": torch.ones(16),
        "bias": torch.zeros(16),
        **change,
    }
    with pytest.raises(ValueError, match=message):
        batch_norm(**given)
    assert torch.equal(mean, running(16)[0])
