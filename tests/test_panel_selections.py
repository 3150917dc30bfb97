"""Channels, ids, stretches, windows and grids, against pandas and against loops written out."""

import re

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GroupKFold

from tsssm.panel import Panel

NAN = np.nan


@pytest.fixture
def panel():
    """Four series of three named channels at random times in hours, a third missing."""
    rng = np.random.default_rng(0)
    lengths = [12, 1, 30, 7]
    times = [np.cumsum(rng.exponential(size=n)) + 3 for n in lengths]
    values = rng.normal(size=(sum(lengths), 3))
    values[rng.random(values.shape) < 0.3] = NAN
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    names = ["HR", "SpO2", "Temp"]
    return Panel(values, offsets, np.concatenate(times), names, ids=["a", "b", "a", "c"], time_unit="h")


def series_of(panel):
    """(times, values) of each series."""
    for i in range(len(panel)):
        rows = slice(panel.offsets[i], panel.offsets[i + 1])
        times = np.arange(rows.stop - rows.start, dtype=float) if panel.times is None else panel.times[rows]
        yield times, panel.values[rows]


class TestChannelsAndIds:
    @pytest.mark.parametrize("channels", [["Temp", "HR"], [2, 0], [-1, "HR"]])
    def test_channels_in_the_order_asked_for(self, panel, channels):
        chosen = panel.select(channels)
        assert chosen.channel_names == ("Temp", "HR")
        np.testing.assert_array_equal(chosen.values, panel.values[:, [2, 0]])
        assert chosen.ids is panel.ids and chosen.time_unit == "h"

    def test_two_channels_of_one_name(self, panel):
        twins = Panel(panel.values, panel.offsets, channel_names=["HR", "Temp", "HR"])
        assert twins.select(["Temp", -1]).channel_names == ("Temp", "HR")
        with pytest.raises(KeyError, match="2 channels are called 'HR': give positions"):
            twins.select("HR")

    def test_one_channel_is_a_panel(self, panel):
        assert panel.select("SpO2").shape == panel.select(1).shape == (4, 1)

    @pytest.mark.parametrize(
        ("channels", "message"),
        [
            ("Hr", "no channel 'Hr'; it has HR, SpO2, Temp. Did you mean 'HR'?"),
            (["HR", "x"], "no channel 'x'; it has HR, SpO2, Temp."),
            (3, "channels=3 is out of range for 3 channels"),
            ([], "channels must name one or more channels, each once; got []"),
            (["HR", 0], "each once"),
            ([1.5], "names or positions; got 1.5"),
            ([True], "names or positions; got True"),
        ],
    )
    def test_what_is_not_there_is_named(self, panel, channels, message):
        with pytest.raises((KeyError, IndexError, ValueError), match=re.escape(message)):
            panel.select(channels)
        if isinstance(channels, str):
            with pytest.raises(ValueError, match="is a name, but the 3 channels have none"):
                Panel(panel.values, panel.offsets).select(channels)

    def test_series_by_id(self, panel):
        assert panel.loc["c"] == panel[3]
        assert panel.loc[["c", "a"]] == panel[[3, 0, 2]]
        numbered = Panel(panel.values, panel.offsets, ids=[7, 8, 9, 7])
        assert numbered.loc[7] == numbered[[0, 3]]
        dated = Panel(panel.values, panel.offsets, ids=pd.date_range("2024", periods=4))
        assert dated.loc[pd.Timestamp("2024-01-02")] == dated[1]
        with pytest.raises(KeyError, match="no series has the id 'z'; 1 of 2 not found"):
            panel.loc[["a", "z"]]
        with pytest.raises(ValueError, match="the panel has no ids"):
            Panel(panel.values, panel.offsets).loc["a"]


class TestBetween:
    @pytest.mark.parametrize("inclusive", ["left", "both", "right", "neither"])
    def test_equals_pandas(self, panel, inclusive):
        start, stop = panel.times[3], panel.times[7]  # bounds that samples stand on
        cut = panel.between(start, stop, inclusive=inclusive)
        assert len(cut) == 4 and cut.ids is panel.ids
        for (times, values), (found_times, found) in zip(series_of(panel), series_of(cut), strict=True):
            inside = pd.Series(times).between(start, stop, inclusive=inclusive).to_numpy()
            if inside.any():
                np.testing.assert_array_equal(found_times, times[inside])
                np.testing.assert_array_equal(found, values[inside])
            else:
                assert np.isnan(found).all() and len(found) == 1 and start <= found_times[0] <= stop

    def test_open_ends_and_time_differences(self, panel):
        assert panel.between() == panel
        assert panel.between("4h") == panel.between(4) == panel.between(pd.Timedelta(240, "min"))
        assert panel.between(stop=np.timedelta64(5, "h")) == panel.between(stop=5.0)

    def test_stretches_side_by_side_hold_each_sample_once(self, panel):
        first, second = panel.between(stop=6), panel.between(6)
        held = [np.count_nonzero(~np.isnan(part.values)) for part in (first, second)]
        assert sum(held) == np.count_nonzero(~np.isnan(panel.values)) and min(held) > 0

    def test_sample_numbers_where_there_are_no_times(self):
        panel = Panel(np.arange(8.0)[:, None], [0, 5, 8])
        cut = panel.between(1, 4)
        assert not cut.has_times and cut.lengths.tolist() == [3, 2]
        assert cut.values.ravel().tolist() == [1, 2, 3, 6, 7]
        assert panel.between(4).lengths.tolist() == [1, 1] and np.isnan(panel.between(4)[1].values).all()

    def test_the_original_does_not_change(self, panel):
        before = panel.values.copy(), panel.times.copy()
        panel.between(1e6)
        np.testing.assert_array_equal(panel.values, before[0])
        np.testing.assert_array_equal(panel.times, before[1])

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ((5, 4), ValueError, "stop must not be before start; got start=5 and stop=4"),
            (("soon",), ValueError, "start must be a number or a time difference; got 'soon'"),
            ((None, [1]), TypeError, r"stop must be a number or a time difference; got \[1\]"),
            ((NAN,), ValueError, "start must be finite; got nan"),
            ((True,), TypeError, "start must be a number"),
        ],
    )
    def test_bounds_that_are_none(self, panel, arguments, error, message):
        with pytest.raises(error, match=message):
            panel.between(*arguments)
        with pytest.raises(ValueError, match="inclusive must be one of 'both', 'left'"):
            panel.between(1, inclusive="yes")
        with pytest.raises(ValueError, match="start='1h' is a time difference, but the panel has no times"):
            Panel(panel.values, panel.offsets).between("1h")


class TestWindows:
    @pytest.mark.parametrize(("length", "stride"), [(2.0, None), (3.0, 1.0), (1.5, 4.0), ("90min", "1h")])
    @pytest.mark.parametrize("partial", [False, True])
    def test_equals_a_loop(self, panel, length, stride, partial):
        hours = [pd.Timedelta(x) / pd.Timedelta("1h") if isinstance(x, str) else x for x in (length, stride)]
        span, step = hours[0], hours[1] or hours[0]
        expected, ids = [], []
        for id, (times, values) in zip(panel.ids, series_of(panel), strict=True):
            elapsed = times - times[0]
            reach = elapsed[-1] + (np.median(np.diff(times)) if len(times) > 1 else 0.0)
            k = 0
            while k * step <= elapsed[-1] if partial else k * step + span <= reach:
                inside = (elapsed >= k * step) & (elapsed < k * step + span)
                if inside.any():
                    expected.append((times[inside], values[inside]))
                    ids.append(id)
                k += 1
        found = panel.window(length, stride, partial=partial)
        assert found.ids.tolist() == ids and found.time_unit == "h" and found.channel_names
        for (times, values), (found_times, found_values) in zip(expected, series_of(found), strict=True):
            np.testing.assert_array_equal(found_times, times)
            np.testing.assert_array_equal(found_values, values)

    def test_whole_windows_of_a_regular_grid(self):
        """A tenth of a second has no exact float: no window loses or wins a sample by it."""
        for times in (None, 0.1 * np.arange(100), 1.7e9 + 0.1 * np.arange(100)):
            panel = Panel(np.arange(100.0)[:, None], [0, 100], times)
            length = 1 if times is not None else 10
            found = panel.window(length)
            assert found.lengths.tolist() == [10] * 10
            np.testing.assert_array_equal(found.values, panel.values)
            assert panel.window(length, length / 2).lengths.tolist() == [10] * 19

    def test_windows_of_a_series_stay_together_in_a_split(self, panel):
        found = panel.window(2.0)
        labels = pd.Series({"a": 0, "b": 1, "c": 2}).loc[found.ids].to_numpy()
        for train, test in GroupKFold(2).split(found, labels, groups=found.ids):
            assert not set(found.ids[train]) & set(found.ids[test])

    def test_series_without_ids_are_numbered(self):
        panel = Panel(np.zeros((7, 1)), [0, 4, 7])
        assert panel.window(2).ids.tolist() == [0, 0, 1]
        assert panel.window(2, partial=True).ids.tolist() == [0, 0, 1, 1]

    def test_nothing_to_cut(self, panel):
        with pytest.raises(ValueError, match=r"no series fills .* length=1000: the longest spans \d"):
            panel.window(1000)
        for arguments in ((0,), (1, -1)):
            with pytest.raises(ValueError, match="must be positive; got"):
                panel.window(*arguments)


class TestResample:
    @pytest.mark.parametrize("how", ["mean", "median", "min", "max", "sum", "first", "last"])
    def test_summaries_equal_pandas(self, panel, how):
        found = panel.resample("45min", how)
        assert found.ids is panel.ids and found.time_unit == "h"
        for (times, values), (grid, got) in zip(series_of(panel), series_of(found), strict=True):
            np.testing.assert_allclose(grid, times[0] + 0.75 * np.arange(len(grid)), rtol=1e-12)
            frame = pd.DataFrame(values, index=pd.to_timedelta(times - times[0], unit="h"))
            given = {"min_count": 1} if how == "sum" else {}
            expected = getattr(frame.resample("45min"), how)(**given)
            np.testing.assert_allclose(got, expected.to_numpy(), rtol=1e-6)

    @pytest.mark.parametrize("how", ["linear", "hold"])
    def test_readings_equal_pandas(self, panel, how):
        found = panel.resample(0.5, how)
        for (times, values), (grid, got) in zip(series_of(panel), series_of(found), strict=True):
            for column, answer in zip(values.T, got.T, strict=True):
                known = pd.Series(column.astype(float), index=times).dropna()
                whole = known.reindex(np.union1d(known.index, grid))
                if how == "hold":
                    expected = whole.ffill()
                elif len(known):
                    expected = whole.interpolate("index", limit_area="inside")
                else:
                    expected = whole
                np.testing.assert_allclose(answer, expected.loc[grid].to_numpy(), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("how", ["mean", "linear", "hold", "first"])
    @pytest.mark.parametrize("start", [0.0, 0.1, 1.7e9])
    def test_the_grid_that_is_there_stays(self, how, start):
        times = start + 0.1 * np.arange(1000)
        values = np.random.default_rng(0).normal(size=(1000, 2)).astype(np.float32)
        values[::2, 1] = NAN
        panel = Panel(values, [0, 1000], times)
        found = panel.resample(0.1, how)
        np.testing.assert_allclose(found.times, times, rtol=1e-12)
        channels = [0] if how in ("linear", "hold") else [0, 1]
        np.testing.assert_allclose(found.values[:, channels], values[:, channels], rtol=0, atol=2e-5)
        np.testing.assert_allclose(found.values[1::2, 1], values[1::2, 1], rtol=0, atol=2e-5)
        assert panel.resample(0.2, how).lengths.tolist() == [500]

    def test_without_times_in_samples(self):
        panel = Panel(np.arange(10.0)[:, None], [0, 6, 10])
        found = panel.resample(2)
        assert found.values.ravel().tolist() == [0.5, 2.5, 4.5, 6.5, 8.5]
        assert found.times.tolist() == [0, 2, 4, 0, 2]

    def test_what_is_refused(self, panel):
        with pytest.raises(ValueError, match="how must be one of 'mean', .*; got 'cubic'"):
            panel.resample(1, "cubic")
        with pytest.raises(ValueError, match="step must be positive; got 0"):
            panel.resample(0)
        with pytest.raises(ValueError, match="step=1e-15 would make .* samples from 50"):
            panel.resample(1e-15)


def test_describe(panel):
    table = panel.describe()
    frame = pd.DataFrame(panel.values.astype(float), columns=panel.channel_names)
    pd.testing.assert_frame_equal(table[frame.describe().index], frame.describe().T, check_names=False)
    np.testing.assert_allclose(table["missing"], frame.isna().mean())
    for channel, name in enumerate(panel.channel_names):
        gaps, held = [], 0
        for times, values in series_of(panel):
            known = times[~np.isnan(values[:, channel])]
            gaps.extend(np.diff(known))
            held += len(known) > 0
        assert table.loc[name, "gap"] == pytest.approx(np.median(gaps)) and table.loc[name, "series"] == held
    assert Panel(np.zeros((2, 1)), [0, 2]).describe().loc[0, "gap"] == 1


@pytest.mark.parametrize(
    "change", [lambda p: p.between(1), lambda p: p.resample(1), lambda p: p.select(0)], ids=range(3)
)
def test_an_empty_panel_stays_one(panel, change):
    assert len(change(panel[:0])) == 0
