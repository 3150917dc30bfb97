"""Bad input to the forecasters, row by row: what comes in and what they say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tsssm import Panel, SSMFeaturesForecaster

# sktime warns of its own future, and counts in periods, which have no time zone.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:Converting to Period:UserWarning"),
]

LENGTH = 30
Y = pd.Series(np.sin(np.arange(LENGTH)) + 5.0)
X = pd.DataFrame({"x": np.cos(np.arange(LENGTH + 6.0))})
DATES = pd.date_range("2024-01-01", periods=LENGTH, freq="D")
PANEL = Panel.from_arrays([np.sin(np.arange(20.0))] * 3, [np.arange(20.0)] * 3, time_unit="h")


def forecaster(**parameters):
    return SSMFeaturesForecaster(**{"sp": 1, "transform": "none", "lags": 3, **parameters})


def fitted(y=Y, **arguments):
    return forecaster().fit(y, **arguments)


def with_value(value, name=None):
    y = Y.copy() if name is None else pd.DataFrame({name: Y})
    y.iloc[4] = value
    return y


def multiindex(**changes):
    return pd.concat({"a": pd.DataFrame({"y": Y}), "b": pd.DataFrame({"y": Y})}, names=["s", "t"])


PARAMETERS = [
    ({"sp": 0}, "sp must be"),
    ({"sp": -4}, "sp must be"),
    ({"sp": 100_001}, "from 1 to 100,000"),
    ({"sp": 2.5}, "sp must be"),
    ({"sp": "weekly"}, "sp must be"),
    ({"sp": None}, "sp must be"),
    ({"sp": True}, "sp must be"),
    ({"horizon": 0}, "horizon must be"),
    ({"horizon": 1.5}, "horizon must be"),
    ({"horizon": "12"}, "horizon must be"),
    ({"lags": 1}, "lags must be"),
    ({"lags": ()}, "lags must be"),
    ({"lags": (8, 4)}, "lags must be"),
    ({"lags": (4, 4)}, "lags must be"),
    ({"lags": (4, "8")}, "lags must be"),
    ({"lags": "all"}, "lags must be"),
    ({"lags": 3.0}, "lags must be"),
    ({"scaling": "first"}, "scaling must be"),
    ({"scaling": None}, "scaling must be"),
    ({"transform": "sqrt"}, "transform must be"),
    ({"transform": True}, "transform must be"),
]


@pytest.mark.parametrize(("parameters", "message"), PARAMETERS, ids=str)
def test_parameters(parameters, message):
    model = forecaster(**parameters)
    for data in (Y, PANEL):
        with pytest.raises((TypeError, ValueError), match=message):
            model.fit(data)
        assert not model.is_fitted


FITS = {
    "infinity": (lambda: fitted(with_value(np.inf)), ValueError, "infinity in column .* at 4"),
    "minus infinity": (lambda: fitted(with_value(-np.inf, "load")), ValueError, "infinity in column 'load'"),
    "infinity in X": (lambda: fitted(X=X.iloc[:LENGTH] / 0.0), ValueError, "X must be finite"),
    "no value": (lambda: fitted(Y * np.nan), ValueError, "has no value in column"),
    "no value in one column": (
        lambda: fitted(pd.DataFrame({"a": Y, "b": Y * np.nan})),
        ValueError,
        "no value in column 'b'",
    ),
    "no value in one series": (
        lambda: fitted(pd.concat({"a": pd.DataFrame({"y": Y}), "b": pd.DataFrame({"y": Y * np.nan})})),
        ValueError,
        "series 'b'.* has no value",
    ),
    "None": (lambda: forecaster().fit(None), (AssertionError, TypeError), "y cannot be None"),
    "a string": (lambda: forecaster().fit("y"), TypeError, "y"),
    "text": (lambda: fitted(pd.Series(list("abcdef"))), TypeError, "y|number|object|categorical"),
    "unsorted": (lambda: fitted(Y.iloc[::-1]), TypeError, "monotonic|sorted"),
    "fractions as times": (lambda: fitted(Y.set_axis(np.arange(LENGTH) / 2)), TypeError, "index"),
    "a stamp years away": (
        lambda: fitted(Y.set_axis([*range(LENGTH - 1), 10**7])),
        ValueError,
        "samples on a grid of 10000001 steps",
    ),
    "nothing": (lambda: fitted(Y[:0]), ValueError, "y must hold at least one sample"),
    "complex numbers": (lambda: fitted(Y + 1j), TypeError, "complex|dtype"),
    "a date that is none": (lambda: fitted(Y.set_axis(DATES[:-1].insert(0, pd.NaT))), TypeError, "index"),
    "columns of X of one name": (
        lambda: fitted(X=pd.concat([X, X], axis=1).iloc[:LENGTH]),
        TypeError,
        "X must be in an sktime compatible format",
    ),
    "X that begins later": (
        lambda: fitted(X=X.iloc[:6].set_axis(np.arange(500, 506))),
        ValueError,
        "X has no time in common",
    ),
    "X of another kind of time": (
        lambda: fitted(X=X.iloc[:LENGTH].set_axis(DATES)),
        TypeError,
        "kind",
    ),
    "X of another container": (lambda: fitted(multiindex(), X=X), TypeError, "same scitype"),
    "X without one series": (
        lambda: fitted(multiindex(), X=multiindex().loc[["a"]]),
        ValueError,
        "X has no rows of series 'b'",
    ),
    "X beside a panel": (lambda: forecaster().fit(PANEL, X=X), ValueError, "X must be None with a Panel"),
    "an empty panel": (lambda: forecaster().fit(PANEL[:0]), ValueError, "at least one series"),
    "a panel without values": (
        lambda: forecaster().fit(Panel(np.full((4, 1), np.nan), [0, 4])),
        ValueError,
        "channel 0 of the panel has no value",
    ),
    "a list as horizon of a panel": (lambda: forecaster().fit(PANEL, fh=[1, 2]), ValueError, "time ahead"),
    "a negative horizon of a panel": (lambda: forecaster().fit(PANEL, fh=-2), ValueError, "time ahead"),
}


@pytest.mark.parametrize("case", FITS.values(), ids=FITS)
def test_fit(case):
    act, error, message = case
    with pytest.raises(error, match=message):
        act()


PREDICTIONS = {
    "before fit": (lambda: forecaster().predict(1), Exception, "not been fitted"),
    "panel before fit": (lambda: forecaster().predict(PANEL, [1.0]), Exception, "not been fitted"),
    "without fh": (lambda: fitted().predict(), ValueError, "fh"),
    "fh of text": (lambda: fitted().predict("soon"), Exception, "[Ff]orecastingHorizon|fh|value"),
    "fh in the past": (lambda: fitted().predict([-1, 1]), NotImplementedError, "in-sample"),
    "fh of now": (lambda: fitted().predict([0]), NotImplementedError, "in-sample"),
    "fh of dates for integers": (lambda: fitted().predict(DATES), TypeError, "fh .* dates"),
    "fh without the time zone of y": (
        lambda: fitted(Y.set_axis(DATES.tz_localize("UTC"))).predict(DATES + pd.Timedelta(days=60)),
        TypeError,
        "fh and y must both have a time zone",
    ),
    "fh in another time zone, of the past": (
        lambda: fitted(Y.set_axis(pd.date_range("2024", periods=LENGTH, freq="h", tz="UTC"))).predict(
            pd.date_range("2024-01-02 06:00", periods=2, freq="h", tz="Europe/Berlin")
        ),
        NotImplementedError,
        "fh must lie after the end of y",
    ),
    "fh beyond all reach": (lambda: fitted(fh=[2]).predict([10**9]), ValueError, "1,000,000,000 steps ahead"),
    "times beyond all reach": (lambda: fitted(PANEL).predict(PANEL, [1e9]), ValueError, "steps ahead"),
    "values beyond sums": (lambda: fitted(Y * 2e300), ValueError, "numbers of magnitude up to 1e.300"),
    "X that was not in fit": (lambda: fitted().predict([1], X=X.iloc[LENGTH:]), ValueError, "fit had none"),
    "X that ends before fh": (
        lambda: fitted(X=X.iloc[:LENGTH]).predict([1, 20], X=X.iloc[LENGTH:]),
        ValueError,
        "there is none at 49",
    ),
    "new columns": (
        lambda: fitted(X=X.iloc[:LENGTH]).predict([1], X=X.iloc[LENGTH:].rename(columns={"x": "z"})),
        ValueError,
        r"must have the columns that it had in fit, \['x'\], .*; got \['z'\]",
    ),
    "infinite X": (
        lambda: fitted(X=X.iloc[:LENGTH]).predict([1], X=X.iloc[LENGTH:] + np.inf),
        ValueError,
        "X must be finite",
    ),
    "level 0": (lambda: fitted().predict_quantiles([1], alpha=[0.0, 2.0]), ValueError, "alpha"),
    "update with more columns": (
        lambda: fitted().update(pd.DataFrame({"a": Y, "b": Y})),
        ValueError,
        "must have the columns of fit",
    ),
    "update with another kind of time": (lambda: fitted().update(Y.set_axis(DATES)), TypeError, "kind"),
    "update with infinity": (lambda: fitted().update(with_value(np.inf)), ValueError, "infinity"),
    "a panel after series": (lambda: fitted().predict(PANEL, [1.0]), TypeError, "not to a Panel"),
    "fh after a panel": (lambda: fitted(PANEL).predict([1]), TypeError, r"predict\(panel, times\)"),
    "no times": (lambda: fitted(PANEL).predict(PANEL), ValueError, "needs times"),
    "times in the past": (lambda: fitted(PANEL).predict(PANEL, [-1.0]), ValueError, "positive finite"),
    "time 0": (lambda: fitted(PANEL).predict(PANEL, [0.0]), ValueError, "positive finite"),
    "times that fall": (lambda: fitted(PANEL).predict(PANEL, [2.0, 1.0]), ValueError, "must not decrease"),
    "times of text": (lambda: fitted(PANEL).predict(PANEL, ["later"]), TypeError, "must be numbers"),
    "NaN as time": (lambda: fitted(PANEL).predict(PANEL, [np.nan]), ValueError, "positive finite"),
    "times for too few": (
        lambda: fitted(PANEL).predict(PANEL, [[1.0], [2.0]]),
        ValueError,
        "each; got 2",
    ),
    "other channels": (
        lambda: fitted(PANEL).predict(Panel(np.ones((4, 2)), [0, 4], np.arange(4.0), time_unit="h"), [1.0]),
        ValueError,
        "has 2 channel",
    ),
    "no times after times": (
        lambda: fitted(PANEL).predict(Panel(np.ones((4, 1)), [0, 4]), [1.0]),
        ValueError,
        "without times|with times",
    ),
    "no unit after a unit": (
        lambda: fitted(PANEL).predict(Panel(np.ones((4, 1)), [0, 4], np.arange(4.0)), [1.0]),
        ValueError,
        "pass time_unit",
    ),
    "level 1 of a panel": (
        lambda: fitted(PANEL).predict_quantiles(PANEL, [1.0], [1.0]),
        ValueError,
        "alpha must hold levels",
    ),
}


@pytest.mark.parametrize("case", PREDICTIONS.values(), ids=PREDICTIONS)
def test_predict(case):
    act, error, message = case
    with pytest.raises(error, match=message):
        act()


GOOD = {
    "length 1": Y.iloc[:1],
    "length 2": Y.iloc[:2],
    "shorter than the season": Y.iloc[:5],
    "constant": Y * 0 + 3.0,
    "zeros": Y * 0.0,
    "integers": pd.Series(np.arange(LENGTH)),
    "huge": Y * 1e12,
    "tiny": Y * 1e-12,
    "beyond all squares": Y * 1e200,
    "below all squares": Y * 1e-200,
    "missing at both ends": Y.where((Y.index > 2) & (Y.index < 26)),
    "one value only": Y.where(Y.index == 7),
    "nothing but the last": Y.where(Y.index == LENGTH - 1),
    "an array": Y.to_numpy(),
    "gaps": Y.drop([3, 4, 9]),
    "times twice": Y.set_axis([0, *range(LENGTH - 1)]),
    "dates twice": Y.set_axis(DATES[:1].append(DATES[:-1])),
    "dates with gaps": Y.set_axis(DATES).drop(DATES[[3, 4, 9, 20]]),
    "truth values": Y > 5,
}


@pytest.mark.parametrize("y", GOOD.values(), ids=GOOD)
@pytest.mark.parametrize("parameters", [{}, {"sp": 12, "transform": "auto", "lags": "auto"}], ids=str)
def test_what_looks_bad_and_is_not(y, parameters):
    found = np.asarray(forecaster(**parameters).fit(y).predict([1, 2, 15]))
    assert np.isfinite(found).all()
    reach = np.nanmax(np.abs(np.asarray(y, dtype=float)))
    assert np.abs(found).max() <= 10 * reach + 1e-9


def test_there_are_more_than_forty_cases():
    assert len(PARAMETERS) + len(FITS) + len(PREDICTIONS) + 2 * len(GOOD) > 100


def test_missing_variables_are_no_obstacle():
    gaps = X.copy()
    gaps.iloc[[3, 31]] = np.nan
    for known in (gaps.iloc[:LENGTH], gaps.iloc[:LENGTH] * np.nan):
        found = fitted(X=known).predict([1, 2], X=gaps.iloc[LENGTH:])
        assert np.isfinite(found).all()
