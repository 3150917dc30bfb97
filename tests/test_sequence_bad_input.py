"""Bad input along time is refused by name, and leaves the estimator as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tsssm import Panel, SSMSequenceClassifier, SSMSequenceRegressor, Stream

X = np.random.default_rng(0).normal(size=(3, 2, 8))
Y = np.where(X[:, 0] > 0, "up", "down")
Z = X[:, 0]
TIMED = Panel.from_numpy(X, times=np.arange(8) * 2.0)
NAMED = Panel.from_multiindex(
    Panel(X.transpose(0, 2, 1).reshape(-1, 2), [0, 8, 16, 24], ids=["a", "b", "c"]).to_multiindex()
)
PAIRS = [(np.array([0.0, 3.0]), np.array(["up", "down"]))] * 3


def rows(ids: str, times: Any) -> pd.Series:
    return pd.Series("up", index=pd.MultiIndex.from_product([list(ids), times]))


#: Name of the case: X, y, other arguments of fit, the error, words of its message.
FIT: dict[str, tuple[Any, Any, dict[str, Any], type[Exception], str]] = {
    "no y": (X, None, {}, ValueError, "requires y"),
    "text": (X, "up", {}, TypeError, "y must be an array"),
    "a number": (X, 3, {}, TypeError, "y must be an array"),
    "a dict": (X, {"a": 1}, {}, TypeError, "y must be an array"),
    "one a series": (X, np.array(["a", "b", "c"]), {}, ValueError, "one entry per series, which is"),
    "one a series in a list": (X, ["a", "b", "c"], {}, ValueError, "one entry per series, which is"),
    "other number of series": (X, Y[:2], {}, ValueError, "X has 3 series, y has 2"),
    "other number of lists": (X, list(Y[:2]), {}, ValueError, "X has 3 series, y has 2"),
    "other length": (X, Y[:, :7], {}, ValueError, "series 0 of X has 8 samples, that of y has 7"),
    "one of other length": (X, [*Y[:2], Y[2, :5]], {}, ValueError, "series 2 of X has 8 samples.* 5"),
    "four axes": (X, Y[None, None], {}, ValueError, "y must have shape"),
    "nested unevenly": (X, [[["up"], ["up", "down"]]] * 3, {}, ValueError, "one value for each sample"),
    "pair of other lengths": (X, [(np.arange(3), ["up"])] * 3, {}, ValueError, "1 values at 3 times"),
    "before the first sample": (
        TIMED,
        [(np.array([-1.0, 3]), ["up", "down"])] * 3,
        {},
        ValueError,
        "outside",
    ),
    "after the last sample": (TIMED, [(np.array([1.0, 15]), ["up", "down"])] * 3, {}, ValueError, "outside"),
    "times that go back": (
        TIMED,
        [(np.array([3.0, 1.0]), ["up", "down"])] * 3,
        {},
        ValueError,
        "must not decrease",
    ),
    "infinite times": (
        TIMED,
        [(np.array([np.inf, 1.0]), ["up", "down"])] * 3,
        {},
        ValueError,
        "must be finite",
    ),
    "times that are text": (
        TIMED,
        [(np.array(["x", "y"]), ["up", "down"])] * 3,
        {},
        TypeError,
        "times of series 0",
    ),
    "dates where X has none": (
        TIMED,
        [pd.Series(["up", "down"], index=pd.to_datetime(["2026-01-01", "2026-01-02"]))] * 3,
        {},
        ValueError,
        "X has none",
    ),
    "differences where X knows no unit": (
        TIMED,
        [pd.Series(["up", "down"], index=pd.to_timedelta([0, 1], unit="s"))] * 3,
        {},
        ValueError,
        "cannot be compared",
    ),
    "an unknown series": (NAMED, rows("abx", [0, 1]), {}, ValueError, "'x', which X does not have"),
    "rows that go back": (NAMED, rows("abc", [2, 1]), {}, ValueError, "must not decrease"),
    "panel of other length": (
        X,
        Panel(np.zeros((6, 1)), [0, 2, 4, 6]),
        {},
        ValueError,
        "series 0 of X has 8",
    ),
    "panel with a unit": (
        TIMED,
        Panel(np.zeros((6, 1)), [0, 2, 4, 6], [0, 1] * 3, time_unit="s"),
        {},
        ValueError,
        "cannot be compared",
    ),
    "no label at all": (X, np.full((3, 8), None), {}, ValueError, "no label: all 24 values"),
    "continuous classes": (X, Z, {}, ValueError, "class labels"),
    "weights of other length": (X, Y, {"sample_weight": [1, 1]}, ValueError, "one entry per series, 3"),
    "weights of other labels": (X, Y, {"sample_weight": Z[:, :5]}, ValueError, "series 0 of X has 8"),
    "negative weights": (X, Y, {"sample_weight": [1, -1, 1]}, ValueError, "not negative"),
    "weights that are text": (X, Y, {"sample_weight": ["a", "b", "c"]}, TypeError, "real numbers"),
    "weights of nothing": (X, Y, {"sample_weight": [0, 0, 0]}, ValueError, "no label"),
    "groups of other length": (X, Y, {"groups": [0]}, ValueError, "groups must have one entry for each of"),
    "validation without y": (X, Y, {"X_val": X}, ValueError, "must be given together"),
    "X of text": ([["a"]], [["up"]], {}, TypeError, "X"),
}

#: Parameters that are refused, and words of the message.
PARAMETERS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "negative lookahead": ({"lookahead": -1}, ValueError, "lookahead must be"),
    "lookahead of text": ({"lookahead": "all"}, TypeError, "lookahead must be"),
    "infinite lookahead": ({"lookahead": np.inf}, ValueError, "lookahead must be"),
    "longer than the series": ({"lookahead": 100}, ValueError, "lookahead=100"),
    "short crop": ({"crop_length": 1}, ValueError, "crop_length must be"),
    "long warm-up": ({"crop_length": 20, "warm_up": 20}, ValueError, "warm_up=20"),
    "warm-up of both ends": ({"crop_length": 20, "warm_up": 10}, ValueError, "at both ends"),
    "rare classes": ({"rare_classes": 1.0}, ValueError, "rare_classes must be"),
    "unknown loss": ({"loss": "hinge"}, ValueError, "loss must be"),
    "early stopping of one": (
        {"early_stopping": True, "validation_fraction": 0.99},
        ValueError,
        "more series",
    ),
}


@pytest.fixture(scope="module")
def clf() -> SSMSequenceClassifier:
    options = {"n_layers": 1, "d_model": 4, "d_state": 4, "max_steps": 2, "random_state": 0}
    return SSMSequenceClassifier(**options).fit(TIMED, Y)


@pytest.mark.parametrize("case", FIT)
def test_fit_refuses(case: str, clf: SSMSequenceClassifier) -> None:
    panel, y, options, error, words = FIT[case]
    before = np.stack(clf.predict_proba(TIMED))
    with pytest.raises(error, match=words):
        clf.fit(panel, y, **options)
    np.testing.assert_array_equal(np.stack(clf.predict_proba(TIMED)), before)


@pytest.mark.parametrize("case", PARAMETERS)
def test_parameters_are_refused(case: str) -> None:
    options, error, words = PARAMETERS[case]
    with pytest.raises(error, match=words):
        SSMSequenceClassifier(max_steps=1, **options).fit(X, Y)


def test_questions_that_have_no_answer(clf: SSMSequenceClassifier) -> None:
    with pytest.raises(ValueError, match="times has 3 times outside"):
        clf.predict(TIMED, times=[100.0, 101.0, 102.0])
    with pytest.raises(TypeError, match="times must be an array"):
        clf.predict(TIMED, times=3.0)
    with pytest.raises(ValueError, match="X has 3 series, times has 2"):
        clf.predict(TIMED, times=[[0.0], [1.0]])
    with pytest.raises(ValueError, match="1 channel"):
        clf.predict(X[:, :1])
    with pytest.raises(ValueError, match="no label"):
        clf.score(TIMED, np.full((3, 8), None))
    with pytest.raises(ValueError, match="a number as lookahead"):
        Stream(clf)
    with pytest.raises(Exception, match="not been fitted"):
        SSMSequenceRegressor().predict(X)


def test_numbers_that_are_none() -> None:
    reg = SSMSequenceRegressor(max_steps=1)
    with pytest.raises(TypeError, match="y must hold real numbers"):
        reg.fit(X, Y)
    with pytest.raises(ValueError, match="y must be finite or missing"):
        reg.fit(X, np.where(Z > 0, np.inf, Z))
    with pytest.raises(ValueError, match="no label"):
        reg.fit(X, np.full((3, 8), np.nan))
    both = np.stack([Z, np.full_like(Z, np.nan)], axis=1)
    with pytest.raises(ValueError, match="no value to learn from in column 1"):
        reg.fit(X, both)
    reg.fit(X, Z)
    with pytest.raises(ValueError, match="gaussian"):
        reg.predict(X, return_std=True)
    with pytest.raises(ValueError, match="1 target"):
        reg.score(X, np.stack([Z, Z], axis=1))


def test_a_score_counts_classes_that_were_not_seen_as_wrong(clf: SSMSequenceClassifier) -> None:
    assert clf.score(TIMED, np.full((3, 8), "sideways")) == 0.0


def test_parts_that_are_refused(clf: SSMSequenceClassifier) -> None:
    new = SSMSequenceClassifier(n_layers=1, d_model=4, d_state=4)
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        new.partial_fit(TIMED, Y)
    with pytest.raises(ValueError, match="early_stopping=False"):
        SSMSequenceClassifier(early_stopping=True).partial_fit(TIMED, Y, classes=["down", "up"])
    with pytest.raises(ValueError, match="class_weight='balanced' needs"):
        SSMSequenceClassifier(class_weight="balanced").partial_fit(TIMED, Y, classes=["down", "up"])
    before = np.stack(clf.predict_proba(TIMED))
    with pytest.raises(ValueError, match="sideways"):
        clf.partial_fit(TIMED, np.where(Y == "up", "sideways", Y))
    with pytest.raises(ValueError, match="series 0 of X has 8 samples, that of y has 7"):
        clf.partial_fit(TIMED, Y[:, :7])
    np.testing.assert_array_equal(np.stack(clf.predict_proba(TIMED)), before)


def test_quantiles_that_nobody_knows() -> None:
    options = {"n_layers": 1, "d_model": 4, "d_state": 4, "max_steps": 2, "random_state": 0}
    reg = SSMSequenceRegressor(**options).fit(X, Z)
    with pytest.raises(ValueError, match="needs loss='quantile' or 'gaussian'"):
        reg.predict_quantiles(X)
    reg = SSMSequenceRegressor(**options, loss="quantile").fit(X, Z)
    with pytest.raises(ValueError, match="among those that were trained"):
        reg.predict_quantiles(X, [0.3])
    with pytest.raises(ValueError, match="sequence of numbers in"):
        reg.predict_quantiles(X, [1.5])
    with pytest.raises(ValueError, match="outside"):
        reg.predict_quantiles(X, times=[100.0])
    with pytest.raises(ValueError, match="quantiles must be"):
        SSMSequenceRegressor(**options, loss="quantile", quantiles=(0.1, 0.9)).fit(X, Z)
