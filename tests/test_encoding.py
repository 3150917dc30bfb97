from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tsssm.encoding import PanelEncoder
from tsssm.panel import Panel

# Standardised values are float64 rounded once to float32.
FLOAT32 = {"rtol": 2e-7, "atol": 2e-7}


def ragged(rng, *, missing=0.0, times=True):
    """Five series of two channels, 1 to 9 samples, irregular times."""
    lengths = np.array([4, 1, 9, 6, 5])
    values = rng.normal(3.0, 2.0, size=(lengths.sum(), 2)).astype(np.float32)
    values[rng.random(values.shape) < missing] = np.nan
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    stamps = np.concatenate([np.cumsum(rng.uniform(0.5, 2.0, size=n)) for n in lengths])
    return Panel(values, offsets, stamps if times else None)


def test_values_are_standardised_by_the_moments_of_the_training_panel():
    rng = np.random.default_rng(0)
    train, test = ragged(rng), ragged(rng)
    encoder = PanelEncoder().fit(train)
    values = train.values.astype(np.float64)
    expected = (test.values - values.mean(axis=0)) / values.std(axis=0)
    encoded = encoder.encode(test)
    assert encoded.u.dtype == torch.float32 and encoded.dt.dtype == torch.float32
    np.testing.assert_allclose(encoded.u.numpy(), expected, **FLOAT32)
    assert encoder.n_inputs == 2 and not encoder.missing


def test_moments_leave_missing_values_out_and_keep_digits_under_a_large_offset():
    rng = np.random.default_rng(1)
    values = (1e4 + rng.normal(size=(2000, 2))).astype(np.float32)
    values[rng.random(values.shape) < 0.3] = np.nan
    values[:, 1] = np.where(np.isnan(values[:, 0]), 0.0, values[:, 1])  # no sample is missing altogether
    encoder = PanelEncoder().fit(Panel(values, [0, 900, 2000]))
    np.testing.assert_allclose(encoder.mean, np.nanmean(values.astype(np.float64), axis=0), rtol=1e-12)
    np.testing.assert_allclose(encoder.std, np.nanstd(values.astype(np.float64), axis=0), rtol=1e-9)


def test_constant_and_empty_channels_become_zero():
    values = np.column_stack([np.full(6, 0.1), np.full(6, np.nan), np.arange(6.0)]).astype(np.float32)
    encoder = PanelEncoder().fit(Panel(values, [0, 6]))
    np.testing.assert_array_equal(encoder.std[:2], 1.0)
    u = encoder.encode(Panel(values, [0, 6])).u
    np.testing.assert_allclose(u[:, :2].numpy(), 0.0, atol=1e-7)
    assert u.isfinite().all()


def test_gaps_are_in_units_of_the_median_gap_and_one_at_the_start():
    times = np.array([5.0, 5.5, 7.0, 0.0, 0.5, 1.0, 9.0])
    panel = Panel(np.arange(7.0)[:, None], [0, 3, 7], times)
    encoder = PanelEncoder().fit(panel)
    assert encoder.time_scale_ == 0.5
    np.testing.assert_allclose(encoder.encode(panel).dt.numpy(), [1, 1, 3, 1, 1, 1, 16])
    assert PanelEncoder(2.0).fit(panel).encode(panel).dt.tolist() == [1, 0.25, 0.75, 1, 0.25, 0.25, 4.0]


def test_the_median_ignores_equal_time_stamps_which_keep_a_gap_of_zero():
    panel = Panel(np.arange(5.0)[:, None], [0, 5], [0.0, 0.0, 0.0, 0.0, 2.0])
    encoder = PanelEncoder().fit(panel)
    assert encoder.time_scale_ == 2.0
    assert encoder.encode(panel).dt.tolist() == [1, 0, 0, 0, 1]


@pytest.mark.parametrize("start", [0.0, 1.7e9], ids=["from zero", "epoch seconds"])
def test_a_regular_grid_is_recognised_through_rounding(start):
    times = start + np.arange(400) * 0.008
    panel = Panel(np.zeros((400, 1)), [0, 400], times)
    encoded = PanelEncoder().fit(panel).encode(panel)
    assert encoded.regular
    times[200:] += 1e-4
    shifted = Panel(np.zeros((400, 1)), [0, 400], times)
    assert not PanelEncoder().fit(panel).encode(shifted).regular


@pytest.mark.parametrize("with_times", [False, True])
def test_a_sample_missing_in_every_channel_becomes_a_longer_gap(with_times):
    values = np.array([[1.0, 2.0], [np.nan, np.nan], [np.nan, np.nan], [3.0, 4.0], [5.0, 6.0]])
    times = [0.0, 0.5, 1.0, 1.5, 2.0] if with_times else None
    panel = Panel(values, [0, 5], times)
    encoder = PanelEncoder(0.5 if with_times else "median").fit(panel)
    assert not encoder.missing
    assert encoder.encode(panel).dt.tolist() == [1, 3, 1]


def test_a_series_without_any_value_stays_as_one_sample_at_the_mean():
    train = Panel(np.array([[1.0], [3.0]]), [0, 2])
    test = Panel(np.array([[np.nan], [np.nan], [3.0]]), [0, 2, 3])
    encoded = PanelEncoder().fit(train).encode(test)
    assert encoded.lengths.tolist() == [1, 1]
    assert encoded.u.ravel().tolist() == [0, 1]


def brute_force_missing(panel, encoder):
    """Values, mask and log time since an earlier sighting, sample by sample."""
    rows = []
    for series in panel.drop_missing_rows():
        times = (series.times - series.times[0]) / encoder.time_scale_
        for k, sample in enumerate(series.values.astype(np.float64)):
            seen = ~np.isnan(sample)
            standard = [
                (x - m) / s if ok else 0.0
                for x, m, s, ok in zip(sample, encoder.mean, encoder.std, seen, strict=True)
            ]
            since = []
            for channel in range(len(sample)):
                earlier = [j for j in range(k) if not math.isnan(series.values[j, channel])]
                since.append(math.log1p(times[k] - times[max(earlier, default=0)]))
            rows.append([*standard, *seen, *since])
    return np.array(rows)


def test_missing_values_bring_a_mask_and_the_time_since_the_channel_was_seen():
    rng = np.random.default_rng(2)
    panel = ragged(rng, missing=0.4)
    encoder = PanelEncoder().fit(panel)
    assert encoder.missing and encoder.n_inputs == 6
    np.testing.assert_allclose(
        encoder.encode(panel).u.numpy(), brute_force_missing(panel, encoder), **FLOAT32
    )


def test_values_missing_for_the_first_time_at_predict_are_filled_forward():
    train = Panel(np.array([[0.0, 10.0], [2.0, 30.0]]), [0, 2])
    nan = np.nan
    test = Panel(np.array([[2.0, 10.0], [nan, 30.0], [nan, 10.0], [2.0, nan], [0.0, nan]]), [0, 3, 5])
    encoded = PanelEncoder().fit(train).encode(test)
    # means (1, 20), standard deviations (1, 10); the second series has not seen its second channel yet.
    assert encoded.u.tolist() == [[1, -1], [1, 1], [1, -1], [1, 0], [-1, 0]]


def test_panels_without_times_lie_on_the_grid_of_the_training_panel():
    times = np.arange(6) * 0.5
    train = Panel(np.arange(6.0)[:, None], [0, 6], times)
    test = Panel(np.arange(4.0)[:, None], [0, 4])
    assert PanelEncoder().fit(train).encode(test).dt.tolist() == [1, 1, 1, 1]
    # In units of two seconds the median step of the training panel is a quarter.
    assert PanelEncoder(2.0).fit(train).encode(test).dt.tolist() == [1, 0.25, 0.25, 0.25]


def test_times_after_a_training_panel_without_times_count_in_its_samples():
    train = Panel(np.arange(6.0)[:, None], [0, 6])
    test = Panel(np.arange(3.0)[:, None], [0, 3], [10.0, 12.0, 12.5])
    encoder = PanelEncoder().fit(train)
    assert encoder.time_scale_ == 1.0
    assert encoder.encode(test).dt.tolist() == [1, 2, 0.5]
    # With a given unit, a sample of the training panel lasts one unit.
    encoder = PanelEncoder(0.5).fit(train)
    assert encoder.encode(train).regular
    assert encoder.encode(test).dt.tolist() == [1, 4, 1]


def test_batches_pad_with_zeros_and_drop_the_gaps_of_a_regular_grid():
    panel = Panel(np.arange(1.0, 9.0)[:, None], [0, 3, 5, 8])
    encoded = PanelEncoder().fit(panel).encode(panel)
    u, dt = encoded.batch(torch.tensor([2, 0]))
    assert dt is None
    assert torch.equal(u, torch.stack([encoded.u[5:8], encoded.u[:3]]))
    u, dt = encoded.batch(torch.tensor([1, 2]))
    assert dt.tolist() == [[1, 1, 0], [1, 1, 1]]
    assert torch.equal(u[0, :2], encoded.u[3:5]) and torch.equal(u[1], encoded.u[5:8])
    assert u[0, 2].tolist() == [0]


def test_batches_of_equal_length_keep_irregular_gaps():
    panel = Panel(np.arange(6.0)[:, None], [0, 3, 6], [0.0, 1.0, 2.0, 0.0, 1.0, 4.0])
    encoded = PanelEncoder().fit(panel).encode(panel)
    assert not encoded.regular
    assert encoded.batch(torch.tensor([0])).dt is None
    assert encoded.batch(torch.tensor([0, 1])).dt.tolist() == [[1, 1, 1], [1, 1, 3]]
    assert encoded.durations().tolist() == [3, 5]


def test_the_encoder_rejects_what_it_cannot_encode():
    panel = Panel(np.arange(6.0).reshape(3, 2), [0, 3])
    encoder = PanelEncoder().fit(panel)
    with pytest.raises(ValueError, match=r"X has 1 channel.* training data had 2"):
        encoder.encode(Panel(np.zeros((3, 1)), [0, 3]))
    with pytest.raises(ValueError, match="no series"):
        encoder.encode(panel[:0])


@pytest.mark.parametrize("value", ["mean", 0.0, -1.0, math.inf, math.nan])
def test_time_scale_must_be_positive(value):
    with pytest.raises(ValueError, match="time_scale"):
        PanelEncoder(value)


@pytest.mark.parametrize("value", [None, True, [1.0]])
def test_time_scale_must_be_a_number(value):
    with pytest.raises(TypeError, match="time_scale"):
        PanelEncoder(value)
