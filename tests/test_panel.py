"""The container: validation, row selection, scikit-learn's own functions, gaps, missing samples."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    StratifiedKFold,
    check_cv,
    cross_val_predict,
    cross_val_score,
    train_test_split,
)
from sklearn.utils import _safe_indexing, indexable, resample, shuffle
from sklearn.utils.validation import _num_features, _num_samples, check_consistent_length

from tsssm.panel import Panel

NAN = np.nan


def random_series(n=20, channels=3, shortest=1, longest=9, seed=0):
    """Lists of arrays (channels, length_i), a tenth NaN, and of times (length_i,)."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(shortest, longest + 1, n)
    arrays = [rng.standard_normal((channels, length)).astype(np.float32) for length in lengths]
    for array in arrays:
        array[rng.random(array.shape) < 0.1] = NAN
    times = [np.cumsum(rng.exponential(size=length)) for length in lengths]
    return arrays, times


def assert_holds(panel, arrays, times=None):
    """The panel holds exactly these series, seen through its public arrays only."""
    assert len(panel) == len(arrays)
    for i, array in enumerate(arrays):
        rows = slice(panel.offsets[i], panel.offsets[i + 1])
        np.testing.assert_array_equal(panel.values[rows].T, array)
        if times is not None:
            np.testing.assert_array_equal(panel.times[rows], times[i])
    assert panel.offsets[0] == 0 and panel.offsets[-1] == len(panel.values)


class LevelClassifier(ClassifierMixin, BaseEstimator):
    """Class 1 where the duration of a series plus `shift` is above the training mean; X must be a Panel."""

    def __init__(self, shift=0.0):
        self.shift = shift

    def fit(self, X, y):
        assert isinstance(X, Panel) and X.has_times and len(X) == len(y)
        self.classes_ = np.unique(y)
        self.threshold_ = self._level(X).mean()
        return self

    def predict(self, X):
        assert isinstance(X, Panel) and X.has_times
        return (self._level(X) + self.shift > self.threshold_).astype(int)

    @staticmethod
    def _level(X):
        return X.times[X.offsets[1:] - 1] - X.times[X.offsets[:-1]]


class TestConstruction:
    def test_attributes(self):
        values = np.array([[1, 2], [3, NAN], [5, 6], [7, 8], [9, 10]])
        panel = Panel(values, [0, 2, 5], times=[0, 1, 3, 4, 9], channel_names=["a", "b"])
        assert panel.values.dtype == np.float32 and panel.offsets.dtype == np.int64
        assert panel.times.dtype == np.float64 and panel.channel_names == ("a", "b")
        assert (len(panel), panel.shape, panel.n_channels, panel.max_length) == (2, (2, 2), 2, 3)
        assert panel.lengths.tolist() == [2, 3] and panel.has_times
        assert panel.missing_share == pytest.approx(0.1)

    @pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64, np.uint8, bool])
    def test_real_dtypes(self, dtype):
        panel = Panel(np.array([[0], [1]], dtype=dtype), [0, 2])
        assert panel.values.ravel().tolist() == [0.0, 1.0]

    def test_masked_entries_are_missing(self):
        masked = np.ma.masked_array([[1, 2], [3, 4]], mask=[[False, True], [False, False]])
        np.testing.assert_array_equal(Panel(masked, [0, 2]).values, [[1, NAN], [3, 4]])

    def test_users_array_is_shared_but_never_written(self):
        values = np.ones((4, 2), dtype=np.float32)
        panel = Panel(values, np.array([0, 4]), times=np.arange(4.0))
        assert np.shares_memory(panel.values, values) and values.flags.writeable
        for array in (panel.values, panel.offsets, panel.times):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0

    def test_memory_map_stays_on_disk(self, tmp_path):
        np.save(tmp_path / "values.npy", np.arange(12, dtype=np.float32).reshape(6, 2))
        mapped = np.load(tmp_path / "values.npy", mmap_mode="r")
        panel = Panel(mapped, [0, 2, 6])
        assert np.shares_memory(panel[1].values, mapped)
        assert panel[[1, 0]].values[:, 0].tolist() == [4, 6, 8, 10, 0, 2]

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ((np.zeros(3), [0, 3]), ValueError, r"shape \(total, channels\), got \(3,\)"),
            ((np.zeros((3, 0)), [0, 3]), ValueError, r"0 feature\(s\) \(shape=\(1, 0\)\)"),
            ((np.zeros((0, 2)), [0]), ValueError, r"0 sample\(s\)"),
            ((np.zeros((3, 1)), [0, 1, 1, 3]), ValueError, "1 series of length 0, the first is series 1"),
            ((np.zeros((3, 1)), [0, 2, 1, 3]), ValueError, "must increase, got 2, 1 at 1"),
            ((np.zeros((3, 1)), [0, 2]), ValueError, "from 0 to the number of rows of values, 3; got 0 to 2"),
            ((np.zeros((3, 1)), [1, 3]), ValueError, "got 1 to 3"),
            ((np.zeros((3, 1)), [0.0, 3.0]), ValueError, r"integers of shape \(n \+ 1,\), got float64"),
            ((np.zeros((3, 1), dtype=object), [0, 3]), TypeError, "object array"),
            (([["a"], ["b"]], [0, 2]), TypeError, "real numbers, got dtype <U1"),
            ((np.zeros((3, 1), dtype="M8[s]"), [0, 3]), TypeError, "datetime64"),
            ((np.zeros((3, 1), dtype=complex), [0, 3]), ValueError, "Complex data not supported"),
            ((np.zeros((3, 1)), [0, 3], [0, 1]), ValueError, r"shape \(3,\) like values, got \(2,\)"),
            (
                (np.zeros((3, 1)), [0, 3], [0, NAN, np.inf]),
                ValueError,
                "2 NaN or infinity.*series 0, sample 1",
            ),
            ((np.zeros((3, 1)), [0, 3], ["a", "b", "c"]), TypeError, "times of Panel must be real numbers"),
            ((np.zeros((3, 1)), [0, 3], None, ["a", "b"]), ValueError, "must be 1 strings"),
            ((np.zeros((3, 1)), [0, 3], None, [1]), ValueError, "must be 1 strings"),
        ],
    )
    def test_bad_input(self, arguments, error, message):
        with pytest.raises(error, match=message):
            Panel(*arguments)

    def test_unsorted_times_say_where(self):
        with pytest.raises(ValueError, match="series 1, sample 2 has 4 after 5"):
            Panel(np.zeros((5, 1)), [0, 2, 5], times=[7, 8, 1, 5, 4])

    def test_times_may_restart_in_each_series_and_repeat(self):
        panel = Panel(np.zeros((5, 1)), [0, 2, 5], times=[7, 7, 1, 5, 5])
        np.testing.assert_array_equal(panel.gaps(), [NAN, 0, NAN, 4, 0])

    @pytest.mark.parametrize("bad", [np.inf, -np.inf, 1e39])
    def test_infinity_and_overflow_say_where(self, bad):
        values = np.zeros((5, 2))
        values[[3, 4], 1] = bad
        values[0, 0] = NAN
        with pytest.raises(ValueError, match="infinity.*2 value.*series 1, sample 1, channel 1"):
            Panel(values, [0, 2, 5])


class TestSelection:
    # Lengths on both sides of the switch between gathering samples and copying series.
    @pytest.fixture(params=[(1, 9), (60, 300)], ids=["short", "long"])
    def data(self, request):
        return random_series(20, 2, *request.param)

    @pytest.mark.parametrize(
        "key",
        [
            [3, 1, 1, 19, 0],
            np.array([-1, -20, 4]),
            np.arange(20)[::-1],
            [5],
            [4, 5, 6],
            np.arange(20) % 3 == 0,
            [True] * 19 + [False],
            slice(None),
            slice(3, 9),
            slice(-4, None),
            slice(None, None, -2),
            slice(9, 3),
            [],
            np.zeros(20, dtype=bool),
            np.int64(7),
            -2,
        ],
        ids=str,
    )
    def test_matches_a_list_of_arrays(self, data, key):
        arrays, times = data
        order = np.atleast_1d(np.arange(20)[key if not isinstance(key, list) or key else slice(0)])
        panel = Panel.from_arrays(arrays, times)
        for selected in (panel[key], panel[key, ...]):
            assert_holds(selected, [arrays[i] for i in order], [times[i] for i in order])
            assert selected.offsets.dtype == np.int64

    def test_selection_of_a_selection(self, data):
        arrays, times = data
        panel = Panel.from_arrays(arrays, times)[5:15][[9, 0, 3]][1:]
        assert_holds(panel, [arrays[5], arrays[8]], [times[5], times[8]])

    def test_neighbours_share_memory(self, data):
        panel = Panel.from_arrays(data[0])
        for key in (slice(2, 7), np.arange(2, 7), 3, np.arange(20) > 12):
            assert np.shares_memory(panel[key].values, panel.values)
        assert not np.shares_memory(panel[[2, 4]].values, panel.values)

    def test_iteration(self, data):
        arrays, times = data
        for i, series in enumerate(Panel.from_arrays(arrays, times)):
            assert_holds(series, [arrays[i]], [times[i]])
        assert i == 19

    @pytest.mark.parametrize(
        "key",
        [
            20,
            -21,
            [0, 20],
            [True] * 19,
            np.zeros((2, 2), int),
            [0.5],
            "a",
            None,
            (0, 1),
            (0,),
            np.bool_(True),
        ],
        ids=repr,
    )
    def test_bad_keys(self, key):
        with pytest.raises(IndexError):
            Panel.from_arrays(random_series(20)[0])[key]

    def test_empty_panel(self):
        arrays, times = random_series(4)
        empty = Panel.from_arrays(arrays, times)[:0]
        assert (empty.shape, empty.max_length, empty.missing_share) == ((0, 3), 0, 0.0)
        assert empty.gaps().shape == (0,) and empty.drop_missing_rows() is empty
        assert empty[[]] == empty and list(empty) == []
        assert repr(empty) == "Panel(0 series, 3 channels)"

    def test_names_follow(self):
        panel = Panel(np.zeros((3, 1)), [0, 2, 3], channel_names=["ecg"])
        assert panel[[1, 0]].channel_names == panel[:1].channel_names == ("ecg",)


class TestScikitLearn:
    @pytest.fixture
    def data(self):
        """30 series whose last time tells their class."""
        arrays, times = random_series(30, shortest=2)
        y = np.arange(30) % 2
        for i, t in enumerate(times):
            t += np.linspace(0, 100 * y[i], len(t))
        return Panel.from_arrays(arrays, times), y

    def test_samples_features_and_indexing(self, data):
        X, y = data
        assert (_num_samples(X), _num_features(X)) == (30, 3)
        check_consistent_length(X, y)
        assert indexable(X, y)[0] is X
        for key in ([3, 1], np.array([3, 1]), (3, 1)):
            assert _safe_indexing(X, key) == X[[3, 1]]
        assert _safe_indexing(X, slice(3, 9)) == X[3:9]
        assert _safe_indexing(X, y == 1) == X[y == 1]
        assert len(resample(X, n_samples=7, random_state=0)) == 7
        shuffled, order = shuffle(X, np.arange(30), random_state=0)
        assert shuffled == X[order]

    def test_splitters(self, data):
        X, y = data
        for splitter in (KFold(3), StratifiedKFold(3), check_cv(3, y, classifier=True)):
            for train, test in splitter.split(X, y):
                assert len(X[train]) + len(X[test]) == 30
        X_train, X_test, i_train, i_test = train_test_split(X, np.arange(30), stratify=y, random_state=0)
        assert X_train == X[i_train] and X_test == X[i_test]

    def test_cross_validation_keeps_the_times(self, data):
        X, y = data
        assert cross_val_score(LevelClassifier(), X, y, cv=3, error_score="raise").tolist() == [1, 1, 1]
        np.testing.assert_array_equal(cross_val_predict(LevelClassifier(), X, y, cv=3), y)

    def test_two_processes(self, data):
        X, y = data
        scores = cross_val_score(LevelClassifier(), X, y, cv=3, n_jobs=2, error_score="raise")
        assert scores.tolist() == [1, 1, 1]
        grid = GridSearchCV(LevelClassifier(), {"shift": [0.0, 1e6]}, cv=3, n_jobs=2, error_score="raise")
        assert grid.fit(X, y).best_params_ == {"shift": 0.0}
        assert grid.score(X, y) == 1.0

    def test_not_an_array(self, data):
        with pytest.raises(TypeError, match="panel.values"):
            np.asarray(data[0])


class TestCopiesAndComparison:
    def test_pickle_and_copy(self):
        panel = Panel(np.arange(6.0).reshape(3, 2), [0, 1, 3], times=[0, 1, 2], channel_names=["a", "b"])
        for other in (pickle.loads(pickle.dumps(panel)), copy.copy(panel), copy.deepcopy(panel)):
            assert other == panel and other is not panel
            assert not other.values.flags.writeable and not other.times.flags.writeable
        assert not np.shares_memory(copy.deepcopy(panel).values, panel.values)

    def test_pickle_of_a_slice_is_small(self):
        panel = Panel.from_numpy(np.zeros((100, 1000)))
        assert len(pickle.dumps(panel[:1])) < 6000

    def test_equality(self):
        values, offsets, times = np.array([[1.0], [NAN], [3.0]]), [0, 1, 3], [0.0, 1.0, 2.0]
        panel = Panel(values, offsets, times, ["a"])
        assert panel == Panel(values.copy(), offsets, times, ["a"])
        for other in (
            Panel(values + 1, offsets, times, ["a"]),
            Panel(values, [0, 2, 3], times, ["a"]),
            Panel(values, offsets, [0.0, 1.0, 3.0], ["a"]),
            Panel(values, offsets, None, ["a"]),
            Panel(values, offsets, times, ["b"]),
            Panel(values, offsets, times),
            "panel",
            None,
        ):
            assert panel != other
        with pytest.raises(TypeError, match="unhashable"):
            hash(panel)

    def test_repr(self):
        panel = Panel(np.array([[1.0], [NAN], [3.0], [4.0]]), [0, 1, 4], [0.5, 1, 2, 12])
        text = "Panel(2 series, 1 channel, length 1-2-3 (min-median-max), 25 % missing, times 0.5 to 12)"
        assert repr(panel) == text
        assert "no times" in repr(Panel.from_numpy(np.zeros((2, 2))))


def gaps_by_loop(panel):
    gaps = []
    for i in range(len(panel)):
        for k in range(panel.offsets[i], panel.offsets[i + 1]):
            if k == panel.offsets[i]:
                gaps.append(NAN)
            else:
                gaps.append(1.0 if panel.times is None else panel.times[k] - panel.times[k - 1])
    return gaps


class TestGaps:
    @pytest.mark.parametrize("with_times", [True, False])
    def test_against_a_loop(self, with_times):
        arrays, times = random_series(50)
        panel = Panel.from_arrays(arrays, times if with_times else None)
        gaps = panel.gaps()
        assert gaps.dtype == np.float64
        np.testing.assert_array_equal(gaps, gaps_by_loop(panel))

    def test_single_samples(self):
        np.testing.assert_array_equal(Panel(np.zeros((2, 1)), [0, 1, 2], [5, 3]).gaps(), [NAN, NAN])

    def test_late_times_keep_their_resolution(self):
        # Unix time with steps of 1 ms: float32 would round them to 128 s; float64 is exact to 2.4e-7 s.
        panel = Panel.from_numpy(np.zeros((1, 3)), times=1.7e9 + np.array([0, 0.001, 0.002]))
        np.testing.assert_allclose(panel.gaps()[1:], 0.001, rtol=0, atol=4.8e-7)


class TestDropMissingRows:
    @pytest.mark.parametrize("with_times", [True, False])
    def test_against_a_loop(self, with_times):
        arrays, times = random_series(60, channels=2, shortest=1, longest=6, seed=1)
        rng = np.random.default_rng(2)
        for array in arrays:
            array[:, rng.random(array.shape[1]) < 0.5] = NAN
        panel = Panel.from_arrays(arrays, times if with_times else None)
        clock = times if with_times else [np.arange(array.shape[1]) for array in arrays]
        keep = [np.flatnonzero(~np.isnan(array).all(axis=0)) for array in arrays]
        assert any(k.size == 0 for k in keep), "the case of a series without any value must occur"
        keep = [k if k.size else np.array([0]) for k in keep]
        assert_holds(
            panel.drop_missing_rows(),
            [array[:, k] for array, k in zip(arrays, keep, strict=True)],
            [t[k] for t, k in zip(clock, keep, strict=True)],
        )

    def test_gap_becomes_longer(self):
        panel = Panel.from_numpy(np.array([[1.0, NAN, NAN, 4.0], [1.0, 2.0, 3.0, 4.0]])).drop_missing_rows()
        assert panel.lengths.tolist() == [2, 4]
        np.testing.assert_array_equal(panel.gaps(), [NAN, 3, NAN, 1, 1, 1])

    def test_nothing_to_drop(self):
        complete = Panel.from_numpy(np.zeros((2, 3)))
        partly = Panel.from_arrays([np.array([[1.0, NAN], [NAN, 2.0]])])
        all_missing = Panel.from_numpy(np.full((3, 1), NAN))
        for panel in (complete, partly, all_missing):
            assert panel.drop_missing_rows() is panel

    def test_leaves_the_original_alone(self):
        panel = Panel.from_numpy(np.array([[1.0, NAN, 3.0]]), times=[0.0, 1.0, 5.0])
        before = copy.deepcopy(panel)
        dropped = panel.drop_missing_rows()
        assert panel == before and dropped.times.tolist() == [0.0, 5.0]
        assert dropped.drop_missing_rows() is dropped
