"""The pooled scan: the compiled pass against the reference, and the reference against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pooled_systems import TOLERANCE, operands
from scipy.integrate import solve_ivp

from tsssm.ops import pooled_scan, readout_scan, reference
from tsssm.ops.cpu.features import ResumedScan


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("modes", [1, 5, 17])
def test_compiled_equals_reference(dtype, dense, modes):
    given = operands((40, 1, 23), dense=dense, modes=modes, dtype=dtype)
    fast = pooled_scan(**given)
    slow = reference.pooled_scan(*given.values(), 8, True, True)
    assert fast.shape == (3, 3, 4, 16) and fast.dtype == dtype
    torch.testing.assert_close(fast, slow, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dense", [False, True])
def test_readouts_of_every_sample(dense):
    given = operands((520, 3), dense=dense)
    del given["weight"], given["thresholds"]
    torch.testing.assert_close(
        readout_scan(**given), reference.readout_scan(**given), rtol=0, atol=TOLERANCE[torch.float64]
    )


@pytest.mark.parametrize("shares, competition", [(True, False), (False, True)])
def test_either_kind_alone(shares, competition):
    given = operands()
    alone = pooled_scan(**given, shares=shares, competition=competition)
    torch.testing.assert_close(
        alone, pooled_scan(**given)[:, :, :2] if shares else pooled_scan(**given)[:, :, 2:]
    )
    slow = reference.pooled_scan(*given.values(), 8, shares, competition)
    torch.testing.assert_close(alone, slow, rtol=0, atol=TOLERANCE[torch.float64])


def test_series_longer_than_a_chunk():
    given = operands((1100, 512, 513), groups=2, readouts=8)
    slow = reference.pooled_scan(*given.values(), 8, True, True)
    torch.testing.assert_close(pooled_scan(**given), slow, rtol=0, atol=TOLERANCE[torch.float64])


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("shares, competition", [(True, True), (True, False), (False, True)])
def test_piece_by_piece(dense, shares, competition):
    given = operands((1200,), dense=dense, modes=17 if dense else 5)
    whole = pooled_scan(**given, shares=shares, competition=competition)[0].numpy()
    names = ("A", "B", "mix_u", "mix_held", "C", "D", "thresholds")
    scan = ResumedScan(*(given[name] for name in names), shares, competition)
    steps = given["steps"][given["index"]].numpy()
    u, held, weight = (given[name].numpy() for name in ("u", "held", "weight"))
    state, pooled = scan.initial_state(), np.zeros(scan.shape)
    start = 0
    for stop in (1, 2, 7, 600, 1200):
        first = max(0, start - 1)
        parts = (np.ascontiguousarray(signal[:, first:stop]) for signal in (u, held))
        scan.advance(state, *parts, steps[first:stop], weight[first:stop], pooled, start == 0)
        start = stop
    np.testing.assert_allclose(pooled, whole, rtol=0, atol=TOLERANCE[torch.float64])


def test_more_distinct_steps_than_are_kept():
    given = operands((600,))
    given["steps"] = torch.linspace(0.1, 3.0, 600, dtype=torch.float64)
    given["index"] = torch.arange(600)
    names = ("A", "B", "mix_u", "mix_held", "C", "D", "thresholds")
    scan = ResumedScan(*(given[name] for name in names), True, True)
    state, pooled = scan.initial_state(), np.zeros(scan.shape)
    for k in range(600):
        part = slice(max(0, k - 1), k + 1)
        parts = (np.ascontiguousarray(given[name].numpy()[:, part]) for name in ("u", "held"))
        steps, weight = given["steps"].numpy()[part], given["weight"].numpy()[part]
        scan.advance(state, *parts, steps, weight, pooled, k == 0)
    np.testing.assert_allclose(pooled, pooled_scan(**given)[0].numpy(), rtol=0, atol=TOLERANCE[torch.float64])


@pytest.mark.parametrize("lengths", [(40, 1, 23, 700), (900,)])
def test_bit_equal_for_any_number_of_threads(lengths):
    given = operands(lengths, dtype=torch.float32)
    alone = pooled_scan(**given)
    for threads in (2, 3, 8):
        assert torch.equal(pooled_scan(**given, n_threads=threads), alone)


def test_readouts_are_those_of_the_differential_equation():
    """The largest of eight readouts, integrated by SciPy through the same piecewise linear input."""
    given = operands((12,), groups=1, modes=2, readouts=8, channels=1, held=1)
    steps = given["steps"][given["index"]].numpy()
    times = np.concatenate([[0.0], np.cumsum(steps[1:])])
    u = (given["mix_u"] @ given["u"]).numpy()[0]
    w = (given["mix_held"] @ given["held"]).numpy()[0]
    A, C, D = given["A"][0].numpy(), given["C"][0].numpy(), given["D"][0].numpy()

    def advance(x, first, last, before, now):
        if first == last:
            return x

        def slope(t, x):
            return A * x + before + (now - before) * (t - first) / (last - first)

        return solve_ivp(slope, (first, last), x, rtol=1e-10, atol=1e-12).y[:, -1]

    x = advance(np.zeros(2, complex), -steps[0], 0.0, u[0] + w[0], u[0] + w[0])
    best = np.zeros(8)
    for k in range(12):
        if k:
            x = advance(x, times[k - 1], times[k], u[k - 1] + w[k], u[k] + w[k])
        y = (C @ x).real + D * (u[k] + w[k])
        best[y.argmax()] += given["weight"][k] * y.max()
    np.testing.assert_allclose(pooled_scan(**given)[0, 0, 2], best, atol=1e-7)  # float64; that of the solver


def test_equal_readouts_all_count():
    given = operands((5,))
    given["u"] = torch.zeros_like(given["u"])
    given["held"] = torch.zeros_like(given["held"])
    given["weight"] = torch.full((5,), 0.2, dtype=torch.float64)
    pooled = pooled_scan(**given)
    torch.testing.assert_close(pooled[:, :, 0], (given["thresholds"][None, :, 0] < 0).double())
    assert torch.equal(pooled[:, :, 2], torch.zeros(1, 3, 16, dtype=torch.float64))
    torch.testing.assert_close(pooled[:, :, 3], torch.ones(1, 3, 16, dtype=torch.float64))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"u": torch.zeros(2, 3, 4)}, "u must be float32 or float64"),
        ({"held": torch.zeros(2, 9, dtype=torch.float64)}, r"held must be torch.float64 \(2, 64\)"),
        ({"A": torch.zeros(3, 5)}, "A must be complex128"),
        ({"C": torch.zeros(3, 12, 5, dtype=torch.complex128)}, "multiple of 8"),
        ({"steps": torch.zeros(0, dtype=torch.float64)}, r"steps must be torch.float64 \(1,\)"),
        ({"offsets": torch.tensor([0, 40, 40, 64])}, "offsets must increase from 0 to 64"),
        ({"index": torch.full((64,), 4)}, "index must be between 0 and 3; got 4 to 4"),
        ({"thresholds": torch.zeros(3, 2, 8, dtype=torch.float64)}, "thresholds must be"),
        ({"shares": False, "competition": False}, "got neither"),
    ],
)
def test_bad_operands(change, message):
    with pytest.raises(ValueError, match=message):
        pooled_scan(**{**operands(), **change})
