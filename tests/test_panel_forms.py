"""What a panel turns into and what it says of itself: ids, units, round trips, joining, display."""

import copy
import pickle
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GroupKFold, train_test_split
from sktime.datatypes import check_raise

from tsssm.encoding import PanelEncoder
from tsssm.panel import Panel, as_panel
from tsssm.panel._checks import UNITS

NAN = np.nan


def make(*, times="irregular", unit=None, names=("hr", "spo2"), ids=("b", "a", "c"), lengths=(3, 1, 4)):
    """Three series of two channels, some values missing but no sample altogether."""
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = rng.normal(size=(offsets[-1], 2)).astype(np.float32)
    values[[0, 4], [0, 1]] = NAN
    stamps = {
        "none": None,
        "irregular": np.concatenate([np.cumsum(rng.integers(1, 9, size=k)) / 4 for k in lengths]),
        "whole": np.concatenate([np.cumsum(rng.integers(1, 9, size=k)) for k in lengths]),
    }[times]
    return Panel(values, offsets, stamps, names, ids=ids, time_unit=unit)


class TestIds:
    @pytest.mark.parametrize("ids", [["b", "a", "c"], [3, 1, 2], pd.Index([7, 7, 8], name="patient")])
    def test_follow_every_selection(self, ids):
        panel = make(ids=ids)
        assert isinstance(panel.ids, pd.Index) and panel.ids.tolist() == list(ids)
        for key in (slice(1, 3), [2, 0, 0], np.array([True, False, True]), 1, [], slice(None, None, -1)):
            expected = np.atleast_1d(np.arange(3)[slice(0) if isinstance(key, list) and not key else key])
            assert panel[key].ids.tolist() == [list(ids)[i] for i in expected]
        assert [series.ids[0] for series in panel] == list(ids)
        assert panel.drop_missing_rows().ids is panel.ids

    def test_of_series_without_ids(self):
        assert make(ids=None)[[1, 0]].ids is None

    def test_follow_a_split_and_align_labels(self):
        panel = make()
        labels = pd.Series({"a": 1, "b": 2, "c": 3})
        train, test, y_train, _ = train_test_split(panel, labels.loc[panel.ids], test_size=1, random_state=0)
        assert labels.loc[train.ids].tolist() == y_train.tolist()
        assert len(train) == 2 and not set(train.ids) & set(test.ids)

    def test_are_groups(self):
        panel = make(ids=[1, 2, 1])
        for train, test in GroupKFold(2).split(panel, groups=panel.ids):
            assert not set(panel[train].ids) & set(panel[test].ids)

    def test_survive_copies(self):
        panel = make(unit="h")
        for other in (pickle.loads(pickle.dumps(panel)), copy.deepcopy(panel)):
            assert other == panel and other.ids.equals(panel.ids) and other.time_unit == "h"

    def test_pickle_of_a_slice_has_its_ids_only(self):
        panel = Panel.from_numpy(np.zeros((10_000, 1)))
        panel = Panel(panel.values, panel.offsets, ids=np.arange(10_000) ** 2)
        assert len(pickle.dumps(panel[5:7])) < 3000

    def test_count_in_comparisons(self):
        assert make() == make() and make() != make(ids=None) and make() != make(ids=["b", "a", "d"])
        assert make(unit="s") != make() and make(unit="s") != make(unit="h")

    def test_come_from_frames_that_have_labels(self):
        frame = make(times="whole").to_multiindex()
        assert as_panel(frame).ids.tolist() == ["b", "a", "c"]
        assert as_panel(frame.loc[["c", "b"]]).ids.tolist() == ["c", "b"]
        nested = pd.DataFrame({"x": [pd.Series([1.0]), pd.Series([2.0])]}, index=["p", "q"])
        assert as_panel(nested).ids.tolist() == ["p", "q"]
        table = pd.DataFrame(np.eye(3))
        assert as_panel(table).ids is None and as_panel(table[1:]).ids.tolist() == [1, 2]
        assert as_panel(table.set_axis([1.0, NAN, 3.0])).ids is None

    @pytest.mark.parametrize(
        ("ids", "message"),
        [
            (["a", "b"], "ids of Panel must be 3 labels, one per series; got 2 labels"),
            (["a", None, "b"], "must not be missing; got 1"),
            (pd.MultiIndex.from_product([["a"], [1, 2, 3]]), "got 2 levels"),
        ],
    )
    def test_bad(self, ids, message):
        with pytest.raises(ValueError, match=message):
            make(ids=ids)


class TestUnits:
    @pytest.mark.parametrize("unit", UNITS)
    def test_are_those_of_pandas(self, unit):
        assert pd.Timedelta(1, unit=unit) / pd.Timedelta("1s") == UNITS[unit]

    @pytest.mark.parametrize("unit", ["ms", "s", "min", "D"])
    def test_stamps_are_converted_and_numbers_taken(self, unit):
        seconds = pd.to_timedelta([0.0, 1.5, 90.0, 86400.0], unit="s")
        for index in (seconds, pd.Timestamp("2024-02-28") + seconds):
            panel = Panel.from_dataframes([pd.DataFrame({"a": [0.0] * 4}, index=index)], time_unit=unit)
            assert panel.time_unit == unit
            # float64 division, once
            np.testing.assert_allclose(panel.times, seconds.total_seconds() / UNITS[unit], rtol=1e-15)
        numbers = Panel.from_numpy(np.zeros((1, 4)), [0, 1, 2, 5], time_unit=unit)
        assert (numbers.times.tolist(), numbers.time_unit) == ([0, 1, 2, 5], unit)

    def test_converting(self):
        panel = make(unit="h")
        minutes = panel.convert_times("min")
        assert minutes.time_unit == "min" and panel.convert_times("h") is panel
        np.testing.assert_allclose(minutes.times, 60 * panel.times, rtol=1e-15)
        np.testing.assert_allclose(minutes.convert_times("h").times, panel.times, rtol=4e-16)
        assert minutes.values is not None and minutes.ids is panel.ids

    def test_naming_a_unit_says_that_a_counting_index_is_time(self):
        frame = pd.DataFrame({"a": [1.0, 2.0, 3.0]})
        frames, nested = [frame], pd.DataFrame({"a": [frame["a"]]})
        for read, X in (
            (Panel.from_dataframes, frames),
            (Panel.from_multiindex, pd.concat({"p": frame})),
            (Panel.from_nested, nested),
        ):
            assert not read(X).has_times
            panel = read(X, time_unit="min")
            assert panel.times.tolist() == [0, 1, 2] and panel.time_unit == "min"

    @pytest.mark.parametrize("unit", ["hours", "m", "H", "", 1])
    def test_unknown(self, unit):
        for attempt in (
            lambda: make(unit=unit),
            lambda: make(unit="s").convert_times(unit),
            lambda: Panel.from_numpy(np.zeros((1, 2)), [0, 1], time_unit=unit),
            lambda: Panel.from_dataframes([pd.DataFrame({"a": [1.0]})], time_unit=unit),
        ):
            with pytest.raises(ValueError, match="time_unit must be None or one of 'ns', .*'W'; got"):
                attempt()

    def test_without_times(self):
        with pytest.raises(ValueError, match="time_unit='s' of Panel needs times"):
            make(times="none", unit="s")
        with pytest.raises(ValueError, match="has no times"):
            make(times="none").convert_times("s")
        with pytest.raises(ValueError, match="has no unit of its times"):
            make().convert_times("s")

    def test_the_encoder_converts_to_the_unit_of_training(self):
        panel = make(unit="h")
        encoder = PanelEncoder().fit(panel)
        assert (encoder.has_times, encoder.time_unit) == (True, "h")
        expected = encoder.encode(panel).dt
        for unit in ("s", "ms", "D"):
            # float32 of float64 products
            np.testing.assert_allclose(encoder.encode(panel.convert_times(unit)).dt, expected, rtol=2e-7)

    def test_the_encoder_refuses_to_compare_stamps_with_numbers(self):
        known, unknown, none = make(unit="s"), make(), make(times="none")
        for train, later, message in (
            (
                known,
                unknown,
                "X has times that are numbers without a unit, but the training data had times in 's'",
            ),
            (unknown, known, "X has times in 's', but the training data had times that are numbers without"),
            (none, known, "X has times in 's', but the training data had no times"),
        ):
            encoder = PanelEncoder().fit(train)
            with pytest.raises(ValueError, match=f"{message}.*time_unit"):
                encoder.encode(later)
            encoder.encode(none)
        scaled = PanelEncoder(0.5).fit(none)
        assert scaled.encode(known).dt[1] == known.gaps()[1] / 0.5


class TestRoundTrips:
    @pytest.mark.parametrize(
        ("times", "unit"),
        [("none", None), *((t, u) for t in ("whole", "irregular") for u in (None, "s", "h"))],
    )
    def test_frames_and_tables(self, times, unit):
        panel = make(times=times, unit=unit)
        assert Panel.from_multiindex(panel.to_multiindex(), time_unit=unit) == panel
        nameless = Panel(panel.values, panel.offsets, panel.times, panel.channel_names, time_unit=unit)
        assert Panel.from_dataframes(panel.to_dataframes(), time_unit=unit) == nameless
        if times != "none":  # a long table always has times
            assert Panel.from_long(panel.to_long(), time_unit=unit) == panel
            wide = panel.to_multiindex().reset_index()
            assert Panel.from_wide(wide, time="time", time_unit=unit) == panel

    @pytest.mark.parametrize("times", ["none", "whole"])
    def test_from_the_other_side(self, times):
        frame = make(times=times).to_multiindex().rename_axis(["patient", "time"])
        pd.testing.assert_frame_equal(Panel.from_multiindex(frame).to_multiindex(), frame)
        frames = make(times=times).to_dataframes()
        for one, other in zip(Panel.from_dataframes(frames).to_dataframes(), frames, strict=True):
            pd.testing.assert_frame_equal(one, other)

    def test_arrays(self):
        X = np.random.default_rng(0).normal(size=(4, 2, 5)).astype(np.float32)
        X[1, 0, 3] = NAN
        np.testing.assert_array_equal(Panel.from_numpy(X).to_numpy(), X)
        ragged = make().to_numpy()
        assert ragged.shape == (3, 2, 4) and ragged.dtype == np.float32
        np.testing.assert_array_equal(ragged[1, :, 1:], NAN)
        np.testing.assert_array_equal(ragged[0, :, :3].T, make()[0].values)

    def test_unnamed_channels_and_series(self):
        rng = np.random.default_rng(0)
        panel = Panel.from_numpy(rng.normal(size=(3, 12, 4)), np.arange(1, 5))
        long = panel.to_long()
        assert list(long.columns) == ["id", "time", "variable", "value"] and len(long) == 3 * 12 * 4
        again = Panel.from_long(long)
        assert again.channel_names is None and again.ids.tolist() == [0, 1, 2]
        np.testing.assert_array_equal(again.values, panel.values)

    def test_sktime_takes_them(self):
        for panel in (make(times="whole"), make(times="none"), make(unit="min")):
            check_raise(panel.to_multiindex().rename_axis(["instances", "timepoints"]), "pd-multiindex")
            check_raise(panel.to_dataframes(), "df-list")

    def test_times_with_a_unit_become_time_differences(self):
        index = make(unit="h").to_multiindex().index
        assert isinstance(index.levels[1], pd.TimedeltaIndex) and index.names == ["id", "time"]
        hours = index.get_level_values(1) / pd.Timedelta("1h")
        np.testing.assert_array_equal(hours, make(unit="h").times)
        with pytest.raises(ValueError, match="1e\\+06 W do not fit a TimedeltaIndex"):
            Panel(np.zeros((2, 1)), [0, 2], [0, 1e6], time_unit="W").to_multiindex()

    def test_repeated_ids_cannot_be_an_index(self):
        with pytest.raises(ValueError, match="ids must be unique.*'b' occurs more than once"):
            make()[[0, 1, 0]].to_multiindex()
        assert len(make()[[0, 1, 0]].to_dataframes()) == 3


class TestConcatenate:
    def test_is_the_inverse_of_slicing(self):
        for panel in (make(unit="h"), make(times="none"), make(ids=None, names=None)):
            assert Panel.concatenate([panel[:1], panel[1:]]) == panel
            assert Panel.concatenate([panel]) == panel
            assert Panel.concatenate(list(panel)[::-1]) == panel[::-1]
        panel = make()
        assert Panel.concatenate([panel[:0], panel]) == panel

    def test_units_become_those_of_the_first(self):
        panel = make(unit="h")
        joined = Panel.concatenate([panel, panel.convert_times("min")])
        assert joined.time_unit == "h" and joined[:3] == panel
        np.testing.assert_allclose(joined[3:].times, panel.times, rtol=4e-16)

    def test_ids_are_kept_only_if_all_have_them(self):
        assert Panel.concatenate([make(), make(ids=None)]).ids is None
        assert Panel.concatenate([make(), make(ids=[1, 2, 3])]).ids.tolist() == ["b", "a", "c", 1, 2, 3]

    @pytest.mark.parametrize(
        ("panels", "error", "message"),
        [
            ([], ValueError, "at least one panel, got none"),
            ([make(), "panel"], TypeError, r"panels\[1\] must be a Panel, got str"),
            (
                [make(), make(names=["hr", "rr"])],
                ValueError,
                r"panels\[0\] has \('hr', 'spo2'\), panels\[1\] \('hr', 'rr'\)",
            ),
            ([make(), make(names=None)], ValueError, r"panels\[1\] 2 without names"),
            (
                [make(names=None), Panel(np.zeros((1, 1)), [0, 1], [0])],
                ValueError,
                "2 without names, .* 1 without",
            ),
            ([make(), make(times="none")], ValueError, r"has times without a unit, panels\[1\] no times"),
            ([make(), make(unit="h")], ValueError, r"has times without a unit, panels\[1\] times in h"),
        ],
    )
    def test_refused(self, panels, error, message):
        with pytest.raises(error, match=message):
            Panel.concatenate(panels)


class Cells(HTMLParser):
    """The text of every table cell, and a check that every tag is closed in its turn."""

    def __init__(self, html):
        super().__init__()
        self.open, self.cells = [], []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


class TestDisplay:
    def test_text(self):
        expected = (
            "Panel(3 series, 2 channels, length 1-3-4 (min-median-max), 12 % missing, times 0.25 to 3 h)"
        )
        assert repr(make(unit="h")) == expected
        assert repr(make()) == expected.replace(" h)", ")")
        assert repr(make(times="none")) == expected.replace("times 0.25 to 3 h", "no times")
        assert repr(make(unit="h")[:0]) == "Panel(0 series, 2 channels)"

    def test_notebook(self):
        cells = Cells(make(unit="h")._repr_html_()).cells
        facts = {
            "series": "3",
            "channels": "2",
            "length": "1-3-4 (min-median-max)",
            "missing": "12 %",
            "times": "0.25 to 3 h",
            "ids": "b to c, in this order",
            "hr": "12 %",
            "spo2": "12 %",
        }
        shown = dict(zip(cells[::2], cells[1::2], strict=True))
        assert {label: shown.get(label) for label in facts} == facts

    def test_labels_are_escaped(self):
        evil = "<script>alert('x')</script>"
        html = make(names=[evil, "b&c"], ids=[evil, "b", evil])._repr_html_()
        assert "<script>" not in html
        assert evil in Cells(html).cells and "b&c" in Cells(html).cells

    def test_many_channels_are_counted(self):
        panel = Panel.from_numpy(np.zeros((2, 40, 3)))
        cells = Cells(panel._repr_html_()).cells
        assert cells[-1] == "and 28 more" and "11" in cells and "12" not in cells

    @pytest.mark.parametrize("panel", [make()[:0], make(times="none", names=None, ids=None)], ids=repr)
    def test_little_to_say(self, panel):
        assert Cells(panel._repr_html_()).cells[:2] == ["series", str(len(panel))]
