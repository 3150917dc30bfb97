"""Generators of series with known truth, against independent ways of finding it."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from scipy.signal import find_peaks, lombscargle
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score
from sklearn.utils import Bunch

from tsssm.datasets import (
    _pathfinder,
    make_copy,
    make_delay,
    make_icu,
    make_irregular,
    make_listops,
    make_pathfinder,
    make_vitals,
)
from tsssm.datasets._icu import VARIABLES
from tsssm.panel import Panel

GENERATORS = [make_copy, make_delay, make_icu, make_irregular, make_listops, make_pathfinder, make_vitals]
NAN = np.nan


def same(a, b) -> bool:
    if isinstance(a, Panel):
        return a == b
    return a.shape == b.shape and np.array_equal(a, b, equal_nan=True)


@pytest.mark.parametrize("make", GENERATORS)
class TestEveryGenerator:
    def test_random_state(self, make):
        first = make(6, random_state=3)
        X, y = make(6, random_state=3, return_X_y=True)
        assert isinstance(first, Bunch) and same(first.data, X) and same(first.target, y)
        assert len(X) == len(y) == 6
        assert same(X, make(6, random_state=np.random.default_rng(3)).data)
        assert not same(X, make(6, random_state=4).data)
        assert not same(make(6).data, make(6).data)
        legacy = [make(6, random_state=np.random.RandomState(1)).data for _ in range(2)]
        assert same(*legacy)

    def test_bunch(self, make):
        made = make(4, random_state=0)
        channels = made.data.n_channels if isinstance(made.data, Panel) else made.data.shape[1]
        assert len(made.feature_names) == channels and made.DESCR.startswith("# ")
        assert "groups" in made and (isinstance(made.data, Panel) or made.data.dtype == np.float32)

    @pytest.mark.parametrize("n", [0, -1, 2.5, True, "3"])
    def test_number_of_series(self, make, n):
        with pytest.raises(ValueError, match=f"n_samples must be a whole number of at least 1, got {n!r}"):
            make(n)

    @pytest.mark.parametrize("state", ["seed", -1, 1.5])
    def test_bad_random_state(self, make, state):
        with pytest.raises(ValueError, match=f"random_state must be .* got {state!r}"):
            make(2, random_state=state)


class TestPathfinder:
    def test_two_dots_on_one_path_or_on_two(self, monkeypatch):
        seen = []
        drawn = _pathfinder._drawn
        monkeypatch.setattr(_pathfinder, "_drawn", lambda *args: seen.append(args) or drawn(*args))
        made = make_pathfinder(20, size=24, n_dashes=4, n_distractors=1, random_state=0)
        assert made.data.shape == (20, 1, 576) and 3 < made.target.sum() < 17
        pictures = made.data[:, 0].reshape(-1, 24, 24)
        for (_, dashes, dots), picture, joined in zip(seen, pictures, made.target, strict=True):
            first, second, third = dashes[:4], dashes[4:8], dashes[8:]
            assert len(third) == 2
            ends = [(path[0, 0], path[-1, 1]) for path in (first, second)]
            ways = ends if joined else [(one, other) for one in ends[0] for other in ends[1]]
            assert any(np.array_equal(dots, way) for way in ways)
            # One path tells no more than two by how far apart the dots are.
            apart = [np.linalg.norm(one - other) for one, other in ends]
            assert np.abs(apart - np.linalg.norm(dots[0] - dots[1])).min() < 1.0
            for path, other in ((first, second), (first, third), (second, third)):
                between = np.linalg.norm(path.reshape(-1, 1, 2) - other.reshape(1, -1, 2), axis=-1)
                assert between.min() >= 3.0
            # The middle of a dash is bright, and its end is where the next one goes on.
            rows, columns = np.round(dashes.mean(axis=1)).astype(int).T
            assert (picture[rows, columns] > 0.2).all() and picture.max() == 1.0
            steps = np.linalg.norm(first[1:, 0] - first[:-1, 1], axis=-1)
            np.testing.assert_allclose(steps, 1.6)

    def test_refused(self):
        with pytest.raises(ValueError, match="no room for 8 paths of 40 and 13 dashes was found in 24 x 24"):
            make_pathfinder(1, size=24, n_dashes=40, n_distractors=6)
        with pytest.raises(ValueError, match="size must be a whole number of at least 24"):
            make_pathfinder(1, size=16)


class TestVitals:
    def peak(self, signal, rate, low, high):
        """Rate a minute at the peak of the spectrum between two rates."""
        n = 2**18
        power = np.abs(np.fft.rfft((signal - signal.mean()) * np.hanning(len(signal)), n))
        minute = np.fft.rfftfreq(n, 1 / rate) * 60
        band = (minute >= low) & (minute <= high)
        return minute[band][power[band].argmax()]

    def test_rates_by_spectrum_and_peaks(self):
        vitals = make_vitals(12, duration=60, sampling_rate=100, random_state=0)
        assert vitals.data.shape == (12, 4, 6000) and vitals.target_names == ["HR", "RR", "SpO2"]
        for (infrared, red, ecg, breath), (hr, rr, spo2) in zip(vitals.data, vitals.target, strict=True):
            # Beats counted between the first and the last R wave; the rate varies with the breath.
            beats = find_peaks(ecg, height=0.6, distance=25)[0]
            assert 60 * 100 * (len(beats) - 1) / (beats[-1] - beats[0]) == pytest.approx(hr, rel=0.02)
            assert self.peak(infrared, 100, 40, 200) == pytest.approx(hr, abs=1)  # beats/min, 1 / duration
            assert self.peak(breath, 100, 5, 40) == pytest.approx(rr, abs=0.3)  # breaths/min
            ratio = red.std() / infrared.std()  # both around the same constant light
            assert 110 - 25 * ratio == pytest.approx(spo2, abs=0.3)  # %; white noise differs by a thousandth

    def test_mean_rate_counts_the_turns_of_the_heart(self):
        """Many beats in a long series: the count differs from rate times duration by one at the most."""
        vitals = make_vitals(3, duration=300, sampling_rate=100, random_state=1)
        for ecg, (hr, _, _) in zip(vitals.data[:, 2], vitals.target, strict=True):
            assert abs(len(find_peaks(ecg, height=0.6, distance=25)[0]) - 5 * hr) <= 1

    def test_any_sampling_sees_one_truth(self):
        fast = make_vitals(3, duration=20, sampling_rate=200, noise=0, random_state=0)
        slow = make_vitals(3, duration=20, sampling_rate=50, noise=0, random_state=0)
        np.testing.assert_array_equal(fast.target, slow.target)
        np.testing.assert_allclose(fast.times[:, ::4], slow.times, rtol=1e-15)

    def test_irregular(self):
        vitals = make_vitals(4, duration=30, sampling_rate=40, irregular=True, random_state=0)
        panel = vitals.data
        assert isinstance(panel, Panel) and panel.time_unit == "s" and panel.lengths.tolist() == [1200] * 4
        assert panel.gaps()[1:1200].std() > 0.01  # s; exponential with mean 1 / 40
        for i, series in enumerate(panel):
            frequency = np.linspace(5, 40, 2000) / 60
            breath = series.values[:, 3].astype(float)
            power = lombscargle(series.times, breath - breath.mean(), 2 * np.pi * frequency)
            # A series of 30 s tells breaths/min apart by about 2.
            assert 60 * frequency[power.argmax()] == pytest.approx(vitals.target[i, 1], abs=0.5)

    def test_ranges(self):
        bounds = {"heart_rate": (60, 61), "respiratory_rate": (12, 12), "spo2": (90, 91)}
        target = make_vitals(50, sampling_rate=10, **bounds, random_state=0).target
        # The breath moves the mean heart rate of a series by at most swing / (pi rr / 60 duration) = 0.25 %.
        assert 60 * 0.997 < target[:, 0].min() and target[:, 0].max() < 61 * 1.003
        assert (target[:, 1] == 12).all() and (90 <= target[:, 2]).all() and (target[:, 2] <= 91).all()

    def test_dropouts(self):
        data = make_vitals(60, sampling_rate=20, dropout=0.3, random_state=0).data
        missing = np.isnan(data)
        # 240 channels of 16 gaps' length: the standard error is about 0.01. At the ends as in the middle.
        assert missing.mean() == pytest.approx(0.3, abs=0.04)
        assert missing[..., 0].mean() == pytest.approx(0.3, abs=0.12)  # four standard errors of 240 channels
        assert (missing[:, 0] != missing[:, 1]).any()
        assert not np.isnan(make_vitals(2, random_state=0).data).any()

    def test_labels_along_time(self):
        calm = make_vitals(3, duration=120, sampling_rate=50, noise=0, random_state=0)
        found = make_vitals(3, duration=120, sampling_rate=50, noise=0, apnoeas=2.0, random_state=0)
        np.testing.assert_array_equal(calm.target, found.target)
        assert not calm.apnoea.any() and 0.1 < found.apnoea.mean() < 0.6
        # Breaths fade in and out for half a second.
        assert (np.abs(found.data[:, 3][found.apnoea]) < 1e-6).mean() > 0.85
        np.testing.assert_allclose(found.data[:, 3][~found.apnoea], calm.data[:, 3][~found.apnoea], atol=1e-6)
        for series, beats, (bpm, _, _) in zip(calm.data, calm.beat, calm.target, strict=True):
            assert abs(beats.sum() - 2 * bpm) <= 1
            peaks = np.flatnonzero(beats)[1:-1]
            assert all(series[2, k - 8 : k + 8].argmax() in (7, 8) for k in peaks)

    def test_artefacts_are_where_they_are_said_to_be(self):
        settings = {"sampling_rate": 50, "noise": 0, "random_state": 0}
        vitals = make_vitals(60, artefacts=4, **settings)
        # Movements begin at a Poisson process of 4 a minute and last 2.5 s on average.
        assert vitals.artefact.mean() == pytest.approx(1 - np.exp(-4 / 60 * 2.5), abs=0.06)
        quiet = np.broadcast_to(~vitals.artefact[:, np.newaxis], vitals.data.shape)
        assert np.abs(vitals.data[:, 2])[quiet[:, 2]].max() < 1.3  # mV
        assert np.abs(vitals.data[:, 2])[~quiet[:, 2]].max() > 3
        assert not make_vitals(5, **settings).artefact.any()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"duration": 0}, "duration must be a finite number above 0, got 0"),
            ({"sampling_rate": np.inf}, "sampling_rate must be a finite number above 0, got inf"),
            ({"noise": -1}, "noise must be a finite number of at least 0, got -1"),
            ({"dropout": 1}, "dropout must be a finite number of at least 0 and at most 0.999, got 1"),
            ({"heart_rate": 60}, "heart_rate must be two numbers, the ends of a range; got 60"),
            ({"heart_rate": (80, 60)}, "heart_rate must be a finite number of at least 80"),
            ({"spo2": (90, 101)}, "spo2 must be a finite number .* at most 100, got 101"),
            ({"duration": 0.01}, "at least 2 samples, got 1"),
        ],
    )
    def test_bad_arguments(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            make_vitals(2, **arguments)


class TestIrregular:
    def test_frequency_by_lomb_scargle(self):
        made = make_irregular(30, n_classes=3, n_channels=2, random_state=0)
        assert np.bincount(made.target).tolist() == [10, 10, 10]
        np.testing.assert_allclose(made.frequency, 0.5 * 1.5**made.target, rtol=1e-15)
        grid = np.linspace(0.2, 2, 1500)
        for i, series in enumerate(made.data):
            seen = ~np.isnan(series.values[:, 0])
            values = series.values[seen, 0].astype(float)
            power = lombscargle(series.times[seen], values - values.mean(), 2 * np.pi * grid)
            # Ten seconds tell frequencies apart by 0.1 Hz.
            assert grid[power.argmax()] == pytest.approx(made.frequency[i], abs=0.05)

    def test_values_are_the_stated_oscillation(self):
        made = make_irregular(5, n_channels=3, noise=0, random_state=0)
        for i, series in enumerate(made.data):
            angle = 2 * np.pi * made.frequency[i] * series.times[:, None] + made.phase[i]
            expected = made.amplitude[i] * np.sin(angle)
            seen = ~np.isnan(series.values)
            np.testing.assert_allclose(series.values[seen], expected[seen], atol=1e-6)  # float32
            assert seen.any(axis=1).all()
        assert np.isnan(made.data.values).mean() == pytest.approx(1 / 3, abs=0.06)  # half of two of three

    def test_lengths_do_not_tell_the_class(self):
        made = make_irregular(400, random_state=0)
        assert abs(roc_auc_score(made.target, made.data.lengths) - 0.5) < 0.1  # standard error 0.03
        assert made.data.lengths.min() >= 2 and made.data.time_unit == "s"
        assert make_irregular(3, duration=0.001, random_state=0).data.lengths.tolist() == [2, 2, 2]

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match="ratio must be a finite number above 1, got 1"):
            make_irregular(ratio=1)
        with pytest.raises(ValueError, match="n_channels must be a whole number of at least 1, got 0"):
            make_irregular(n_channels=0)


@pytest.fixture(scope="module")
def stays():
    return make_icu(3000, random_state=0)


class TestIcu:
    def test_measurements_follow_the_severity(self, stays):
        series = np.repeat(np.arange(3000), stays.data.lengths)
        share = stays.data.times / 48
        severity = stays.severity[series, 0] * (1 - share) + stays.severity[series, 1] * share
        for k, (name, variable) in enumerate(VARIABLES.items(), 1):
            assert stays.feature_names[k] == name
            value = stays.data.values[:, k]
            seen = ~np.isnan(value)
            fit = LinearRegression().fit(severity[seen, None], value[seen])
            error = 5 * variable.spread / np.sqrt(seen.sum())  # five standard errors; severity has variance 1
            assert fit.coef_[0] == pytest.approx(variable.slope, abs=error), name
            assert fit.intercept_ == pytest.approx(variable.normal, abs=1.5 * error), name
            residual = value[seen] - fit.predict(severity[seen, None])
            assert residual.std() == pytest.approx(variable.spread, rel=0.03), name

    def test_the_risk_is_the_stated_one(self, stays):
        age = stays.data.values[stays.data.offsets[:-1], 0]
        odds = -2.2 + 0.5 * (age - 64) / 14 + 1.6 * stays.severity[:, 1]
        np.testing.assert_allclose(stays.probability, 1 / (1 + np.exp(-odds)), rtol=1e-6)  # age in float32
        # Calibrated in fifths of the risk: four binomial standard errors.
        for fifth in np.array_split(np.argsort(stays.probability), 5):
            p = stays.probability[fifth]
            error = 4 * np.sqrt((p * (1 - p)).sum()) / len(p)
            assert stays.target[fifth].mean() == pytest.approx(p.mean(), abs=error)
        assert roc_auc_score(stays.target, stays.probability) > 0.85

    def test_charting(self, stays):
        assert stays.data.time_unit == "h" and 0 <= stays.data.times.min() <= stays.data.times.max() <= 48
        sick = stays.severity[:, 0] > 0
        assert stays.data.lengths[sick].mean() > 1.5 * stays.data.lengths[~sick].mean()
        plain = make_icu(2000, informative=0, random_state=0)
        creatinine = np.isfinite(plain.data.values[:, plain.feature_names.index("Creatinine")])
        assert creatinine.sum() / 2000 == pytest.approx(48 / 12, abs=0.2)  # standard error 0.045
        # Variables are charted each at times of its own.
        assert (np.isfinite(plain.data.values[:, 1:]).sum(axis=1) == 1).mean() > 0.99

    def test_the_shortest_record_is_still_a_series_each(self):
        assert len(make_icu(20, duration=0.01, random_state=0).data) == 20

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match="informative must be .* at least 0 and at most 2, got 3"):
            make_icu(informative=3)


def evaluate(text):
    """Value of an expression by Python's own parser, after turning it into calls."""
    calls = {"[MIN": "low(", "[MAX": "high(", "[MED": "median(", "[SM": "total(", "]": "),"}
    functions = {
        "low": lambda *values: min(values),
        "high": lambda *values: max(values),
        "median": lambda *values: int(statistics.median(values)),
        "total": lambda *values: sum(values) % 10,
    }
    return eval("".join(calls.get(word, f"{word},") for word in text.split()), functions)[0]  # noqa: S307


class TestListops:
    def test_values_by_another_parser(self):
        made = make_listops(300, min_length=4, random_state=0)
        assert [evaluate(text) for text in made.expressions] == made.target.tolist()
        assert set(made.target) == set(range(10)) and {"[MED", "[SM"} <= set(
            " ".join(made.expressions).split()
        )

    def test_series_are_the_expressions(self):
        for one_hot in (True, False):
            made = make_listops(20, one_hot=one_hot, random_state=0)
            values = made.data.values
            tokens = values.argmax(axis=1) if one_hot else values[:, 0].astype(int)
            words = [made.vocabulary[token] for token in tokens]
            assert words == " ".join(made.expressions).split()
            if one_hot:
                assert (values.sum(axis=1) == 1).all() and made.feature_names == made.vocabulary

    def test_bounds(self):
        made = make_listops(100, min_length=30, max_length=40, max_depth=3, max_args=4, random_state=0)
        assert 30 <= made.data.lengths.min() and made.data.lengths.max() <= 40
        for text in made.expressions:
            depth = np.cumsum([(word[0] == "[") - (word == "]") for word in text.split()])
            assert depth.max() <= 3 and depth[-1] == 0
        # With one level there are as many symbols as arguments and two more.
        flat = make_listops(50, min_length=4, max_depth=1, max_args=3, random_state=0)
        assert set(flat.data.lengths) == {4, 5}

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match="max_length must be a whole number of at least 50, got 40"):
            make_listops(min_length=50, max_length=40)
        with pytest.raises(ValueError, match="no expression of 6 to 9 symbols was found with max_depth=1"):
            make_listops(1, min_length=6, max_length=9, max_depth=1, max_args=2)


class TestMemory:
    def test_copy(self):
        made = make_copy(200, n_symbols=5, n_items=3, delay=7, random_state=0)
        assert made.data.shape == (200, 5, 10) and made.target.shape == (200, 3)
        np.testing.assert_array_equal(made.data[:, :, :3].argmax(axis=1), made.target)
        np.testing.assert_array_equal(made.data[:, :, :3].sum(axis=1), 1)
        assert (made.data[:, :, 3:] == 0).all() and set(made.target.ravel()) == set(range(5))
        one = make_copy(10, delay=0, random_state=0)
        assert one.target.shape == (10,) and one.data.shape == (10, 8, 1)

    @pytest.mark.parametrize(("length", "bandwidth"), [(200, 0.05), (64, 0.5), (33, 0.31)])
    def test_delay(self, length, bandwidth):
        made = make_delay(4000, length=length, delays=(0, 20, 31), bandwidth=bandwidth, random_state=0)
        noise = made.data[:, 0]
        np.testing.assert_allclose(made.target, noise[:, [-1, -21, -32]], atol=1e-6)  # float32
        # Standard error of a variance of 4,000 normal numbers: 0.022.
        np.testing.assert_allclose(noise.var(axis=0), 1, atol=0.11)
        # Spectrum of a half of a period, against leakage with a window: power above the band is nearly none.
        power = np.abs(np.fft.rfft(noise * np.hanning(length), axis=1)) ** 2
        frequency = np.fft.rfftfreq(length)
        assert power[:, frequency > bandwidth + 4 / length].sum() <= 1e-3 * power.sum()
        assert power[:, frequency < bandwidth / 2].sum() == pytest.approx(0.5 * power.sum(), rel=0.25)

    def test_bad_arguments(self):
        for delays in ((), (200,), (-1,), (1.5,)):
            with pytest.raises(ValueError, match="delays must be"):
                make_delay(delays=delays)
        with pytest.raises(ValueError, match=r"bandwidth must be at least 1 / \(2 length\) = 0.0025"):
            make_delay(bandwidth=0.001)
        with pytest.raises(ValueError, match="n_symbols must be a whole number of at least 2, got 1"):
            make_copy(n_symbols=1)
