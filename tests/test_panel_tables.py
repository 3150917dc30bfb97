"""Long and wide tables: against pandas' own pivot, and every rule that the docstring states."""

import os
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tsssm.panel import DataWarning, Panel

NAN = np.nan
ROLES = {"id": "RecordID", "time": "Time", "variable": "Parameter", "value": "Value"}


def record(number, *rows):
    """Rows of one record as the publisher of PhysioNet 2012 writes them."""
    frame = pd.DataFrame(rows, columns=["Time", "Parameter", "Value"])
    frame.insert(0, "RecordID", number)
    return frame


@pytest.fixture
def stays():
    """Three stays: asynchronous, with a double value, with static rows alone."""
    static = [("00:00", "Age", 54.0), ("00:00", "Height", -1.0), ("00:00", "Weight", 80.0)]
    first = record(
        140,
        *static,
        ("00:07", "HR", 73.0),
        ("00:07", "Temp", 35.1),
        ("00:37", "HR", 77.0),
        ("27:37", "Urine", 60.0),
        ("27:37", "Urine", 100.0),
        ("47:59", "Weight", 82.5),
    )
    second = record(132, ("00:00", "Age", 70.0), ("03:00", "HR", 90.0), ("03:00", "Temp", NAN))
    third = record(135, ("00:05", "Age", 33.0), ("00:00", "Height", 170.0))
    return pd.concat([first, second, third], ignore_index=True)


def random_table(n=30, rows=2000, seed=0):
    """A long table in random order, with times on a coarse grid, so that many values share a time."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "id": rng.integers(100, 100 + n, rows),
            "time": rng.integers(0, 20, rows) / 4,
            "variable": rng.choice(["spo2", "hr", "map"], rows),
            "value": rng.normal(size=rows).astype(np.float32),
        }
    )


class TestLong:
    def test_a_clinical_table_as_it_comes(self, stays):
        panel = Panel.from_long(stays, **ROLES, time_unit="min")
        assert panel.channel_names == ("Age", "HR", "Height", "Temp", "Urine", "Weight")
        assert panel.ids.tolist() == [140, 132, 135] and panel.ids.name == "RecordID"
        assert panel.lengths.tolist() == [5, 2, 2] and panel.time_unit == "min"
        assert panel.times.tolist() == [0, 7, 37, 27 * 60 + 37, 47 * 60 + 59, 0, 180, 0, 5]
        expected = [
            [54, NAN, -1, NAN, NAN, 80],
            [NAN, 73, NAN, 35.1, NAN, NAN],
            [NAN, 77, NAN, NAN, NAN, NAN],
            [NAN, NAN, NAN, NAN, 80, NAN],
            [NAN, NAN, NAN, NAN, NAN, 82.5],
            [70, NAN, NAN, NAN, NAN, NAN],
            [NAN, 90, NAN, NAN, NAN, NAN],
            [NAN, NAN, 170, NAN, NAN, NAN],
            [33, NAN, NAN, NAN, NAN, NAN],
        ]
        np.testing.assert_array_equal(panel.values, np.array(expected, dtype=np.float32))

    @pytest.mark.parametrize("duplicates", ["mean", "first", "last"])
    def test_against_pivot_table(self, duplicates):
        df = random_table()
        assert df.duplicated(["id", "time", "variable"]).any()
        panel = Panel.from_long(df, duplicates=duplicates)
        pivot = df.astype({"value": float}).pivot_table(
            index=["id", "time"], columns="variable", values="value", aggfunc=duplicates
        )
        assert panel.ids.tolist() == df["id"].drop_duplicates().tolist()
        assert panel.channel_names == tuple(pivot.columns)
        for i, label in enumerate(panel.ids):
            series, own = panel[i], pivot.loc[label]
            np.testing.assert_array_equal(series.times, own.index)
            # float64 means, rounded once to float32
            np.testing.assert_allclose(series.values, own.to_numpy(), rtol=1e-7)

    def test_the_order_of_rows_does_not_matter(self):
        df = random_table()
        panel = Panel.from_long(df)
        shuffled = Panel.from_long(df.sample(frac=1, random_state=1))
        order = shuffled.ids.get_indexer(panel.ids)
        np.testing.assert_array_equal(shuffled[order].times, panel.times)
        # float64 sums in another order, rounded to float32
        np.testing.assert_allclose(shuffled[order].values, panel.values, rtol=1e-6)

    def test_duplicates_can_be_refused(self, stays):
        with pytest.raises(ValueError, match=r"1 times .*'Urine' of series 140 at 1 days 03:37:00"):
            Panel.from_long(stays, **ROLES, duplicates="raise")
        once = stays.drop(index=7)
        assert Panel.from_long(once, **ROLES, duplicates="raise") == Panel.from_long(once, **ROLES)
        with pytest.raises(ValueError, match="duplicates must be one of 'mean'.*got 'sum'"):
            Panel.from_long(stays, **ROLES, duplicates="sum")

    def test_variables_choose_and_order_the_channels(self, stays):
        with pytest.warns(DataWarning, match="no variable 'Lactate'.* Other variables are"):
            panel = Panel.from_long(stays, **ROLES, variables=["Temp", "Lactate", "HR"])
        assert panel.channel_names == ("Temp", "Lactate", "HR")
        assert panel.lengths.tolist() == [2, 1, 1], "other variables add no samples"
        np.testing.assert_array_equal(panel[0].values, np.float32([[35.1, NAN, 73], [NAN, NAN, 77]]))

    def test_a_series_without_values_stays_at_its_first_time(self, stays):
        panel = Panel.from_long(stays, **ROLES, variables=["HR"])
        assert panel.ids.tolist() == [140, 132, 135]
        assert panel[2].times.tolist() == [0.0] and np.isnan(panel[2].values).all()
        with pytest.warns(DataWarning):
            nothing = Panel.from_long(stays, **ROLES, variables=["Lactate"])
        assert nothing.lengths.tolist() == [1, 1, 1] and nothing.missing_share == 1.0

    def test_static_variables_are_constant_channels(self, stays):
        static = ["Weight", "Age"]
        panel = Panel.from_long(stays, **ROLES, variables=["HR", "Weight", "Temp"], static=static)
        assert panel.channel_names == ("HR", "Weight", "Temp", "Age")
        expected = [
            [[73, 80, 35.1, 54], [77, 80, NAN, 54]],  # the weight at 00:00, not the one at 47:59
            [[90, NAN, NAN, 70]],
            [[NAN, NAN, NAN, 33]],
        ]
        for series, rows in zip(panel, expected, strict=True):
            np.testing.assert_array_equal(series.values, np.float32(rows))
        assert panel.times.tolist() == [7 * 60, 37 * 60, 3 * 3600, 0], "static rows add no samples"

    def test_static_alone(self, stays):
        panel = Panel.from_long(stays, **ROLES, variables=[], static=["Age"])
        assert panel.lengths.tolist() == [1, 1, 1] and panel.values.ravel().tolist() == [54, 70, 33]

    def test_labels_are_aligned_by_ids(self, stays):
        outcomes = pd.Series([0, 1, 0], index=[132, 135, 140])
        panel = Panel.from_long(stays, **ROLES)
        assert outcomes.loc[panel.ids].tolist() == [0, 0, 1]
        assert outcomes.loc[panel[[2, 0]].ids].tolist() == [1, 0]

    @pytest.mark.parametrize("dtype", [str, "category", object])
    def test_labels_of_any_type(self, stays, dtype):
        typed = stays.astype({"RecordID": dtype, "Parameter": dtype})
        panel, expected = Panel.from_long(typed, **ROLES), Panel.from_long(stays, **ROLES)
        assert panel.channel_names == expected.channel_names
        assert panel.ids.astype(str).tolist() == ["140", "132", "135"]
        np.testing.assert_array_equal(panel.values, expected.values)

    def test_variables_may_be_numbers(self):
        df = pd.DataFrame({"id": 1, "time": [0.0, 1.0], "variable": [220045, 21], "value": [80, 37.5]})
        assert Panel.from_long(df).channel_names == ("21", "220045")
        assert Panel.from_long(df, variables=[220045]).values.tolist() == [[80.0]]

    def test_nullable_values(self, stays):
        typed = stays.astype({"Value": "Float64"})
        assert Panel.from_long(typed, **ROLES) == Panel.from_long(stays, **ROLES)

    def test_text_among_values_of_other_variables(self, stays):
        df = stays.astype({"Value": object})
        df.loc[0, "Value"] = "fifty"
        assert Panel.from_long(df, **ROLES, variables=["HR"]).values[0, 0] == 73
        with pytest.raises(TypeError, match="column 'Value' of df.*text 'fifty'"):
            Panel.from_long(df, **ROLES)

    def test_the_table_is_not_written(self, stays):
        before = stays.copy()
        Panel.from_long(stays, **ROLES, static=["Age"])
        pd.testing.assert_frame_equal(stays, before)

    @pytest.mark.parametrize(
        ("change", "arguments", "error", "message"),
        [
            (lambda df: df[:0], {}, ValueError, r"Found df with 0 sample\(s\) \(shape=\(0, 4\)\)"),
            (lambda df: df.to_numpy(), {}, TypeError, "df must be a DataFrame.*got ndarray"),
            (
                lambda df: df,
                {"value": "value"},
                ValueError,
                r"value='value' is not a column of df, which has \['Rec",
            ),
            (
                lambda df: df.set_index("RecordID"),
                {},
                ValueError,
                r"id='RecordID' is not a column.*reset_index",
            ),
            (lambda df: df, {"value": "Time"}, ValueError, "one role only"),
            (
                lambda df: df.rename(columns={"Value": "Time"}),
                {"value": "RecordID"},
                ValueError,
                "2 columns",
            ),
            (lambda df: df.assign(RecordID=[None, *df.RecordID[1:]]), {}, ValueError, "1 missing labels"),
            (
                lambda df: df.assign(Parameter=[*df.Parameter[1:], None]),
                {},
                ValueError,
                "'Parameter'.*row 13",
            ),
            (lambda df: df.assign(Time=["00:00"] * 13 + [None]), {}, ValueError, "1 missing times.*row 13"),
            (lambda df: df.assign(Time=NAN), {}, ValueError, "14 missing times.*row 0"),
            (lambda df: df.assign(Time="midnight"), {}, TypeError, "'midnight'.*not a time 'HH:MM'"),
            (lambda df: df.assign(Time="2024-01-01 07:30"), {}, TypeError, "pandas.to_datetime"),
            (lambda df: df.assign(Time=True), {}, TypeError, "must hold numbers, dates.*bool"),
            (lambda df: df.assign(Value="high"), {}, TypeError, "column 'Value' of df.*text 'high'"),
            (lambda df: df.assign(Value=np.inf), {}, ValueError, "df contains infinity"),
            (lambda df: df.assign(Value=1e300), {}, ValueError, "too large for float32"),
            (lambda df: df, {"variables": "HR"}, TypeError, "variables must be a sequence.*'HR'"),
            (lambda df: df, {"variables": ["HR", "HR"]}, ValueError, "must not repeat a label; got HR"),
            (lambda df: df, {"variables": []}, ValueError, "at least one variable"),
            (lambda df: df, {"static": "Age"}, TypeError, "static must be a sequence.*'Age'"),
            (lambda df: df, {"time_unit": "hours"}, ValueError, "time_unit must be None or one of.*'hours'"),
        ],
    )
    def test_bad_tables(self, stays, change, arguments, error, message):
        with pytest.raises(error, match=f"(?s){message}"):
            Panel.from_long(change(stays), **{**ROLES, **arguments})


class TestTimesOfTables:
    @pytest.mark.parametrize(
        ("times", "minutes"),
        [
            (["00:00", "01:30", "47:59"], [0, 90, 2879]),
            (["00:00:30", "01:30:00", "100:00:00.5"], [0.5, 90, 6000 + 0.5 / 60]),
            (["-00:30", "00:00", "00:30"], [-30, 0, 30]),
            (pd.to_timedelta(["5min", "1h", "3D"]), [5, 60, 4320]),
            (pd.to_datetime(["2024-03-01 12:00", "2024-03-01 12:05", "2024-03-02 12:00"]), [0, 5, 1440]),
            (
                pd.to_datetime(["2024-03-31 00:30", "2024-03-31 01:30", "2024-03-31 02:30"], utc=True),
                [0, 60, 120],
            ),
            (pd.period_range("2024-02", periods=3, freq="M"), [0, 29 * 1440, 60 * 1440]),
            ([0, 5, 90], [0, 5, 90]),
            (pd.array([0, 5, 90], dtype="Int64"), [0, 5, 90]),
            (pd.Categorical(["00:00", "00:05", "01:30"]), [0, 5, 90]),
        ],
        ids=lambda case: type(case).__name__,
    )
    @pytest.mark.parametrize("wide", [False, True])
    def test_each_kind(self, times, minutes, wide):
        df = pd.DataFrame({"id": "a", "time": times, "variable": "hr", "value": [1.0, 2.0, 3.0]})
        if wide:
            panel = Panel.from_wide(df, time="time", channels=["value"], time_unit="min")
        else:
            panel = Panel.from_long(df, time_unit="min")
        assert panel.time_unit == "min"
        np.testing.assert_allclose(panel.times, minutes, rtol=1e-15)  # float64

    def test_stamps_are_seconds_and_numbers_have_no_unit_by_default(self):
        df = pd.DataFrame({"id": 1, "time": ["00:00", "00:01"], "variable": "hr", "value": 1.0})
        assert (Panel.from_long(df).times.tolist(), Panel.from_long(df).time_unit) == ([0, 60], "s")
        panel = Panel.from_long(df.assign(time=[0, 1]))
        assert (panel.times.tolist(), panel.time_unit) == ([0, 1], None)

    def test_counting_times_of_a_table_are_times(self):
        df = pd.DataFrame({"id": 1, "time": [0, 1, 2], "variable": "hr", "value": 1.0})
        assert Panel.from_long(df).has_times


class TestWide:
    @pytest.fixture
    def table(self):
        return pd.DataFrame(
            {
                "hr": [70, 90, 71, 92, 72],
                "patient": ["b", "a", "b", "a", "b"],
                "hour": [2.0, 1.0, 0.5, 0.0, 2.0],
                "spo2": [97.0, NAN, 98.0, 93.0, 96.0],
            }
        )

    def test_rows_are_sorted_within_their_series(self, table):
        panel = Panel.from_wide(table, id="patient", time="hour", time_unit="h")
        assert panel.ids.tolist() == ["b", "a"] and panel.channel_names == ("hr", "spo2")
        assert panel.times.tolist() == [0.5, 2, 2, 0, 1] and panel.time_unit == "h"
        expected = [[71, 98], [70, 97], [72, 96], [92, 93], [90, NAN]]
        np.testing.assert_array_equal(panel.values, np.float32(expected))

    def test_without_times_the_order_of_rows_counts(self, table):
        panel = Panel.from_wide(table, id="patient", channels=["spo2"])
        assert not panel.has_times and panel.channel_names == ("spo2",)
        np.testing.assert_array_equal(panel.values[:, 0], np.float32([97, 98, 96, NAN, 93]))

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"id": "stay"}, ValueError, "id='stay' is not a column of df"),
            ({"channels": ["hr", "rr"]}, ValueError, r"channels\[1\]='rr' is not a column of df"),
            ({"channels": "hr"}, TypeError, "channels must be a sequence of labels, got 'hr'"),
            ({"channels": []}, ValueError, r"0 feature\(s\)"),
            ({"time": None, "time_unit": "s"}, ValueError, "time_unit='s' of df needs times"),
            ({"time": "patient"}, ValueError, "one role only"),
        ],
    )
    def test_bad_arguments(self, table, arguments, error, message):
        with pytest.raises(error, match=message):
            Panel.from_wide(table, **{"id": "patient", "time": "hour", "channels": ["hr"], **arguments})

    def test_text_columns_are_named(self, table):
        with pytest.raises(TypeError, match="column 'unit' of df.*text 'icu'"):
            Panel.from_wide(table.assign(unit="icu"), id="patient", time="hour")


def counting_calls(function):
    """Its result, and how many functions Python called for it, those of C among them."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        return function(), calls
    finally:
        sys.setprofile(None)


@pytest.fixture(scope="module")
def set_a():
    """The 4,000 files of set A, one under the other."""
    archive = Path(os.environ["TSSSM_DATA"]) / "physionet2012" / "set-a.tar.gz"
    frames = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name.endswith(".txt"):
                frames[int(Path(member.name).stem)] = pd.read_csv(tar.extractfile(member))
    return pd.concat(frames, names=["RecordID", "row"]).reset_index("RecordID")


@pytest.mark.data
@pytest.mark.skipif("TSSSM_DATA" not in os.environ, reason="TSSSM_DATA is not set")
class TestPhysioNet2012:
    def test_all_records_without_a_loop_over_rows(self, set_a):
        static = ["Age", "Gender", "Height", "ICUType"]
        panel, calls = counting_calls(lambda: Panel.from_long(set_a, **ROLES, static=static, time_unit="h"))
        assert len(set_a) == 1_757_980 and len(panel) == 4000
        assert calls < len(set_a) / 20  # of Python functions; some are made for every series
        assert panel.times.min() >= 0 and panel.times.max() <= 48
        ages = set_a[set_a.Parameter == "Age"].set_index("RecordID").Value.loc[panel.ids]
        age = panel.channel_names.index("Age")
        np.testing.assert_array_equal(panel.values[panel.offsets[:-1], age], ages.to_numpy(np.float32))
        heart = set_a[set_a.Parameter == "HR"]
        values = panel.values[:, panel.channel_names.index("HR")]
        assert np.isfinite(values).sum() == len(heart.drop_duplicates(["RecordID", "Time"]))
        np.testing.assert_allclose(np.nanmean(values, dtype=np.float64), heart.Value.mean(), rtol=1e-3)

    def test_round_trip(self, set_a):
        panel = Panel.from_long(set_a, **ROLES)
        assert Panel.from_long(panel.to_long()) == panel
