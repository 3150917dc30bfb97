"""The converter: every container gives the same panel, time indices become times, bad input is refused."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sktime.datatypes import convert_to

from tsssm.panel import Panel, as_panel

NAN = np.nan


@pytest.fixture
def cube():
    """Values (n=4, channels=3, length=6), float32, with NaN inside and at the end of a series."""
    X = np.random.default_rng(0).standard_normal((4, 3, 6)).astype(np.float32)
    X[0, 1, 2] = X[2, :, 5] = NAN
    return X


def expected(cube):
    return Panel(np.concatenate([series.T for series in cube]), np.arange(len(cube) + 1) * cube.shape[2])


def frames_of(cube, index=None, columns=None):
    return [pd.DataFrame(series.T, index=index, columns=columns) for series in cube]


class NotAnArray:
    """Only ``__array__``, as scikit-learn's checks pass it."""

    def __init__(self, data):
        self.data = data

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.data, dtype=dtype)


def object_array(items):
    array = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        array[i] = item
    return array


CONTAINERS = {
    "3-D array": lambda X: X,
    "float64": lambda X: X.astype(np.float64),
    "Fortran order": np.asfortranarray,
    "__array__": NotAnArray,
    "object numbers": lambda X: X.astype(object),
    "nested lists": lambda X: X.tolist(),
    "list of arrays": list,
    "tuple of arrays": tuple,
    "object array of arrays": object_array,
    "list of frames": frames_of,
    "object array of frames": lambda X: object_array(frames_of(X)),
    "series of arrays": lambda X: pd.Series(object_array(X)),
    "two-level index": lambda X: pd.concat(frames_of(X), keys=list("dbca")),
    "nested frame": lambda X: pd.DataFrame([[pd.Series(cell) for cell in series] for series in X]),
    "nested frame of arrays": lambda X: pd.DataFrame({j: object_array(X[:, j]) for j in range(X.shape[1])}),
    "panel": expected,
}


def nameless(panel):
    """The same series without their ids."""
    return Panel(panel.values, panel.offsets, panel.times, panel.channel_names, time_unit=panel.time_unit)


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_gives_the_same_panel(container, cube):
    before = cube.copy()
    panel = as_panel(CONTAINERS[container](cube))
    assert nameless(panel) == expected(cube)
    assert panel.ids is None or panel.ids.tolist() == list("dbca")
    np.testing.assert_array_equal(cube, before)


@pytest.mark.parametrize("mtype", ["pd-multiindex", "df-list", "nested_univ", "numpy3D"])
def test_sktime_containers(mtype, cube):
    panel = as_panel(convert_to(cube, mtype))
    assert not panel.has_times
    np.testing.assert_array_equal(panel.values, expected(cube).values)
    np.testing.assert_array_equal(panel.offsets, expected(cube).offsets)


@pytest.mark.parametrize("mtype", ["pd-multiindex", "df-list", "nested_univ"])
def test_sktime_containers_of_unequal_length(mtype):
    frames = [pd.DataFrame({"a": np.arange(k), "b": -np.arange(k)}, dtype=float) for k in (3, 5, 2)]
    panel = as_panel(convert_to(frames, mtype))
    assert panel.lengths.tolist() == [3, 5, 2] and not panel.has_times
    assert panel.channel_names == ("a", "b")
    np.testing.assert_array_equal(panel[1].values, np.array([np.arange(5), -np.arange(5)]).T)


class TestTwoDimensions:
    X = np.array([[1, 2, 3], [4, 5, 6]])

    @pytest.mark.parametrize(
        "given",
        [
            X,
            X.tolist(),
            X.astype(object),
            list(X),
            pd.DataFrame(X),
            pd.DataFrame(X, columns=["t0", "t1", "t2"], dtype="Int64"),
            pd.DataFrame(X).astype({0: "float32", 1: "Int16", 2: object}),
            [pd.Series(row, name=i) for i, row in enumerate(X)],
        ],
        ids=["array", "lists", "objects", "rows", "frame", "nullable", "mixed", "Series"],
    )
    def test_rows_are_univariate_series(self, given):
        panel = as_panel(given)
        assert panel == Panel(self.X.reshape(-1, 1), [0, 3, 6])

    def test_missing_marks(self):
        want = np.array([[1, NAN], [3, 4]])
        for given in (
            want.astype(object),
            np.array([[1, None], [3, pd.NA]], dtype=object)[:1],
            pd.DataFrame({"a": [1, 3], "b": pd.array([None, 4], dtype="Int64")}),
            np.ma.masked_equal([[1, 2], [3, 4]], 2),
            np.ma.masked_equal(np.array([[1, 2], [3, 4]], dtype=np.float32), 2),
        ):
            panel = as_panel(given)
            np.testing.assert_array_equal(panel.values.reshape(-1, 2), want[: len(panel)])

    def test_float32_is_not_copied(self):
        X = np.ones((5, 7), dtype=np.float32)
        assert np.shares_memory(as_panel(X).values, X) and X.flags.writeable

    def test_trailing_nan_stay_samples(self):
        assert as_panel(np.array([[1.0, NAN], [1.0, 2.0]])).lengths.tolist() == [2, 2]


SECONDS = np.array([0.0, 0.5, 2.0, 2.0, 7.25, 100.0])
STAMPED = {
    "datetime ns": (pd.Timestamp("2024-02-28 23:59:59") + pd.to_timedelta(SECONDS, "s")).as_unit("ns"),
    "datetime us": (pd.Timestamp("1969-12-31") + pd.to_timedelta(SECONDS, "s")).as_unit("us"),
    "timedelta ms": pd.to_timedelta(SECONDS + 60, "s").as_unit("ms"),
    # Clocks go forward at 01:00 UTC: 100 s pass although the wall clock shows one hour more.
    "time zone": (pd.Timestamp("2024-03-31 00:59:00", tz="UTC") + pd.to_timedelta(SECONDS, "s")).tz_convert(
        "Europe/Berlin"
    ),
}


class TestTimes:
    @pytest.fixture(params=["frames", "two-level index", "nested"])
    def stamped(self, request):
        """Function from n indices to a container of n series with two channels."""

        def make(*indices):
            frames = [pd.DataFrame({"a": range(len(i)), "b": range(len(i))}, index=i) for i in indices]
            if request.param == "frames":
                return frames
            if request.param == "two-level index":
                return pd.concat(frames, keys=range(len(frames)))
            return pd.DataFrame([[frame["a"], frame["b"]] for frame in frames], columns=["a", "b"])

        return make

    @pytest.mark.parametrize("kind", STAMPED)
    def test_stamps_become_seconds_since_the_first(self, kind, stamped):
        index = STAMPED[kind]
        panel = as_panel(stamped(index, index[2:]))
        # Dates count from the first of their series; time differences keep their origin.
        expected = (
            [SECONDS, SECONDS[2:] - 2.0] if kind != "timedelta ms" else [SECONDS + 60, SECONDS[2:] + 60]
        )
        np.testing.assert_array_equal(panel.times, np.concatenate(expected))
        assert panel.channel_names == ("a", "b") and panel.time_unit == "s"

    def test_nanoseconds_survive(self, stamped):
        index = pd.Timestamp("2024-01-01") + pd.to_timedelta([0, 1, 3_600_000_000_001], "ns")
        panel = as_panel(stamped(index))
        # float64: an hour in seconds is held to 4.5e-13 s.
        np.testing.assert_allclose(panel.times, [0, 1e-9, 3600.000000001], rtol=0, atol=4.6e-13)

    def test_periods_count_from_their_start(self, stamped):
        panel = as_panel(stamped(pd.period_range("2024-01", periods=3, freq="M")))
        np.testing.assert_array_equal(panel.times, np.array([0, 31, 60]) * 86400.0)

    @pytest.mark.parametrize("index", [[3, 4, 9], [0.5, 0.75, 4.0], [0, 2, 4], [1, 2, 3], [0, 0, 1]], ids=str)
    def test_numbers_stay(self, index, stamped):
        panel = as_panel(stamped(pd.Index(index), pd.RangeIndex(2)))
        np.testing.assert_array_equal(panel.times, [*index, 0, 1])

    def test_counting_everywhere_means_no_times(self, stamped):
        counting = [
            pd.RangeIndex(3),
            pd.Index([0, 1]),
            pd.Index([0.0, 1.0, 2.0]),
            pd.Index([0], dtype="uint8"),
        ]
        panel = as_panel(stamped(*counting))
        assert panel.times is None and panel.lengths.tolist() == [3, 2, 3, 1]

    def test_numbers_may_be_nullable(self, stamped):
        index = pd.Index([3, 5], dtype="Int64")
        np.testing.assert_array_equal(as_panel(stamped(index)).times, [3, 5])
        with pytest.raises(ValueError, match="1 NaN or infinity.*series 0, sample 1"):
            as_panel([pd.DataFrame({"a": [1, 2]}, index=pd.Index([3, None], dtype="Int64"))])

    @pytest.mark.parametrize(
        "index",
        [
            pd.DatetimeIndex(["2024", None]),
            pd.TimedeltaIndex(["1s", None]),
            pd.PeriodIndex(["2024", None], freq="D"),
        ],
    )
    def test_nat(self, index, stamped):
        with pytest.raises(ValueError, match="1 NaT"):
            as_panel(stamped(index))

    @pytest.mark.parametrize("index", [["a", "b"], pd.CategoricalIndex([1, 2]), [True, False]], ids=type)
    def test_other_indices(self, index, stamped):
        with pytest.raises(TypeError, match=r"index of.*X is a .*DatetimeIndex.*reset_index\(drop=True\)"):
            as_panel(stamped(pd.Index(index)))

    def test_unsorted(self, stamped):
        with pytest.raises(ValueError, match="times of X.*series 1, sample 2 has 3 after 5"):
            as_panel(stamped(pd.Index([1, 2]), pd.Index([1, 5, 3])))

    def test_stamps_and_numbers_do_not_mix(self):
        frames = [pd.DataFrame({"a": [1, 2]}, index=i) for i in ([5, 6], pd.DatetimeIndex(["2024", "2025"]))]
        with pytest.raises(ValueError, match="series 0 has a Index of dtype int64, series 1 a DatetimeIndex"):
            as_panel(frames)

    def test_units_and_zones_may_differ_between_series(self):
        frames = [pd.DataFrame({"a": SECONDS}, index=index) for index in STAMPED.values()]
        gaps = as_panel(frames).gaps()
        np.testing.assert_array_equal(gaps, np.tile([NAN, *np.diff(SECONDS)], len(frames)))

    def test_given_beside_an_array(self, cube):
        dates = STAMPED["time zone"]
        for times in (
            SECONDS,
            SECONDS.tolist(),
            dates,
            dates - dates[0],
            list(dates),
            np.tile(SECONDS, (4, 1)),
        ):
            panel = Panel.from_numpy(cube, times=times)
            np.testing.assert_array_equal(panel.times, np.tile(SECONDS, 4))
        each = np.arange(24.0).reshape(4, 6)
        np.testing.assert_array_equal(Panel.from_numpy(cube, times=each).times, np.arange(24.0))
        each = STAMPED["datetime us"].to_numpy() + np.arange(4).reshape(4, 1).astype("m8[D]")
        np.testing.assert_array_equal(Panel.from_numpy(cube, times=each).times, np.tile(SECONDS, 4))
        counting = Panel.from_numpy(cube, times=np.arange(6))
        assert counting.has_times, "times that were given stay, also where they count 0, 1, 2"

    def test_given_beside_arrays(self):
        arrays = [np.zeros((2, 3)), np.zeros((2, 1))]
        panel = Panel.from_arrays(arrays, times=[[1, 2, 4], pd.DatetimeIndex(["2024"])], time_unit="s")
        assert panel.times.tolist() == [1, 2, 4, 0]
        with pytest.raises(ValueError, match="mix stamps and numbers without a unit, in series 0 and 1"):
            Panel.from_arrays(arrays, times=[[1, 2, 4], pd.DatetimeIndex(["2024"])])

    @pytest.mark.parametrize(
        ("times", "message"),
        [
            (np.zeros(5), r"must have shape \(6,\) or \(4, 6\), got \(5,\)"),
            (np.zeros((6, 4)), r"must have shape \(6,\) or \(4, 6\), got \(6, 4\)"),
            (np.full(6, NAN), "24 NaN or infinity"),
            (np.full((4, 6), np.datetime64("NaT")), "24 NaT"),
            (5.0, r"got \(\)"),
            (np.arange(6)[::-1], "series 0, sample 1 has 4 after 5"),
        ],
    )
    def test_bad_times_beside_an_array(self, times, message, cube):
        with pytest.raises(ValueError, match=message):
            Panel.from_numpy(cube, times=times)

    @pytest.mark.parametrize("times", [list("abcdef"), np.full((4, 6), "a"), np.full((4, 6), True)], ids=repr)
    def test_times_of_another_type(self, times, cube):
        with pytest.raises(TypeError, match="times of X"):
            Panel.from_numpy(cube, times=times)

    @pytest.mark.parametrize(
        ("times", "message"),
        [([[0, 1]], "2 arrays, one per series; got 1"), ([[0, 1], [0, 1]], r"series 1 .*\(3,\), got \(2,\)")],
    )
    def test_bad_times_beside_arrays(self, times, message):
        with pytest.raises(ValueError, match=message):
            Panel.from_arrays([np.zeros(2), np.zeros(3)], times=times)


class TestFrames:
    def test_columns_are_matched_by_name(self):
        first = pd.DataFrame({"hr": [1.0, 2.0], "spo2": [3.0, 4.0]})
        panel = as_panel([first, first[["spo2", "hr"]]])
        assert panel[0] == panel[1] and panel.channel_names == ("hr", "spo2")

    @pytest.mark.parametrize("columns", [["hr", "rr"], ["hr"], ["hr", "hr"]])
    def test_columns_must_agree(self, columns):
        first = pd.DataFrame([[1.0, 2.0]], columns=["hr", "spo2"])
        other = pd.DataFrame(np.ones((1, len(columns))), columns=columns)
        with pytest.raises(ValueError, match=r"series 0 has \['hr', 'spo2'\], series 1 has \['hr'"):
            as_panel([first, other])

    def test_two_level_index_keeps_the_order_of_appearance(self):
        df = pd.concat([pd.DataFrame({"a": [k, k]}) for k in (2, 0, 1)], keys=["z", "a", "k"])
        assert as_panel(df).values.ravel().tolist() == [2, 2, 0, 0, 1, 1]
        # Selecting rows leaves unused labels in the index; they are no series.
        assert as_panel(df.loc[["z", "k"]]).values.ravel().tolist() == [2, 2, 1, 1]

    def test_scattered_series(self):
        df = pd.concat([pd.DataFrame({"a": [1.0, 2.0]})] * 2, keys=["p", "q"]).iloc[[0, 2, 1, 3]]
        with pytest.raises(
            ValueError, match=r"rows of series 'p' of X are not together: sort with sort_index"
        ):
            as_panel(df)

    def test_unlabelled_series(self):
        df = pd.DataFrame({"a": [1.0, 2.0]}, index=pd.MultiIndex.from_tuples([("p", 0), (None, 0)]))
        with pytest.raises(ValueError, match="1 missing labels"):
            as_panel(df)

    def test_three_levels(self):
        df = pd.DataFrame({"a": [1.0]}, index=pd.MultiIndex.from_tuples([("p", 0, 0)]))
        with pytest.raises(ValueError, match="3-level index"):
            as_panel(df)
        with pytest.raises(TypeError, match="two-level index.*with 3 index"):
            Panel.from_multiindex(df)

    def test_nullable_and_mixed_columns(self):
        df = pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": [True, False], "c": [0.5, 1.5]})
        np.testing.assert_array_equal(as_panel([df]).values, [[1, 1, 0.5], [NAN, 0, 1.5]])

    def test_nested_channels_of_unequal_length(self):
        df = pd.DataFrame(
            {"a": [pd.Series([1, 2]), pd.Series([1, 2])], "b": [pd.Series([1, 2]), pd.Series([1])]}
        )
        with pytest.raises(
            ValueError, match=r"channels of series 1 of X must have the same length, got \[2, 1\]"
        ):
            as_panel(df)

    def test_nested_channels_with_different_times(self):
        df = pd.DataFrame({"a": [pd.Series([1, 2])], "b": [pd.Series([1, 2], index=[4, 5])]})
        with pytest.raises(ValueError, match=r"series 0 of X have different time indices.*concat"):
            as_panel(df)

    def test_nested_with_a_number(self):
        df = pd.DataFrame({"a": [pd.Series([1, 2]), pd.Series([1, 2])], "b": [pd.Series([1, 2]), 5.0]})
        with pytest.raises(TypeError, match="row 1, column 'b' has a float"):
            as_panel(df)


class Arbitrary:
    pass


BAD = {
    "1-D": (np.zeros(4), ValueError, r"got a 1D array of shape \(4,\). Reshape your data"),
    "1-D list": ([1.0, 2.0], ValueError, "Reshape your data"),
    "1-D Series": (pd.Series([1.0, 2.0]), ValueError, "Reshape your data"),
    "1-D objects": (np.array([1.0, None], dtype=object), ValueError, "Reshape your data"),
    "0-D": (3.0, ValueError, "got a scalar. Reshape your data"),
    "4-D": (np.zeros((1, 2, 3, 4)), ValueError, "got 4D"),
    "no rows": (np.zeros((0, 3)), ValueError, r"0 sample\(s\) \(shape=\(0, 3\)\)"),
    "no rows, 3-D": (np.zeros((0, 3, 2)), ValueError, r"0 sample\(s\)"),
    "no columns": (
        np.zeros((12, 0)),
        ValueError,
        r"0 feature\(s\) \(shape=\(12, 0\)\) while a minimum of 1 is",
    ),
    "no channels": (np.zeros((2, 0, 5)), ValueError, r"0 feature\(s\) \(shape=\(2, 0, 5\)\)"),
    "empty list": ([], ValueError, r"0 sample\(s\)"),
    "empty frame": (pd.DataFrame(), ValueError, r"0 sample\(s\)"),
    "frame without rows": (pd.DataFrame({"a": []}), ValueError, r"0 sample\(s\)"),
    "frame without columns": (
        pd.DataFrame(index=range(12)),
        ValueError,
        r"0 feature\(s\) \(shape=\(12, 0\)\)",
    ),
    "empty two-level": (pd.concat([pd.DataFrame({"a": [1.0]})], keys=[0])[:0], ValueError, r"0 sample\(s\)"),
    "empty panel": (Panel.from_numpy(np.zeros((2, 2)))[:0], ValueError, r"0 sample\(s\)"),
    "length 0": (
        [np.zeros((2, 3)), np.zeros((2, 0))],
        ValueError,
        "1 series of length 0, the first is series 1",
    ),
    "frame of length 0": (
        [pd.DataFrame({"a": [1]}), pd.DataFrame({"a": []})],
        ValueError,
        "length 0.*series 1",
    ),
    "sparse": (scipy.sparse.csr_matrix(np.eye(3)), TypeError, "sparse"),
    "sparse array": (scipy.sparse.dok_array(np.eye(3)), TypeError, "sparse"),
    "strings": (np.array([["a", "b"]]), TypeError, "real numbers, got dtype <U1"),
    "numeric strings": (np.array([["1", "2"]], dtype=object), TypeError, "text '1'"),
    "string column": (pd.DataFrame({"a": [1.0], "b": ["x"]}), TypeError, "column 'b' of X.*text 'x'"),
    "dates": (np.zeros((2, 2), dtype="M8[s]"), TypeError, "datetime64"),
    "date column": (pd.DataFrame({"a": [1.0], "b": [pd.Timestamp(0)]}), TypeError, "column 'b' of X"),
    "dict inside": (
        np.array([[1, {"a": 1}]], dtype=object),
        TypeError,
        "argument must be .* string.* number",
    ),
    "complex": (np.array([[1j, 0]]), ValueError, "Complex data not supported"),
    "complex column": (pd.DataFrame({"a": [1j]}), ValueError, "Complex data not supported"),
    "inf": (
        np.array([[1, np.inf]]),
        ValueError,
        "X contains infinity.*1 value.*series 0, sample 1, channel 0",
    ),
    "inf in frames": ([pd.DataFrame({"a": [1.0, -np.inf]})], ValueError, "infinity"),
    "overflow": (np.array([[1.0, 1e300]]), ValueError, "too large for float32"),
    "overflow in lists": ([[1.0, 1e300]], ValueError, "too large for float32"),
    "channels differ": (
        [np.zeros((2, 5)), np.zeros((3, 5))],
        ValueError,
        r"series 0 has shape \(2, 5\), series 1 has \(3, 5\)",
    ),
    "3-D in list": (
        [np.zeros((2, 5, 1))],
        ValueError,
        r"series 0 of X must be an array \(channels, length\)",
    ),
    "ragged inside": ([[[1, 2], [3]]], ValueError, "series 0 of X is a nested sequence of unequal lengths"),
    "text in list": ([[1.0, 2.0], ["a", "b"]], TypeError, "series 1 of X must hold real numbers"),
    "frame then array": (
        [pd.DataFrame({"a": [1.0]}), np.zeros(3)],
        TypeError,
        "series 1 of X must be a DataFrame, got ndarray",
    ),
    "str": ("data.csv", TypeError, "got str"),
    "dict": ({"a": 1}, TypeError, "got dict"),
    "None": (None, TypeError, "got NoneType"),
    "generator": ((row for row in np.eye(2)), TypeError, "got generator"),
    "object": (Arbitrary(), TypeError, "real numbers"),
    "list of panels": ([Panel.from_numpy(np.zeros((2, 2)))], TypeError, "a Panel is ragged"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused(case):
    X, error, message = BAD[case]
    with pytest.raises(error, match=f"(?s){message}"):
        as_panel(X)


def test_errors_use_the_name_of_the_argument():
    with pytest.raises(ValueError, match="X_test contains infinity"):
        as_panel(np.array([[np.inf]]), name="X_test")
    with pytest.raises(ValueError, match="Expected 2D .* X_test"):
        as_panel(np.zeros(3), name="X_test")


def test_torch_tensors(cube):
    torch = pytest.importorskip("torch")
    assert as_panel(torch.from_numpy(cube)) == expected(cube)
    assert as_panel([torch.from_numpy(series) for series in cube]) == expected(cube)


def test_light_imports():
    heavy = {"torch", "sktime", "scipy", "sklearn", "pooch"}
    code = f"import sys, tsssm.panel, tsssm.datasets; print(*{heavy!r} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
