"""How channels run between samples: straight lines where series are rough, cubics where they are smooth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import CubicHermiteSpline

from tsssm.features import StateSpaceFeatures, Timeline
from tsssm.features._interpolation import bend_of, interpolated, left_out
from tsssm.panel import Panel


def through_parabolas(t: np.ndarray, x: np.ndarray) -> CubicHermiteSpline:
    """The cubic with the slopes of parabolas through each three neighbours."""
    middle = np.clip(np.arange(len(t)), 1, len(t) - 2)
    slopes = [np.polyder(np.poly1d(np.polyfit(t[m - 1 : m + 2], x[m - 1 : m + 2], 2))) for m in middle]
    return CubicHermiteSpline(t, x, [slope(at) for slope, at in zip(slopes, t, strict=True)])


def ragged(lengths: list[int], channels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (d, total), ticks from 0 in every series, and offsets."""
    rng = np.random.default_rng(0)
    ticks = [np.cumsum(rng.choice([2, 3, 5], size=n)) for n in lengths]
    ticks = np.concatenate([t - t[0] for t in ticks])
    return rng.normal(size=(channels, len(ticks))), ticks, np.concatenate([[0], np.cumsum(lengths)])


def every_tick(ticks: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Instants at each tick of each series, and their offsets."""
    ends = ticks[offsets[1:] - 1]
    return np.concatenate([np.arange(end + 1) for end in ends]), np.concatenate([[0], np.cumsum(ends + 1)])


def smooth(n: int, length: int) -> np.ndarray:
    """Sums of slow sines (n, length)."""
    rng = np.random.default_rng(1)
    rate, phase = rng.uniform(0.05, 0.25, (n, 3, 1)), rng.uniform(0, 2 * np.pi, (n, 3, 1))
    return np.sin(rate * np.arange(length) + phase).sum(axis=1)


@pytest.mark.parametrize("bend", [0.0, 0.3, 1.0])
def test_cubics_of_ragged_series_with_missing_values(bend):
    values, ticks, offsets = ragged([9, 1, 2, 3, 14], 3)
    values[0, [4, 5, 17, 28]] = np.nan
    values[1, 15:] = np.nan
    instants, refined = every_tick(ticks, offsets)
    result = interpolated(values, ticks, offsets, instants, refined, np.array([bend, bend, 0.0]))
    for i in range(len(offsets) - 1):
        rows, piece = slice(*offsets[i : i + 2]), slice(*refined[i : i + 2])
        for channel, share in enumerate((bend, bend, 0.0)):
            seen = ~np.isnan(values[channel, rows])
            t, x, at = ticks[rows][seen], values[channel, rows][seen], instants[piece]
            if len(t) == 0:
                assert np.isnan(result[channel, piece]).all()
                continue
            expected = np.interp(at, t, x)
            if len(t) > 2:
                cubic = through_parabolas(t, x)(np.clip(at, t[0], t[-1]))
                expected = expected + share * (cubic - expected)
            np.testing.assert_allclose(result[channel, piece], expected, atol=1e-9)  # polyfit


def test_two_close_samples_do_not_say_what_happens_far_away():
    ticks, x = np.array([0, 1, 100, 101, 1101, 1102]), np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
    for t, values in ((ticks, x), (1102 - ticks[::-1], x[::-1])):
        result = interpolated(
            values[None], t, np.array([0, 6]), np.arange(1103), np.array([0, 1103]), np.ones(1)
        )
        departure = np.abs(result[0] - np.interp(np.arange(1103), t, values))
        # One tick times the difference of the slopes, which is 1; without a limit it is 4 / 27 of 1000.
        assert 0.9 < departure.max() <= 1.0


def test_the_bend_is_fitted_to_samples_that_are_left_out():
    values, ticks, offsets = ragged([4, 5, 12], 2)
    values = values.cumsum(axis=1)
    values[1, 13] = np.nan
    expected = np.zeros((2, 2))
    for channel, row in enumerate(values):
        for i in range(3):
            rows = np.arange(*offsets[i : i + 2])
            rows = rows[~np.isnan(row[rows])]
            pairs = []
            for k in range(2, len(rows) - 2):
                others = rows[[k - 2, k - 1, k + 1, k + 2]]
                t, x, at = ticks[others], row[others], ticks[rows[k]]
                line = np.interp(at, t, x)
                pairs.append((through_parabolas(t, x)(at) - line, row[rows[k]] - line))
            if pairs:
                cubic, sample = np.array(pairs).T
                expected[:, channel] += np.array([cubic @ sample, cubic @ cubic]) / (
                    cubic @ cubic + sample @ sample
                )
    np.testing.assert_allclose(left_out(values, ticks, offsets), expected, rtol=1e-9)
    told = np.array([[0.5, -1.0, 0.05, 3.0, 0.0], [1.0, 1.0, 1.0, 2.0, 0.0]])
    np.testing.assert_array_equal(bend_of(told), [0.5, 0.0, 0.0, 1.0, 0.0])


def test_smooth_channels_are_bent_and_rough_ones_are_not():
    rng = np.random.default_rng(0)
    X = np.stack([smooth(20, 60), rng.normal(size=(20, 60)), np.ones((20, 60))], axis=1)
    bend = Timeline("global", "global").fit(Panel.from_numpy(X)).bend
    assert bend[0] == 1.0 and bend[1] == bend[2] == 0.0
    # Of straight lines, the rounding to float32 would be what is left.
    lines = 100.0 + rng.normal(size=(200, 1)) * np.arange(60)
    assert Timeline("global", "global").fit(Panel.from_numpy(lines)).bend == 0.0
    both = np.concatenate([X[:, 0], lines])
    assert Timeline("global", "global").fit(Panel.from_numpy(both)).bend == 1.0
    # A rough series counts as one, however large it is.
    X[7, 0] = 1e6 * X[7, 1]
    assert 0.9 < Timeline("global", "global").fit(Panel.from_numpy(X)).bend[0] < 1.0


def test_what_later_samples_have_no_influence_on():
    timeline = Timeline("global", "global").fit(Panel.from_numpy(smooth(20, 60), times=np.arange(60.0)))
    rough = Timeline("global", "global").fit(Panel.from_numpy(np.tile([1.0, 2.0], (20, 30))))
    assert timeline.bend == 1.0 and rough.bend == 0.0
    known, gap = np.zeros((1, 4)), np.array([[0.0, 0.0, np.nan, 0.0]])
    unit = timeline.tick(1.0)
    cases = [
        (known, unit, 4, 4),
        (known, 2 * unit, 3, 4),  # there are instants between the last two samples
        (gap, unit // 2, 2, 4),  # the third sample is one
        (gap[:, :3], unit, 2, 2),
        (gap[:, 2:], unit, 2, 2),
        (gap[:, 2:3], unit, 0, 0),
    ]
    for values, step, bent, straight in cases:
        ticks = np.arange(values.shape[1]) * step
        assert (timeline.settled(values, ticks), rough.settled(values, ticks)) == (bent, straight)
    np.testing.assert_array_equal(timeline.around(known), [False, False, True, True])
    np.testing.assert_array_equal(timeline.around(gap[:, :3]), [True, True, True])
    np.testing.assert_array_equal(rough.around(gap), [False, False, False, True])


def test_what_is_missing_of_a_smooth_signal():
    X, t = smooth(30, 100), np.arange(100.0)
    timeline = Timeline(None, "global").fit(Panel.from_numpy(X))
    missing = np.random.default_rng(0).random(X.shape) < 0.5
    missing[:, [0, -1]] = False
    pairs = [(x[~gone], t[~gone]) for x, gone in zip(X, missing, strict=True)]
    lines = np.stack([np.interp(t, times, x) for x, times in pairs])
    in_time = Panel.from_arrays(*zip(*pairs, strict=True))
    for panel in (Panel.from_numpy(np.where(missing, np.nan, X)), in_time):
        values = timeline.sample(panel).values.reshape(30, 100)
        assert np.square(values - X).mean() < 0.2 * np.square(lines - X).mean()


def test_half_of_the_samples_make_about_the_same_features():
    X, t = smooth(24, 200), np.arange(200.0)
    features = StateSpaceFeatures(512, "diagonal", 4, ("ppv", "competition"), "auto", 0)
    F = features.fit(Panel.from_numpy(X, times=t)).transform(Panel.from_numpy(X, times=t))
    rng = np.random.default_rng(0)
    rows = [np.sort(rng.choice(200, 100, replace=False)) for _ in X]
    half = Panel.from_arrays([x[r] for x, r in zip(X, rows, strict=True)], [t[r] for r in rows])

    def moved() -> float:
        apart = np.mean((F - np.roll(F, 1, axis=0)) ** 2)
        return float(np.sqrt(np.mean((features.transform(half) - F) ** 2) / apart))

    bent = moved()
    features.timeline.bend[:] = 0.0
    straight = moved()
    assert bent < 0.3 and bent < straight / 2, (bent, straight)
