"""Bad input, row by row: what comes in, what the estimators say, and that they stay as they were.

Every message names the argument, and what came where a shape or a count can say it. A fit that fails leaves a
fitted estimator fitted and its predictions as they were, and a fresh one fresh. What may look bad but is none
has a table of its own at the end.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from tsssm import Panel, SSMClassifier, SSMRegressor

N, CHANNELS, LENGTH = 8, 2, 6
NAN = np.nan
TINY = {
    "backbone": "s4d",
    "n_members": 1,
    "n_features": 0,
    "n_layers": 1,
    "d_model": 4,
    "d_state": 4,
    "max_steps": 2,
    "accelerator": "cpu",
    "random_state": 0,
}
CUBE = np.random.default_rng(0).normal(size=(N, CHANNELS, LENGTH))
SECONDS = np.array([0.0, 1.0, 2.5, 3.0, 7.0, 8.0])
LABELS = np.tile(["well", "ill"], N // 2)
NUMBERS = np.linspace(-1.0, 1.0, N)


NAMES = ("hr", "spo2", "rr")

# Containers of the same series; those with an index take one for each series.


def frames(cube=CUBE, index=None, columns=NAMES):
    index = SECONDS[: cube.shape[2]] if index is None else index
    names = list(columns)[: cube.shape[1]]
    return [pd.DataFrame(series.T, index=pd.Index(index), columns=names) for series in cube]


def multiindex(cube=CUBE, index=None, columns=NAMES):
    return pd.concat(dict(enumerate(frames(cube, index, columns))), names=["series", "time"])


def nested(cube=CUBE, index=None, columns=NAMES):
    made = frames(cube, index, columns)
    return pd.DataFrame({name: [frame[name] for frame in made] for name in made[0]})


def panel(cube=CUBE, index=None, columns=NAMES):
    return Panel.from_multiindex(multiindex(cube, index, columns))


def with_value(value, channel=1):
    cube = CUBE.copy()
    cube[3, channel, 4] = value
    return cube


def objects(value):
    cube = CUBE.astype(object)
    cube[3, 1, 4] = value
    return cube


INDEXED = {"df-list": frames, "pd-multiindex": multiindex, "nested": nested}
CONTAINERS = {"3-D array": np.array, "list of arrays": list, **INDEXED}


class Bad(NamedTuple):
    """One row: what is wrong, the X that is, and the error with a part of its message."""

    what: str
    X: Any
    error: type[Exception]
    message: str


def everywhere(what: str, cube: Any, error: type[Exception], message: str) -> list[Bad]:
    """The same fault in each container."""
    return [Bad(f"{what}, {name}", make(cube), error, message) for name, make in CONTAINERS.items()]


def bad_times(what: str, index: Any, error: type[Exception], message: str) -> list[Bad]:
    """The same fault in each container with an index."""
    return [Bad(f"{what}, {name}", make(index=index), error, message) for name, make in INDEXED.items()]


STAMPS = pd.Timestamp("2024-01-01") + pd.to_timedelta(SECONDS, unit="s")

# Refused by fit and by predict alike.
BAD_X = [
    Bad("no series, 3-D array", CUBE[:0], ValueError, r"X with 0 sample\(s\) \(shape=\(0, 2, 6\)\)"),
    Bad("no series, 2-D array", CUBE[:0, 0], ValueError, r"X with 0 sample\(s\) \(shape=\(0, 6\)\)"),
    Bad("no series, list", [], ValueError, r"X with 0 sample\(s\)"),
    Bad("no series, pd-multiindex", multiindex()[:0], ValueError, r"X with 0 sample\(s\)"),
    Bad("no series, nested", nested()[:0], ValueError, r"X with 0 sample\(s\)"),
    Bad("no series, panel", panel()[:0], ValueError, r"X with 0 sample\(s\)"),
    Bad("empty frame", pd.DataFrame(), ValueError, r"X with 0 sample\(s\)"),
    Bad("no channel, 3-D array", CUBE[:, :0], ValueError, r"X with 0 feature\(s\) \(shape=\(8, 0, 6\)\)"),
    Bad("length 0, 3-D array", CUBE[..., :0], ValueError, r"X of shape \(8, 2, 0\) has series of length 0"),
    Bad(
        "length 0, list of arrays",
        [*CUBE[:7], CUBE[7, :, :0]],
        ValueError,
        "X has 1 series of length 0.*series 7",
    ),
    Bad(
        "length 0, df-list",
        [*frames()[:7], frames()[7].iloc[:0]],
        ValueError,
        "X has 1 series of length 0.*series 7",
    ),
    Bad("length 0, nested", nested(CUBE[..., :0]), ValueError, "X has 8 series of length 0"),
    *everywhere("inf", with_value(np.inf), ValueError, "X contains infinity.*series 3, sample 4, channel 1"),
    *everywhere(
        "overflow", with_value(-1e300), ValueError, "X contains infinity or a value too large for float32"
    ),
    *everywhere("text", objects("high"), TypeError, "X.* must hold real numbers.*text 'high'"),
    *everywhere("complex", CUBE.astype(complex), ValueError, "Complex data not supported:.* X"),
    *everywhere("dates", CUBE.astype("M8[s]"), TypeError, "X.* must hold real numbers"),
    *bad_times(
        "unsorted",
        SECONDS[::-1],
        ValueError,
        "times of X must not decrease.*series 0, sample 1 has 7 after 8",
    ),
    *bad_times(
        "unsorted stamps", STAMPS[[0, 2, 1, 3, 4, 5]], ValueError, "times of X must not decrease.*sample 2"
    ),
    *bad_times(
        "NaN times", [0, 1, 2, NAN, 4, 5], ValueError, "times of X must be finite.*series 0, sample 3"
    ),
    *bad_times("infinite times", [0, 1, 2, 3, 4, np.inf], ValueError, "times of X must be finite.*sample 5"),
    *bad_times("NaT", STAMPS.where(SECONDS < 5), ValueError, "of X has .*NaT"),
    *bad_times("text index", list("abcdef"), TypeError, r"of X is a .*Index.*reset_index\(drop=True\)"),
    Bad(
        "stamps and numbers",
        [*frames()[:7], frames(index=STAMPS)[7]],
        ValueError,
        "X mixes stamps and numbers",
    ),
    Bad(
        "scattered rows",
        multiindex().sort_index(level=1),
        ValueError,
        "rows of series .* of X are not together",
    ),
    Bad("three levels", pd.concat({"a": multiindex()}), ValueError, "X has a 3-level index"),
    Bad(
        "channels differ, list",
        [*CUBE[:7], CUBE[7, :1]],
        ValueError,
        r"X must have .*\(2, 6\), series 7 has \(1, 6\)",
    ),
    Bad(
        "channels differ, df-list",
        [*frames()[:7], frames(columns=("hr", "rr"))[7]],
        ValueError,
        r"series of X .* \['hr', 'spo2'\], series 7 has \['hr', 'rr'\]",
    ),
    Bad(
        "channels of unequal length, nested",
        nested().assign(spo2=[cell.iloc[:5] for cell in nested()["spo2"]]),
        ValueError,
        r"channels of series 0 of X must have the same length, got \[6, 5\]",
    ),
    Bad("one series, 1-D array", CUBE[0, 0], ValueError, r"X, got a 1D array of shape \(6,\). Reshape"),
    Bad("number", 3.0, ValueError, "X, got a scalar"),
    Bad("4-D array", CUBE[None], ValueError, r"X, got 4D: \(1, 8, 2, 6\)"),
    Bad("None", None, TypeError, "X must be .* got NoneType"),
    Bad("file name", "data.csv", TypeError, "X must be .* got str"),
    Bad("dict", {"hr": CUBE}, TypeError, "X must be .* got dict"),
    Bad("generator", (x for x in CUBE), TypeError, "X must be .* got generator"),
    Bad("sparse", scipy.sparse.csr_array(CUBE[:, 0]), TypeError, "X is a sparse matrix"),
]

# Refused by predict after a fit to `frames()`: two channels with names, times that are numbers.
BAD_AFTER_FIT = [
    *everywhere(
        "fewer channels", CUBE[:, :1], ValueError, r"X has 1 channel\(s\), but SSM\w+ was fitted with 2"
    ),
    Bad(
        "fewer channels, panel", panel(CUBE[:, :1]), ValueError, r"X has 1 channel\(s\), but SSM\w+ was .* 2"
    ),
    Bad(
        "more channels",
        CUBE.repeat(2, axis=1),
        ValueError,
        r"X has 4 channel\(s\), but SSM\w+ was fitted with 2",
    ),
    Bad(
        "one channel, 2-D array",
        CUBE[:, 0],
        ValueError,
        r"X has 1 channel\(s\), but SSM\w+ was fitted with 2",
    ),
    *(
        Bad(
            f"{what}, {name}",
            make(columns=columns),
            ValueError,
            r"channels of X must have .* in fit, \['hr', 'spo2'\]; it lacks .*'spo2'\], unknown are .*'rr'",
        )
        for what, columns in {"other names": ("hr", "rr"), "all others": ("pulse", "rr")}.items()
        for name, make in {**INDEXED, "panel": panel}.items()
    ),
    *bad_times(
        "stamps", STAMPS, ValueError, "X has times in 's', but the training data had .* without a unit"
    ),
    Bad("known unit", Panel.from_numpy(CUBE, SECONDS, time_unit="h"), ValueError, "X has times in 'h', but"),
]

ANY, CLASSIFIER, REGRESSOR = (SSMClassifier, SSMRegressor), (SSMClassifier,), (SSMRegressor,)


class BadTarget(NamedTuple):
    """One row: what is wrong, the y that is, who refuses it, and a part of the message."""

    what: str
    y: Any
    estimators: tuple[type, ...]
    message: str
    error: type[Exception] = ValueError


BAD_Y = [
    BadTarget("none", None, ANY, "requires y to be passed, but the target y is None"),
    BadTarget("too short", LABELS[:7], CLASSIFIER, r"X has 8 series, y has shape \(7,\)\.$"),
    BadTarget("too short", NUMBERS[:7], REGRESSOR, r"X has 8 series, y has shape \(7,\)\.$"),
    BadTarget("too long", list(LABELS) * 2, CLASSIFIER, r"X has 8 series, y has shape \(16,\)"),
    BadTarget(
        "too long frame", pd.DataFrame({"bpm": [*NUMBERS, 0]}), REGRESSOR, r"8 series, y has shape \(9, 1\)"
    ),
    BadTarget("empty", [], ANY, r"X has 8 series, y has shape \(0,\)"),
    BadTarget(
        "an entry a sample", np.tile(LABELS, LENGTH), CLASSIFIER, r"\(48,\). y takes one .* for each series"
    ),
    BadTarget(
        "an entry a sample", np.tile(NUMBERS, LENGTH), REGRESSOR, r"\(48,\). y takes one .* for each series"
    ),
    BadTarget("scalar", 1.0, ANY, "y must be .* each of the 8 series of X; got float", TypeError),
    BadTarget("text", "well", ANY, "y must be .* each of the 8 series of X; got str", TypeError),
    BadTarget("three axes", np.zeros((N, 2, 2)), CLASSIFIER, r"y must have shape .* got \(8, 2, 2\)"),
    BadTarget("three axes", np.zeros((N, 2, 2)), REGRESSOR, r"y must hold .*dim 3"),
    BadTarget(
        "None among labels", [*LABELS[:7], None], CLASSIFIER, "y contains NaN: 1 missing label.*position 7"
    ),
    BadTarget(
        "NaN among labels", [*range(7), NAN], CLASSIFIER, "y contains NaN: 1 missing label.*position 7"
    ),
    BadTarget("all labels missing", [NAN] * N, CLASSIFIER, "y contains NaN: 8 missing label.*position 0"),
    BadTarget("infinite label", [*range(7), np.inf], CLASSIFIER, "y contains infinity"),
    BadTarget(
        "numbers as labels", NUMBERS, CLASSIFIER, "y must hold class labels, got dtype float64.*continuous"
    ),
    BadTarget("labels as numbers", LABELS, REGRESSOR, "y must hold real numbers.*'well'"),
    BadTarget("NaN among numbers", [*NUMBERS[:7], NAN], REGRESSOR, "y contains NaN"),
    BadTarget("infinity", [*NUMBERS[:7], -np.inf], REGRESSOR, "y contains infinity"),
    BadTarget("complex", NUMBERS + 1j, REGRESSOR, "Complex data not supported"),
    BadTarget("sparse", scipy.sparse.csr_array(NUMBERS[:, None]), REGRESSOR, "Sparse data.* y", TypeError),
]

BAD_WEIGHTS = [
    ("too short", np.ones(7), ValueError, r"sample_weight.* \(7,\), expected \(8,\)"),
    ("text", ["heavy"] * N, TypeError, "sample_weight must hold real numbers, got dtype <U5"),
    ("negative", -np.ones(N), ValueError, "Negative values .* `sample_weight`"),
    ("NaN", [NAN] * N, ValueError, "sample_weight contains NaN"),
    ("infinite", [np.inf] * N, ValueError, "sample_weight contains infinity"),
    ("two columns", np.ones((N, 2)), ValueError, r"sample_weight must have shape \(8,\), got \(8, 2\)"),
    ("all zero", np.zeros(N), ValueError, "sample_weight is zero for all of the 8 series"),
]

# Refused by fit alone: there is nothing to learn from.
NOTHING_TO_LEARN = [
    Bad(
        f"all missing, {name}",
        make(np.full_like(CUBE, NAN)),
        ValueError,
        r"All values of X, 8 series of 2 channel",
    )
    for name, make in {**CONTAINERS, "panel": panel}.items()
]


def by_name(rows: list[Any]) -> Any:
    return pytest.mark.parametrize("row", rows, ids=[row[0] for row in rows])


@pytest.fixture(scope="module", params=ANY, ids=lambda cls: cls.__name__)
def fitted(request):
    """One estimator for the whole module: every test has to leave it as it was."""
    return request.param(**TINY).fit(frames(), targets(request.param))


def targets(cls: type) -> np.ndarray:
    return LABELS if cls is SSMClassifier else NUMBERS


def outputs(estimator: Any, X: Any) -> np.ndarray:
    return getattr(estimator, "predict_proba", estimator.predict)(X)


WHOLE = panel()
LEARNED: dict[type, tuple[dict[str, Any], np.ndarray]] = {}


@pytest.fixture(autouse=True)
def as_it_was(request):
    """After every test the fitted estimator has the attributes and the predictions that it had before."""
    if "fitted" not in request.fixturenames:
        yield
        return
    estimator = request.getfixturevalue("fitted")
    if type(estimator) not in LEARNED:
        LEARNED[type(estimator)] = dict(vars(estimator)), outputs(estimator, WHOLE)
    attributes, before = LEARNED[type(estimator)]
    yield
    assert vars(estimator).keys() == attributes.keys()
    assert all(vars(estimator)[name] is value for name, value in attributes.items())
    np.testing.assert_array_equal(outputs(estimator, WHOLE), before)


def refused(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert re.search(message, str(caught.value), re.DOTALL), str(caught.value)


def refused_by_fit(fitted: Any, X: Any, y: Any, error: type[Exception], message: str, **options: Any) -> None:
    """Both an estimator that was fitted before and a fresh one refuse, and the fresh one stays fresh."""
    refused(lambda: fitted.fit(X, y, **options), error, message)
    fresh = clone(fitted)
    attributes = dict(vars(fresh))
    refused(lambda: fresh.fit(X, y, **options), error, message)
    assert vars(fresh) == attributes and not fresh.is_fitted


def test_there_are_enough_rows():
    rows = [*BAD_X, *BAD_AFTER_FIT, *BAD_Y, *BAD_WEIGHTS, *NOTHING_TO_LEARN]
    assert len(rows) >= 60
    for table in (BAD_X, BAD_AFTER_FIT, BAD_WEIGHTS, NOTHING_TO_LEARN):
        assert len({row[0] for row in table}) == len(table)


@by_name([*BAD_X, *NOTHING_TO_LEARN])
def test_fit_refuses(fitted, row):
    refused_by_fit(fitted, row.X, targets(type(fitted)), row.error, row.message)


@by_name([*BAD_X, *BAD_AFTER_FIT])
def test_predict_refuses(fitted, row):
    refused(lambda: fitted.predict(row.X), row.error, row.message)
    refused(lambda: fitted.score(row.X, targets(type(fitted))), row.error, row.message)


@by_name([*BAD_X, *BAD_AFTER_FIT])
def test_partial_fit_refuses(fitted, row):
    refused(lambda: fitted.partial_fit(row.X, targets(type(fitted))), row.error, row.message)


@pytest.mark.parametrize(
    ("y", "classes", "message"),
    [
        (["well", "dead"] * (N // 2), None, "y .*'dead'"),
        (LABELS, ["well", "ill", "dead"], "classes .*'dead'"),
        (LABELS[:7], None, r"X has 8 series, y has shape \(7,\)"),
    ],
    ids=["unknown label", "other classes", "too short"],
)
def test_partial_fit_refuses_labels(y, classes, message):
    clf = SSMClassifier(**TINY).fit(frames(), LABELS)
    before = outputs(clf, WHOLE)
    refused(lambda: clf.partial_fit(frames(), y, classes=classes), ValueError, message)
    np.testing.assert_array_equal(outputs(clf, WHOLE), before)


@by_name(BAD_Y)
def test_fit_refuses_targets(fitted, row):
    if type(fitted) in row.estimators:
        refused_by_fit(fitted, frames(), row.y, row.error, row.message)


@pytest.mark.parametrize("container", [*CONTAINERS, "panel"])
def test_every_container_is_counted_in_series(fitted, container):
    X = {**CONTAINERS, "panel": panel}[container](CUBE)
    message = r"X has 8 series, y has shape \(5,\)"
    refused_by_fit(fitted, X, targets(type(fitted))[:5], ValueError, message)


@by_name(BAD_WEIGHTS)
def test_fit_refuses_weights(fitted, row):
    _, weight, error, message = row
    refused_by_fit(fitted, frames(), targets(type(fitted)), error, message, sample_weight=weight)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "score"])
@pytest.mark.parametrize("cls", ANY)
def test_not_fitted(cls, method):
    if not hasattr(cls, method):
        return
    arguments = (frames(), targets(cls)) if method == "score" else (frames(),)
    refused(lambda: getattr(cls(), method)(*arguments), NotFittedError, f"{cls.__name__} has not been fitted")


@pytest.mark.parametrize("name", ["n_layer", "epochs", "net_"])
def test_foreign_parameters(fitted, name):
    refused(lambda: type(fitted)(**{name: 1}), TypeError, name)
    refused(lambda: fitted.set_params(**{name: 1}), ValueError, f"Invalid parameter.*{name}")


def test_a_table_has_its_number_of_columns():
    clf = SSMClassifier(**TINY).fit(CUBE[:, 0], LABELS)
    message = "X has 5 features, but SSMClassifier is expecting 6 features"
    refused(lambda: clf.predict(CUBE[:, 0, :5]), ValueError, message)
    refused(lambda: clf.predict(pd.DataFrame(CUBE[:, 0, :5])), ValueError, message)


# What may look bad and is none.


@pytest.fixture
def plain(fitted):
    """A fresh estimator of either class."""
    return clone(fitted)


GOOD = {
    "one sample a series": frames(CUBE[..., :1]),
    "one sample a series, array": CUBE[..., :1],
    "lengths 1 to 6": [series[:, : 1 + i % LENGTH] for i, series in enumerate(CUBE)],
    "equal times": frames(index=[0, 0, 1, 1, 1, 5]),
    "all times equal": frames(index=[3] * LENGTH),
    "a missing value": with_value(NAN),
    "None among the values": objects(None),
    "a series without a value": np.where(np.arange(N)[:, None, None] == 3, NAN, CUBE),
    "a channel without a value": np.where(np.arange(CHANNELS)[:, None] == 1, NAN, CUBE),
    "a constant channel": np.where(np.arange(CHANNELS)[:, None] == 1, 7.0, CUBE),
    "integers": (10 * CUBE).astype(int),
    "booleans": CUBE > 0,
    "half precision": CUBE.astype(np.float16),
    "large values": 1e30 * CUBE,
    "negative times": frames(index=SECONDS - 100),
    "late times": frames(index=SECONDS + 1.7e9),
}


@pytest.mark.filterwarnings("ignore::tsssm.DataWarning")  # of a channel without a value
@pytest.mark.parametrize("case", GOOD)
def test_accepted(plain, case):
    X = GOOD[case]
    predicted = outputs(plain.fit(X, targets(type(plain))), X)
    assert len(predicted) == N and np.isfinite(predicted).all()


@pytest.mark.parametrize(
    "missing", [np.full((1, CHANNELS, 3), NAN), np.full((2, CHANNELS, 1), NAN)], ids=np.shape
)
def test_a_series_without_a_value_is_predicted(fitted, missing):
    predicted = outputs(fitted, missing)
    assert np.isfinite(predicted).all() and len(predicted) == len(missing)


def test_one_series(plain):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="only single label")
        plain.fit(frames()[:1], targets(type(plain))[:1])
    assert plain.predict(frames()).shape == (N,)


def test_one_class():
    with pytest.warns(UserWarning, match="only single label seen in y"):
        clf = SSMClassifier(**TINY).fit(frames(), ["well"] * N)
    assert clf.predict(frames()).tolist() == ["well"] * N
    assert clf.predict_proba(frames()).tolist() == [[1.0]] * N
