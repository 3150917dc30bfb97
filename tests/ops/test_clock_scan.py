"""The scan of runs of measurements: closed form, gradients, and compiled against the reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from tsssm.ops import clock_scan, reference

TOLERANCE = {torch.float32: {"rtol": 1e-5, "atol": 1e-5}, torch.float64: {"rtol": 1e-12, "atol": 1e-12}}


def operands(lengths=(3, 1, 7, 2), systems=2, inputs=3, dtype=torch.float64, seed=0):
    """Values, gaps (some 0), offsets and rates (one 0) of runs of so many measurements."""
    g = torch.Generator().manual_seed(seed)
    offsets = torch.tensor([0, *np.cumsum(lengths)])
    total = int(offsets[-1])
    values = torch.randn(total, inputs, generator=g, dtype=dtype)
    gaps = torch.rand(total, generator=g, dtype=dtype) * 3
    gaps[total // 2] = 0.0
    rates = torch.rand(len(lengths), systems, generator=g, dtype=dtype)
    rates[0, 0] = 0.0
    return values, gaps, offsets, rates


@pytest.mark.parametrize("scan", [clock_scan, reference.clock_scan])
def test_states_are_sums_that_fade(scan):
    values, gaps, offsets, rates = operands()
    states = scan(values, gaps, offsets, rates)
    for run, (start, stop) in enumerate(zip(offsets[:-1], offsets[1:], strict=True)):
        for j in range(start, stop):
            expected = torch.zeros(rates.shape[1], values.shape[1], dtype=values.dtype)
            for i in range(start, j + 1):
                since = gaps[i + 1 : j + 1].sum()
                expected += torch.exp(-rates[run] * since)[:, None] * values[i]
            torch.testing.assert_close(states[j], expected)


def test_between_measurements_the_state_solves_its_equation():
    values, gaps, offsets, rates = operands(lengths=(4,), systems=1, inputs=1)
    x = 0.0
    for j in range(4):
        if j:
            flow = solve_ivp(lambda _, x: -rates[0, 0].item() * x, (0, gaps[j].item()), [x], rtol=1e-10)
            x = flow.y[0, -1]
        x += values[j, 0].item()
    assert clock_scan(values, gaps, offsets, rates)[-1, 0, 0].item() == pytest.approx(x, rel=1e-7)


def test_one_time_constant_and_a_count_give_a_weighted_mean():
    values, gaps, offsets, rates = operands(inputs=1)
    both = torch.cat([torch.ones_like(values), values], dim=1)
    count, total = clock_scan(both, gaps, offsets, rates, last=True).unbind(-1)
    assert offsets.tolist() == [0, 3, 4, 11, 13]
    t = torch.cat([gaps.new_zeros(1), gaps[5:11].cumsum(0)])
    weight = torch.exp(rates[2, 1] * (t - t[-1]))
    expected = np.average(values[4:11, 0].numpy(), weights=weight.numpy())
    assert (total / count)[2, 1].item() == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lengths", [(3, 1, 7, 2), (1,), (40,), (1, 1, 1)])
@pytest.mark.parametrize("last", [False, True])
def test_compiled_is_the_reference(lengths, last, dtype):
    values, gaps, offsets, rates = operands(lengths, dtype=dtype)
    found, expected = [], []
    for scan, kept in ((clock_scan, found), (None, expected)):
        v, r = values.clone().requires_grad_(), rates.clone().requires_grad_()
        if scan is None:
            states = reference.clock_scan(v, gaps, offsets, r)
            states = states[offsets[1:] - 1] if last else states
        else:
            states = scan(v, gaps, offsets, r, last=last)
        weight = torch.linspace(-1, 1, states.numel(), dtype=dtype).view_as(states)
        kept += [states, *torch.autograd.grad((states * weight).sum(), (v, r), materialize_grads=True)]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **TOLERANCE[dtype])
    with torch.no_grad():
        plain = clock_scan(values, gaps, offsets, rates, last=last)
    torch.testing.assert_close(plain, found[0], rtol=0, atol=0)


def test_gradients_are_those_of_differences():
    values, gaps, offsets, rates = operands()
    inputs = values.requires_grad_(), rates[:, :].requires_grad_()
    assert torch.autograd.gradcheck(lambda v, r: clock_scan(v, gaps, offsets, r), inputs)
    timed = gaps.requires_grad_()
    assert torch.autograd.gradcheck(lambda g: clock_scan(values, g, offsets, rates), (timed,))


def test_nothing_measured():
    empty = torch.zeros(0, 2), torch.zeros(0), torch.zeros(1, dtype=torch.int64), torch.zeros(0, 3)
    assert clock_scan(*empty).shape == reference.clock_scan(*empty).shape == (0, 3, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": torch.zeros(13)}, r"values must be \(m, F\)"),
        ({"values": torch.zeros(13, 3, dtype=torch.int64)}, "values must be .* got torch.int64"),
        ({"gaps": torch.zeros(12, dtype=torch.float64)}, r"gaps must be \(13,\) of torch.float64"),
        ({"gaps": torch.zeros(13)}, "gaps must be .* got torch.float32"),
        ({"rates": torch.zeros(3, 2, dtype=torch.float64)}, r"rates must be \(4, K\)"),
        ({"offsets": torch.tensor([0, 3, 3, 11, 13])}, "offsets must be int64 and increase from 0 to 13"),
        ({"offsets": torch.tensor([0, 3, 4, 11, 12])}, "offsets must be int64 and increase from 0 to 13"),
    ],
)
def test_bad_operands(change, message):
    named = dict(zip(("values", "gaps", "offsets", "rates"), operands(), strict=True))
    with pytest.raises(ValueError, match=message):
        clock_scan(**{**named, **change})
