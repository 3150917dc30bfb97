"""The mathematics of forecasting in closed form, against loops, SciPy and known truth."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tsssm.forecasting import _inputs, _model, _smoothing, _windows, fit_model
from tsssm.forecasting._choice import losses, mixture
from tsssm.forecasting._conformal import Errors, evenest
from tsssm.forecasting._inputs import Inputs, Rows, Systems, fixed_systems, last_states, states
from tsssm.forecasting._model import prepared_series
from tsssm.forecasting._prepare import _mean_season, fill, find_season, step_size
from tsssm.forecasting._ridge import PENALTIES, Spectrum, Sums
from tsssm.forecasting._smoothing import Start
from tsssm.forecasting._trials import Trial
from tsssm.forecasting._windows import Plan, Scale, collect

RNG = np.random.default_rng(0)


def season(length: int, sp: int = 12, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    t = np.arange(length)
    wave = 3 * np.sin(2 * np.pi * t / sp) + np.cos(4 * np.pi * t / sp)
    return 20 + wave + noise * np.random.default_rng(seed).normal(size=length)


# Sums and ridge


@pytest.fixture
def regression():
    rng = np.random.default_rng(1)
    F = rng.normal(size=(60, 5)) * [1.0, 10.0, 0.1, 1.0, 3.0]
    return F, F @ rng.normal(size=(5, 3)) + rng.normal(size=(60, 3))


def test_sums_forget_the_windows_and_their_order(regression):
    F, Y = regression
    once = Sums.zero(5, 3).add(F, Y)
    parts = Sums.zero(5, 3).add(F[40:], Y[40:]).plus(Sums.zero(5, 3).add(F[:40], Y[:40]))
    for whole, part in zip(once, parts, strict=True):
        assert_allclose(whole, part, rtol=1e-12)  # float64


def test_sums_around_a_base_are_those_of_other_targets(regression):
    F, Y = regression
    base = np.random.default_rng(2).normal(size=(5, 3))
    moved, direct = Sums.zero(5, 3).add(F, Y).around(base), Sums.zero(5, 3).add(F, Y - F @ base)
    assert_allclose(moved.FY, direct.FY, atol=1e-9)
    assert_allclose(moved.YY, direct.YY, rtol=1e-9)


@pytest.mark.parametrize("overlap", [1.0, 6.0])
def test_the_penalty_is_that_of_generalised_cross_validation(regression, overlap):
    F, Y = regression
    sums = Sums.zero(5, 3).add(F, Y)
    columns = np.array([0, 1, 2, 4])
    found = Spectrum.of(sums, columns).solve(sums, overlap)
    unit = np.sqrt((F[:, columns] ** 2).sum(axis=0))
    X = F[:, columns] / unit
    for h in range(3):
        scores, coefs = [], []
        for penalty in PENALTIES:
            hat = X @ np.linalg.solve(X.T @ X + penalty * np.eye(4), X.T)
            rest = Y[:, h] - hat @ Y[:, h]
            scores.append(rest @ rest / (1 - np.trace(hat) / (60 / overlap)) ** 2)
            coefs.append(np.linalg.solve(X.T @ X + penalty * np.eye(4), X.T @ Y[:, h]) / unit)
        assert_allclose(found[columns, h], coefs[int(np.argmin(scores))], rtol=1e-7)
        assert found[3, h] == 0


def test_an_input_that_is_always_zero_has_no_coefficient(regression):
    F, Y = regression
    sums = Sums.zero(5, 3).add(F * [1, 1, 0, 1, 1], Y)
    found = Spectrum.of(sums, np.arange(5)).solve(sums, 1.0)
    assert np.isfinite(found).all() and (found[2] == 0).all()


# Smoothing


def bank_by_hand(z, m, horizon, known):
    """Forecasts and sizes of errors after every sample, as the equations say, one number at a time."""
    rows = [
        (alpha, *((0.0, 1.0, True) if trend == "drift" else (*trend, False)), gamma)
        for alpha in _smoothing._LEVEL_GAINS
        for trend in _smoothing._TRENDS
        for gamma in (_smoothing._SEASON_GAINS if m > 1 else (None,))
    ]
    first = z[:known]
    flat, ground, rise, wave = first[:m].mean(), first[0], 0.0, np.zeros(m)
    x = np.arange(len(first)) - (len(first) - 1) / 2
    if m > 1 and len(first) >= 2 * m:
        design = np.column_stack([np.eye(m)[np.arange(len(first)) % m], x])
        fit = np.linalg.lstsq(design, first, rcond=None)[0]
        rise, wave = fit[m], fit[:m] - fit[:m].mean()
        ground = fit[:m].mean() + rise * x[0]
    elif len(first) >= 4:
        rise, ground = np.polyfit(x, first, 1)
        ground += rise * x[0]
    marks = np.unique(np.linspace(0, horizon - 1, min(horizon, 12)).round().astype(int))
    paths, sizes = np.zeros((len(rows), len(z), horizon)), np.zeros((len(rows), len(z)))
    weight = np.zeros(len(z))
    for k, (alpha, beta, phi, drifts, gamma) in enumerate(rows):
        level, slope = (ground, 0.0 if drifts else rise) if phi > 0 else (flat, 0.0)
        season = wave.copy() if gamma is not None else np.zeros(m)
        for t, value in enumerate(z):
            error = value - (level + phi * slope + season[t % m])
            level += phi * slope + alpha * error
            slope = phi * slope + alpha * beta * error
            if drifts:
                slope = 0.5 * np.polyfit(np.arange(t + 1), z[: t + 1], 1)[0] if t >= 3 else 0.0
            season[t % m] += (gamma or 0.0) * (1 - alpha) * error
            ahead = np.arange(1, horizon + 1)
            paths[k, t] = level + slope * np.cumsum(phi**ahead) + season[(t + ahead) % m]
            total, weight[t] = 0.0, 0.0
            for origin in range(1, t):
                for h in marks[marks < t - origin]:
                    share = 0.95 ** (t - origin)
                    total += share * abs(z[origin + 1 + h] - paths[k, origin, h])
                    weight[t] += share
            sizes[k, t] = total / max(weight[t], 1e-300)
    shares = np.exp(-20 * np.minimum(sizes / np.maximum(sizes.min(axis=0), 1e-6) - 1, 30))
    shares = np.where(weight > 0, shares, 1.0)
    shares /= shares.sum(axis=0)
    spread = np.where(weight > 0, (shares * sizes).sum(axis=0), 1.0)
    return np.einsum("kt,kth->th", shares, paths), spread


@pytest.mark.parametrize(("m", "length"), [(1, 40), (4, 34), (4, 7), (5, 3)])
def test_the_bank_is_exponential_smoothing_written_out(m, length):
    z = season(length, 4, 1.0) + 0.3 * np.arange(length)
    for known in (length, 9):
        paths, spreads = bank_by_hand(z, m, 6, min(known, _smoothing.first_samples(m)))
        found = _smoothing.smooth(z, m, 6, np.arange(length), known)
        assert_allclose(found.paths, paths, rtol=1e-9)
        assert_allclose(found.spreads, spreads, rtol=1e-9)


def test_the_bank_on_several_series_is_that_on_each():
    series = [season(length, 4, 1.0, length) for length in (40, 7, 25)]
    origins = [np.array([12, 30]), np.array([], dtype=int), np.array([24])]
    found = _smoothing.smooth_all(series, 4, 6, origins, [40, 7, 6])
    alone = [
        _smoothing.smooth(*own) for own in zip(series, [4] * 3, [6] * 3, origins, [40, 7, 6], strict=True)
    ]
    assert_allclose(found.paths, np.concatenate([own.paths for own in alone]), rtol=1e-12)
    assert_allclose(found.spreads, np.concatenate([own.spreads for own in alone]), rtol=1e-12)


def test_of_long_series_fewer_origins_are_looked_at():
    """Every second from the 200th sample on, every fourth from the 400th, and as the horizon asks."""
    for horizon, least in ((6, 1), (200, 4)):
        bank = _smoothing.Bank(Start.of(np.zeros(8), 1), 1, horizon)
        seen = set()
        for value in np.sin(np.arange(500.0)):
            bank.run(np.array([value]), np.zeros(0, dtype=int))
            seen |= set(bank.looked[:-2].tolist())
        expected = {t for t in range(1, 500) if t % max(least, 1 + (t >= 200) + 2 * (t >= 400)) == 0}
        assert seen - {-1} == expected


@pytest.mark.parametrize("m", [1, 7])
def test_the_bank_goes_on_from_where_it_stands(m):
    z = season(300, 7, 1.0)
    whole = _smoothing.smooth(z, m, 9, np.arange(299, 300))
    bank = _smoothing.Bank(Start.of(z[: _smoothing.first_samples(m)], m), m, 9)
    bank.run(z[:120], np.zeros(0, dtype=int))
    other = bank.copy()
    for value in z[120:299]:
        bank.run(np.array([value]), np.zeros(0, dtype=int))
    found = bank.run(z[299:], np.array([299]))
    assert_allclose(found.paths, whole.paths, rtol=1e-12)
    assert_allclose(found.spreads, whole.spreads, rtol=1e-12)
    assert_allclose(other.run(z[120:], np.array([299])).paths, whole.paths, rtol=1e-12)


def test_forecasts_know_nothing_of_what_follows():
    y = season(80, 4, 1.0)
    other = np.concatenate([y[:60], -5 * y[60:]])
    one, two = (_smoothing.smooth(z, 4, 6, np.array([30, 59])) for z in (y, other))
    assert_allclose(one.paths, two.paths, rtol=1e-12)
    assert_allclose(one.spreads, two.spreads, rtol=1e-12)


def test_what_is_held_out_tells_nothing_to_the_first_states():
    """Not of a season that is as long as half of the series either."""
    y = np.tile(np.arange(26.0), 3)[:70]
    other = np.concatenate([y[:60], -5 * y[60:]])
    inputs, plan = Inputs((5,), 26), Plan.of([70], 4, 26)
    assert 70 - plan.held_out.max() >= 2 * 26
    found = [
        collect(prepared_series([z], [0], 26), [Scale(1.0, False, np.inf)], inputs, plan).kept.path[0]
        for z in (y, other)
    ]
    assert_allclose(found[0], found[1], rtol=1e-12)


def test_states_at_the_end_are_the_last_of_all(monkeypatch):
    systems = fixed_systems(12, 20)
    series = [season(50, 12, 1.0) + 3, season(31, 12, 1.0, 1)]
    rows = Rows.of(series)
    expected = states(rows.z, rows.start, systems)[:, -1]
    assert_allclose(last_states(rows.z, rows.start, systems), expected, rtol=1e-10)
    monkeypatch.setattr(_inputs, "_PIECE", 8)
    assert_allclose(last_states(rows.z, rows.start, systems), expected, rtol=1e-10)


def test_states_are_those_of_the_differential_equation_with_held_input():
    systems = fixed_systems(6, 8)
    y = season(15, 6, 0.5) - 18
    found = states(y[None], np.zeros(1, dtype=np.int64), systems)[0]
    x, held = np.zeros(len(systems.A), dtype=complex), y - y[0]
    for value in held:
        x = np.exp(systems.A) * x + np.expm1(systems.A) / systems.A * systems.B * value
    assert_allclose(found[-1], (systems.C @ x).real + y[0] * systems.gain, rtol=1e-10, atol=1e-10)


def test_a_constant_series_is_at_rest():
    systems: Systems = fixed_systems(12, 20)
    found = states(np.full((1, 30), 7.0), np.zeros(1, dtype=np.int64), systems)[0]
    assert_allclose(found, np.broadcast_to(7 * systems.gain, found.shape), rtol=1e-12)


def window_of(inputs, series, which, places, phases=None):
    """What the inputs have of origins ``places`` (N,), numbers of samples, of series ``which`` (N,)."""
    rows, which = Rows.of(series), np.asarray(which)
    columns = np.asarray(places) + rows.start[which]
    readouts = states(rows.z, rows.start, inputs.systems)[which, columns]
    phases = np.zeros(len(series), dtype=int) if phases is None else phases
    return inputs.at(rows, readouts, phases, which, columns)


def test_inputs_of_several_series_are_those_of_each():
    inputs = Inputs((5, 9), 4)
    series = [season(length, 4, 1.0, length) for length in (40, 33, 12)]
    together = window_of(inputs, series, [0, 1, 1, 2], [20, 3, 32, 0], np.array([0, 2, 1]))
    places = [(0, 20, 0), (1, 3, 2), (1, 32, 2), (2, 0, 1)]
    for row, (which, place, phase) in enumerate(places):
        own = window_of(inputs, [series[which]], [0], [place], np.array([phase]))
        for found, expected in zip(together, own, strict=True):
            assert_allclose(found[row], expected[0], rtol=1e-10, atol=1e-12)  # float64
    y, past = series[1], series[1][:4]  # the origin 3, before which there is nothing
    assert_allclose(together.size[1], np.abs(np.diff(past)).mean())
    lagged = together.inputs[1, :8] * together.size[1] + y[3]
    assert_allclose(lagged, [y[2], y[1], y[0], *[y[0]] * 5], rtol=1e-12)
    assert_allclose(together.inputs[1, inputs.mean] * together.size[1] + y[3], past.mean(), rtol=1e-12)


def test_inputs_do_not_know_level_and_unit():
    inputs, y = Inputs((5, 9), 4), season(40, 4, 1.0)
    found = [window_of(inputs, [z], [0, 0], [12, 39]) for z in (y, 100 + 3 * y)]
    assert_allclose(found[0].inputs, found[1].inputs, rtol=1e-9, atol=1e-9)
    assert_allclose(found[1].size, 3 * found[0].size)
    lagged = found[0].inputs[1, :8] * found[0].size[1] + y[39]
    assert_allclose(lagged, y[38:30:-1], rtol=1e-12)


def test_bases_are_last_value_mean_median_and_the_season_before():
    inputs, y = Inputs((6, 9), 4), season(40, 4, 1.0)
    window = window_of(inputs, [y], [0], [39])
    found = {
        name: (window.last + window.size * (window.inputs @ base))[0]
        for name, base in inputs.bases(6).items()
    }
    expected = {
        "last": np.full(6, y[-1]),
        "mean": np.full(6, y[-6:].mean()),
        "robust": np.full(6, np.median(y[-6:])),
        "none": np.full(6, y.mean()),
        "season": np.resize(y[-4:], 6),
    }
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert_allclose(found[name], values, rtol=1e-10, err_msg=name)


# Preparation


def test_gaps_of_a_seasonal_line_are_filled_as_they_were():
    y = season(96, 12)
    gaps = y.copy()
    gaps[RNG.choice(np.arange(1, 95), 40, replace=False)] = np.nan
    error = np.abs(fill(gaps, 12) - y)
    assert error.max() < 0.5 * np.abs(fill(gaps, 1) - y).max()
    known = np.isfinite(gaps)
    assert (fill(gaps, 12)[known] == y[known]).all()


def test_a_mean_season_is_drawn_to_zero_by_its_noise():
    rng, phase = np.random.default_rng(10), np.tile(np.arange(12), 3)
    wave = 3 * np.sin(2 * np.pi * np.arange(12) / 12)
    wrong = {"noise": [], "plain": [], "wave": []}
    for _ in range(40):
        noise = rng.normal(size=36)
        wrong["noise"].append(np.abs(_mean_season(noise, phase, 12)).mean())
        wrong["plain"].append(np.abs(noise.reshape(3, 12).mean(axis=0)).mean())
        wrong["wave"].append(np.abs(_mean_season(noise + wave[phase], phase, 12) - wave).mean())
    assert np.mean(wrong["noise"]) < 0.5 * np.mean(wrong["plain"])
    assert np.mean(wrong["wave"]) < np.mean(wrong["plain"])
    assert_allclose(_mean_season(wave[phase], phase, 12), wave, atol=1e-12)


@pytest.mark.parametrize("sp", [4, 7, 12, 24, 52])
def test_a_season_is_found(sp):
    panel = [season(6 * sp, sp, 0.5, seed) + 0.05 * np.arange(6 * sp) for seed in range(4)]
    # By the peak alone a long season is known within a few hundredths, by the calendar exactly.
    assert abs(find_season(panel) - sp) <= sp / 25
    assert find_season(panel, candidates=(sp,)) == sp


@pytest.mark.parametrize("walk", [False, True])
def test_there_is_no_season_in_noise(walk):
    noise = RNG.normal(size=(5, 200))
    assert find_season(list(np.cumsum(noise, axis=1) if walk else noise)) == 1


@pytest.mark.parametrize("length", [1, 2, 5])
def test_there_is_no_season_in_next_to_nothing(length):
    assert find_season([np.arange(float(length))]) == 1


def test_a_logarithm_is_undone():
    y = np.exp(season(30) / 10)
    for log in (False, True):
        scale = Scale.of(y, log)
        assert scale.log == log
        assert_allclose(scale.back(scale.forward(y)), y, rtol=1e-12)
    assert not Scale.of(y - y.min(), True).log  # a zero has no logarithm
    assert step_size(np.full(5, 3.0)) > 0


# Choice and intervals


def test_a_mixture_is_at_least_as_good_as_its_best_candidate():
    truth = RNG.normal(size=(50, 3))
    forecasts = truth + RNG.normal(size=(6, 50, 3)) * np.arange(1, 7)[:, None, None]
    weight = np.ones_like(truth)
    weights = mixture(forecasts, truth, weight, np.zeros(6), spans=10.0)
    blend = np.tensordot(weights, forecasts, axes=1)
    assert weights.sum() == pytest.approx(1)
    assert losses(blend[None], truth, weight)[0] <= losses(forecasts, truth, weight).min()


@pytest.mark.parametrize("power", [1, 2])
def test_each_pick_makes_the_mean_of_all_best(power):
    rng = np.random.default_rng(9)
    truth, weight = rng.normal(size=(40, 3)), rng.integers(0, 2, size=(40, 3)).astype(float)
    forecasts = truth + rng.normal(size=(5, 40, 3))
    counts = np.array([0.0, 0.0, 1.4, 0.0, 0.0])
    for _ in range(8):
        means = [(np.tensordot(counts, forecasts, 1) + own) / (counts.sum() + 1) for own in forecasts]
        counts[np.argmin([(np.abs(mean - truth) ** power * weight).sum() for mean in means])] += 1
    found = mixture(forecasts, truth, weight, np.array([0.0, 0.0, 2.0, 0.0, 0.0]), 3.0, power)
    assert_allclose(found, counts / counts.sum(), rtol=1e-12)


def test_with_nothing_to_choose_by_the_prior_stays():
    prior = np.array([0.0, 2.0, 2.0])
    weights = mixture(np.zeros((3, 0, 4)), np.zeros((0, 4)), np.zeros((0, 4)), prior, 0.0)
    assert weights.tolist() == [0, 0.5, 0.5]


def test_quantiles_of_errors_cover_what_they_say():
    rng = np.random.default_rng(3)
    size = np.linspace(1, 4, 12)
    errors = Errors.of(rng.standard_t(5, size=(400, 12)) * size, np.ones((400, 12), dtype=bool))
    new = rng.standard_t(5, size=(4000, 12)) * size
    low, high = errors.quantiles(np.array([0.1, 0.9]), 12).T
    covered = ((new >= low) & (new <= high)).mean(axis=0)
    assert 0.78 < covered.mean() < 0.82
    assert (np.abs(covered - 0.8) < 0.08).all()


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_the_unit_of_errors_makes_them_alike(power):
    rng = np.random.default_rng(11)
    earlier = np.exp(rng.normal(size=500))
    size = np.abs(rng.standard_t(3, size=500)) * earlier**power
    owner = np.arange(500) % 50
    assert evenest(size, earlier, owner) == power
    assert evenest(size, earlier, owner % 10) == evenest(np.zeros(500), earlier, owner) == 0.5


def test_few_errors_give_wide_intervals_that_grow():
    errors = Errors.of(np.zeros((1, 6)), np.zeros((1, 6), dtype=bool))
    low, middle, high = errors.quantiles(np.array([0.1, 0.5, 0.9]), 10).T
    assert (np.diff(high) > 0).all() and (np.diff(low) < 0).all()
    assert_allclose(middle, 0, atol=1e-2)


# The whole


def forecast(series, horizon, **options):
    phases = [0] * len(series)
    model = fit_model(series, phases, horizon, **options)
    return model, model.forecast(series, phases, horizon)


def test_a_season_goes_on_to_rounding():
    y = season(120)
    _, found = forecast([y[:96]], 24, season=12)
    assert_allclose(found.values[0], y[96:], atol=1e-3)


def test_a_line_goes_on():
    _, found = forecast([np.arange(60.0) * 2 + 5], 6, season=1, transforms=("none",))
    assert_allclose(found.values[0], 125 + 2 * np.arange(6.0), rtol=1e-3)


def test_forecasts_follow_shift_and_unit():
    series = [season(70, 12, 1.0, seed) for seed in range(3)]
    options = {"season": 12, "transforms": ("none",), "scalings": ("last", "mean", "robust")}
    _, one = forecast(series, 12, **options)
    _, two = forecast([-50 + 7 * y for y in series], 12, **options)
    # The mixture is chosen among forecasts in float32.
    assert_allclose(two.values, -50 + 7 * one.values, rtol=1e-4)
    assert_allclose(two.spread, 7 * one.spread, rtol=1e-6)


def test_noise_around_a_season_is_not_forecast():
    series = [season(216, 12, 1.0, seed) for seed in range(8)]
    _, found = forecast([y[:192] for y in series], 24, season=12)
    error = np.sqrt(np.mean((found.values - np.array([season(216)[192:]] * 8)) ** 2))
    assert error < 0.5  # the season before again would be wrong by 1


def test_intervals_cover_the_future_of_many_series():
    rng = np.random.default_rng(5)
    noise = rng.normal(size=(150, 120))
    walks = np.zeros_like(noise)
    for t in range(1, 120):
        walks[:, t] = 0.8 * walks[:, t - 1] + noise[:, t]
    walks *= rng.uniform(0.1, 10, size=(150, 1))
    model, found = forecast(list(walks[:, :108]), 12, season=1)
    low, high = np.moveaxis(model.quantiles(found, [0.1, 0.9]), -1, 0)
    covered = ((walks[:, 108:] >= low) & (walks[:, 108:] <= high)).mean()
    assert 0.75 < covered < 0.85


def test_windows_are_forecasts_from_their_origins():
    y = season(150, 12, 1.0)
    model = fit_model([y], [3], 8, season=12)
    found = model.windows(y, 3, np.array([100, 149]))
    assert_allclose(found[1], model.forecast([y], [3], 8).values[0], rtol=1e-9)


def test_beyond_its_horizon_a_model_goes_on_from_its_forecasts():
    y = season(120, 12, 0.3)
    model = fit_model([y], [0], 6, season=12)
    first = model.forecast([y], [0], 6).values[0]
    second = model.forecast([np.concatenate([y, first])], [0], 6).values[0]
    assert_allclose(model.forecast([y], [0], 10).values[0], np.concatenate([first, second])[:10], rtol=1e-9)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("sp", [1, 12])
def test_very_short_series_have_forecasts(length, sp):
    series = [np.arange(1.0, length + 1), np.full(length, 4.0)]
    model, found = forecast(series, 6, season=sp)
    assert np.isfinite(model.forecast(series, [0, 0], 6).values).all()
    assert np.isfinite(model.quantiles(found, [0.05, 0.95])).all()
    assert_allclose(found.values[1], 4.0, rtol=1e-6)


def test_missing_values_move_forecasts_a_little():
    rng = np.random.default_rng(6)
    series = [season(144, 12, 0.2, seed) for seed in range(6)]
    gaps = [np.where((rng.random(132) < 0.3) & (np.arange(132) > 0), np.nan, y[:132]) for y in series]
    _, found = forecast(gaps, 12, season=12)
    assert np.abs(found.values - np.array([y[132:] for y in series])).mean() < 0.6


def test_sums_have_the_size_of_inputs_whatever_the_number_of_windows():
    inputs, scale = Inputs((5,), 1), Scale(1.0, False, np.inf)
    for length in (40, 400):
        prepared = prepared_series([season(length, 12, 1.0)], [0], 1)
        found = collect(prepared, [scale], inputs, Plan.of([length], 3))
        total = found.plain[0].plus(found.plain[1])
        assert total.A.shape == (inputs.width, inputs.width) and total.FY.shape == (inputs.width, 3)
        assert total.windows == length - 3 - inputs.lags[0]


def mixed_lengths(seed=8):
    """Series of unlike lengths, one with gaps, one too short for a window."""
    rng = np.random.default_rng(seed)
    series = [season(length, 4, 1.0, length) for length in (61, 40, 61, 6)]
    series[2][rng.choice(np.arange(1, 60), 20, replace=False)] = np.nan
    return prepared_series(series, [0, 1, 2, 3], 4)


def test_windows_of_several_series_are_those_of_each(monkeypatch):
    prepared, inputs, plan = mixed_lengths(), Inputs((5, 9), 4), Plan.of([61, 61], 6, 4)
    scales = [Scale.of(s.y, False) for s in prepared]
    found = []
    for numbers in (4096, 1):  # of windows together, and of series
        monkeypatch.setattr(_windows, "_NUMBERS", numbers * inputs.width)
        monkeypatch.setattr(_windows, "_BLOCK", numbers * 1000)
        found.append(collect(prepared, scales, inputs, plan))
    alone = [collect([s], [scale], inputs, plan) for s, scale in zip(prepared, scales, strict=True)]
    for together in found:
        for which in ("plain", "smooth"):
            for k in range(2):
                expected = Sums.zero(inputs.width, 6)
                for own in alone:
                    expected = expected.plus(getattr(own, which)[k])
                for a, b in zip(getattr(together, which)[k], expected, strict=True):
                    assert_allclose(a, b, rtol=1e-9, atol=1e-9)  # float64
        order = np.argsort(together.kept.owner, kind="stable")
        for name, column in zip(together.kept._fields, together.kept, strict=True):
            if name != "owner":
                own = np.concatenate([getattr(part.kept, name) for part in alone])
                assert_allclose(column[order], own, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("positive", [True, False])
def test_held_out_forecasts_are_those_of_the_coefficients(positive):
    """Of series with logarithms, and of series some of which have none."""
    prepared, inputs = mixed_lengths(), Inputs((5, 9), 4)
    if not positive:
        prepared[1] = prepared[1]._replace(y=prepared[1].y - prepared[1].y.mean())
    trial = Trial("log", prepared, inputs, Plan.of([61, 61], 6, 4), _model.SCALINGS, True)
    wanted, kept = trial.candidates(), trial.found.kept
    units = np.linspace(1, 2, len(kept.owner))
    found = np.empty((len(wanted), *kept.targets.shape), dtype=np.float32)
    trial.forecasts(wanted, units, found)
    assert {trial.scales[i].log for i in set(kept.owner)} == ({True} if positive else {True, False})
    for (candidate, coef), own in zip(trial.solved(wanted, early=True), found, strict=True):
        base = kept.path if candidate.base == "smooth" else kept.last[:, None]
        z = base + kept.size[:, None] * (kept.inputs @ coef)
        expected = [trial.scales[i].back(row) for i, row in zip(kept.owner, z, strict=True)]
        assert_allclose(own, expected / units[:, None], rtol=1e-5)  # float32


def test_what_is_missing_at_the_end_is_forecast_from_the_last_value():
    y = season(120, 12, 0.3)
    model = fit_model([y], [0], 6, season=12)
    whole, late = model.forecast([y], [0], 6), model.forecast([np.append(y, [np.nan] * 2)], [0], 4)
    assert_allclose(late.values[0], whole.values[0, 2:], rtol=1e-9)
    assert_allclose(
        model.quantiles(late, [0.1, 0.9])[0], model.quantiles(whole, [0.1, 0.9])[0, 2:], rtol=1e-9
    )


def test_intervals_cover_when_half_of_the_history_is_missing():
    rng = np.random.default_rng(7)
    walks = np.cumsum(rng.normal(size=(150, 120)), axis=1)
    gaps = np.where(rng.random(walks.shape) < 0.5, np.nan, walks)
    gaps[:, 0], gaps[:, 111:] = walks[:, 0], np.nan
    model, found = forecast([y[:112] for y in gaps], 8, season=1)
    low, high = np.moveaxis(model.quantiles(found, [0.1, 0.9]), -1, 0)
    covered = ((walks[:, 112:] >= low) & (walks[:, 112:] <= high)).mean()
    assert 0.72 < covered < 0.88


@pytest.mark.parametrize(("power", "best"), [(1, 0), (2, 1)])
def test_the_median_has_the_smallest_errors_and_the_mean_the_smallest_squares(power, best):
    targets = np.random.default_rng(0).exponential(size=(500, 2))
    forecasts = np.stack([np.full_like(targets, np.median(targets)), np.full_like(targets, targets.mean())])
    weights = mixture(forecasts, targets, np.ones_like(targets), np.zeros(2), 10.0, power)
    assert weights[best] == weights.max()


def test_windows_of_squared_errors_count_alike():
    y = np.concatenate([np.zeros(60), 50 * np.random.default_rng(0).normal(size=60)])
    y += np.random.default_rng(1).normal(size=120)
    even = Inputs((5,), 1, even=True)
    z = Scale.of(y, False, True).forward(y)
    assert z.std() == pytest.approx(1.0)
    window = window_of(even, [z], [0, 0], [20, 100])
    assert window.size.tolist() == [1.0, 1.0]
    assert_allclose(window.inputs[:, :4], [z[[19, 18, 17, 16]] - z[20], z[[99, 98, 97, 96]] - z[100]])
    model = fit_model([y], [0], 2, 1, loss="squared_error")
    assert model.loss == "squared_error" and np.isfinite(model.forecast([y], [0], 2).values).all()
