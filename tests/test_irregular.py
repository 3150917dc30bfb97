"""The times reach the layers, on every road: series that are equal but for the gaps between their samples.

All series hold the same values; those of class 1 have the longer gaps. Without times an estimator cannot tell
them apart, and is right on exactly half of them. The tests after that say when a time index is read as times,
and in which unit.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sktime.transformations.series.boxcox import LogTransformer
from sktime.transformations.series.exponent import ExponentTransformer

from tsssm import Panel, SSMClassifier, SSMRegressor

N, LENGTH = 48, 12
FOLDS = StratifiedKFold(2)
ENOUGH, CHANCE = 0.95, 0.5


@pytest.fixture
def clf():
    return SSMClassifier(
        backbone="s4d",
        n_members=1,
        n_features=0,
        n_layers=1,
        d_model=8,
        d_state=4,
        dropout=0.0,
        norm="layer",
        max_steps=20,
        batch_size=32,
        learning_rate=0.02,
        ssm_learning_rate=0.01,
        accelerator="cpu",
        random_state=0,
    )


def only_gaps_differ() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X (n, 1, length), the same in every row, whole-numbered times (n, length) and labels (n,)."""
    y = np.tile([0, 1], N // 2)
    gaps = np.random.default_rng(0).integers(1, 4, size=(N, LENGTH)) + 4 * y[:, None]
    return np.tile(1.5 + np.cos(np.arange(LENGTH)), (N, 1, 1)), np.cumsum(gaps, axis=1), y


X, TIMES, Y = only_gaps_differ()
PANEL = Panel.from_numpy(X, TIMES)

INDICES = {
    "integer": lambda i: pd.Index(TIMES[i]),
    "timedelta": lambda i: pd.to_timedelta(TIMES[i], unit="min"),
    "datetime": lambda i: (
        pd.Timestamp("2024-03-30") + pd.Timedelta(days=i) + pd.to_timedelta(TIMES[i], unit="h")
    ),
}


def df_list(kind: str) -> list[pd.DataFrame]:
    return [pd.DataFrame({"a": x[0]}, index=INDICES[kind](i)) for i, x in enumerate(X)]


def multiindex(kind: str) -> pd.DataFrame:
    return pd.concat(dict(enumerate(df_list(kind))), names=["series", "time"])


def test_the_values_alone_do_not_tell_the_classes():
    assert (X == X[0]).all() and np.bincount(Y).tolist() == [N // 2, N // 2]
    assert PANEL.gaps()[1:LENGTH].max() < PANEL.gaps()[LENGTH + 1 : 2 * LENGTH].min()


class TestScikitLearn:
    @pytest.mark.parametrize("kind", [None, *INDICES])
    def test_cross_val_score(self, clf, kind):
        data = PANEL if kind is None else df_list(kind)
        assert cross_val_score(clf, data, Y, cv=FOLDS, error_score="raise").min() >= ENOUGH

    @pytest.mark.parametrize("untimed", [X, list(X), Panel(PANEL.values, PANEL.offsets)], ids=type)
    def test_chance_without_times(self, clf, untimed):
        assert cross_val_score(clf, untimed, Y, cv=FOLDS, error_score="raise").tolist() == [CHANCE, CHANCE]

    def test_pipeline(self, clf):
        def halved(panel):
            return Panel(panel.values / 2, panel.offsets, panel.times)

        pipe = make_pipeline(FunctionTransformer(halved), clf)
        assert np.mean(cross_val_predict(pipe, PANEL, Y, cv=FOLDS) == Y) >= ENOUGH

    def test_grid_search(self, clf):
        search = GridSearchCV(clf, {"max_steps": [1, 20]}, cv=FOLDS, n_jobs=1, error_score="raise")
        search.fit(PANEL[:32], Y[:32])
        assert search.best_params_ == {"max_steps": 20}
        assert search.score(PANEL[32:], Y[32:]) >= ENOUGH

    def test_regression(self, clf):
        shared = {
            k: v for k, v in clf.get_params().items() if k not in ("label_smoothing", "class_weight", "loss")
        }
        durations = (TIMES[:, -1] - TIMES[:, 0]).astype(float)
        reg = SSMRegressor(**{**shared, "max_steps": 60})
        assert reg.fit(PANEL[:32], durations[:32]).score(PANEL[32:], durations[32:]) > 0.8
        assert reg.fit(X[:32], durations[:32]).score(X[32:], durations[32:]) <= 0


@pytest.fixture
def evaluate():
    """sktime's evaluation of classifiers, which its lowest supported version has not."""
    return pytest.importorskip("sktime.classification.model_evaluation").evaluate


@pytest.mark.parametrize("kind", INDICES)
@pytest.mark.parametrize("container", [df_list, multiindex], ids=["df-list", "pd-multiindex"])
class TestSktime:
    def test_pipeline(self, clf, container, kind):
        pipe = ExponentTransformer(0.5) * LogTransformer() * clf
        data, train = container(kind), np.arange(N // 2)
        later = train + N // 2
        if container is df_list:
            first, second = [data[i] for i in train], [data[i] for i in later]
        else:
            first, second = data.loc[train], data.loc[later]
        assert pipe.fit(first, Y[train]).score(second, Y[later]) >= ENOUGH

    def test_evaluate(self, clf, container, kind, evaluate):
        scores = evaluate(clf, KFold(2), container(kind), Y, error_score="raise")
        assert scores["test_accuracy_score"].min() >= ENOUGH


def test_sktime_pipeline_without_times_is_right_by_chance(clf):
    assert (LogTransformer() * clf).fit(X, Y).score(X, Y) == CHANCE


def test_sktime_evaluate_without_times_is_right_by_chance(clf, evaluate):
    scores = evaluate(clf, KFold(2), X, Y, error_score="raise")
    assert scores["test_accuracy_score"].tolist() == [CHANCE, CHANCE]


class TestCountingIndex:
    """An index 0, 1, 2, ... is a time to an estimator fitted with times, and to no other."""

    @staticmethod
    def frame(*index):
        return pd.DataFrame({"a": np.sin(np.arange(1.0, len(index) + 1))}, index=pd.Index(index))

    @staticmethod
    def containers(*frames):
        return {
            "df-list": list(frames),
            "pd-multiindex": pd.concat(dict(enumerate(frames))),
            "nested": pd.DataFrame({"a": [frame["a"] for frame in frames]}),
        }

    @pytest.mark.parametrize("container", ["df-list", "pd-multiindex", "nested"])
    def test_is_time_after_training_with_times(self, clf, container):
        clf.fit(df_list("integer"), Y)
        assert clf.time_scale_ > 1
        counting, other = self.frame(0, 1, 2), self.frame(0, 4, 9)
        alone = clf.predict_proba(self.containers(counting)[container])
        company = clf.predict_proba(self.containers(counting, other)[container])
        np.testing.assert_allclose(alone[0], company[0], rtol=1e-5)  # float32
        expected = clf.predict_proba(Panel.from_arrays([counting["a"]], [[0, 1, 2]]))
        np.testing.assert_array_equal(alone, expected)
        assert np.abs(alone - clf.predict_proba([counting["a"].to_numpy()])).max() > 1e-4

    @pytest.mark.parametrize("container", ["df-list", "pd-multiindex", "nested"])
    def test_is_none_after_training_without(self, clf, container):
        clf.fit(list(X), Y)
        counting, other = self.frame(0, 1, 2), self.frame(0, 4, 9)
        alone = clf.predict_proba(self.containers(counting)[container])
        company = clf.predict_proba(self.containers(counting, other)[container])
        np.testing.assert_allclose(alone[0], company[0], rtol=1e-5)  # float32
        np.testing.assert_array_equal(alone, clf.predict_proba([counting["a"].to_numpy()]))

    def test_of_all_training_series_is_none(self, clf):
        counting = [pd.DataFrame(x.T) for x in X]
        fitted = clone(clf).fit(counting, Y)
        assert fitted.time_scale_ == 1.0
        np.testing.assert_array_equal(fitted.predict_proba(counting), clf.fit(X, Y).predict_proba(X))

    def test_a_fit_reads_its_index_afresh(self, clf):
        counting = [pd.DataFrame(x.T) for x in X]
        expected = clone(clf).fit(counting, Y).predict_proba(counting)
        again = clf.fit(df_list("integer"), Y).fit(counting, Y)
        np.testing.assert_array_equal(again.predict_proba(counting), expected)


class TestUnits:
    def test_the_same_times_in_another_unit_give_the_same_predictions(self, clf):
        hours = Panel.from_numpy(X, TIMES, time_unit="h")
        expected = clf.fit(hours, Y).predict_proba(hours)
        stamped = [
            pd.DataFrame(x.T, index=pd.to_timedelta(t, unit="h")) for x, t in zip(X, TIMES, strict=True)
        ]
        for same in (hours.convert_times("s"), hours.convert_times("D"), stamped, hours.to_multiindex()):
            np.testing.assert_allclose(clf.predict_proba(same), expected, rtol=1e-5, atol=1e-6)  # float32
        assert clf.time_scale_ == np.median(np.diff(TIMES))

    def test_numbers_and_stamps_are_not_compared(self, clf):
        stamped = df_list("datetime")
        expected = clf.fit(stamped, Y).predict_proba(X)
        for numbers in (PANEL, df_list("integer"), [frame.reset_index(drop=True) for frame in stamped]):
            with pytest.raises(
                ValueError, match="X has times that are numbers without a unit.*'s'.*time_unit"
            ):
                clf.predict(numbers)
        np.testing.assert_array_equal(clf.predict_proba(X), expected)  # an array lies on the training grid
        for train in (df_list("integer"), X):
            with pytest.raises(ValueError, match="X has times in 's', but the training data had"):
                clf.fit(train, Y).predict(stamped)

    def test_a_given_time_scale_is_in_the_unit_of_training(self, clf):
        hours = Panel.from_numpy(X, TIMES, time_unit="h")
        scaled = clone(clf).set_params(time_scale=2.0).fit(hours, Y)
        seconds = clone(clf).set_params(time_scale=7200.0).fit(hours.convert_times("s"), Y)
        np.testing.assert_allclose(scaled.predict_proba(hours), seconds.predict_proba(hours), rtol=1e-4)
