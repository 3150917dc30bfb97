"""Streams of forecasters: after every sample what an update and predict say of the same past."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sktime.forecasting.base import BaseForecaster

from tsssm import Panel, SSMFeaturesForecaster, SSMForecaster, Stream

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

LEVELS = [0.1, 0.5, 0.9]
TRAINED = {
    "max_steps": 30,
    "d_model": 8,
    "d_state": 4,
    "n_layers": 1,
    "learning_rate": 0.02,
    "random_state": 0,
}


def waves(length=140, seed=0):
    noise = np.random.default_rng(seed).normal(size=length)
    return 20 + 3 * np.sin(np.arange(length) * np.pi / 6 + seed) + 0.3 * noise


def closed(**parameters):
    return SSMFeaturesForecaster(sp=12, **parameters)


def trained(**parameters):
    return SSMForecaster(sp=12, **{**TRAINED, **parameters})


MAKERS = {"closed": closed, "trained": trained, "a distribution": lambda: trained(loss="student_t")}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_series_goes_on_as_by_updates(make):
    y = pd.Series(waves())
    forecaster = make().fit(y[:120], fh=range(1, 7))
    if isinstance(forecaster, SSMForecaster):
        assert forecaster.network_.weight < 1 and forecaster.network_.view.look_back < 120
        forecaster.network_ = forecaster.network_._replace(shares=np.ones(1))
    streams = Stream(forecaster), Stream(forecaster, quantiles=LEVELS)
    for t in range(120, 126):
        found, quantiles = (stream.push(y[t]) for stream in streams)
        forecaster.update(y[t : t + 1], update_params=False)
        assert found.shape == (6,) and quantiles.shape == (6, 3)
        assert_allclose(found, forecaster.predict(fh=range(1, 7)), rtol=1e-6)
        expected = forecaster.predict_quantiles(fh=range(1, 7), alpha=LEVELS)
        assert_allclose(quantiles, expected.to_numpy().reshape(6, 3), rtol=1e-6)
    assert streams[0].compiled == isinstance(forecaster, SSMFeaturesForecaster)


@pytest.mark.parametrize("make", [closed, trained])
def test_missing_samples_are_time_that_passes(make):
    rng = np.random.default_rng(0)
    y = pd.Series(np.cumsum(rng.normal(size=150)))
    forecaster = make().set_params(sp=1).fit(y[:120], fh=range(1, 7))
    stream, gone = Stream(forecaster), y[120:140].copy()
    gone.iloc[[2, 3, 9, 18, 19]] = np.nan
    found = stream.push_many(gone)
    for count in (4, 6, 10, 20):
        forecaster.update(gone[:count], update_params=False)
        assert_allclose(found[count - 1], forecaster.predict(fh=range(1, 7)), rtol=1e-5)


def test_targets_and_series_in_lockstep():
    frames = {i: pd.DataFrame({"a": waves(60, i), "b": waves(60, i + 5) * 2}) for i in range(3)}
    y = pd.concat(frames, names=["series", "time"])
    forecaster = closed().fit(y.groupby(level=0).head(50), fh=[1, 2, 3])
    stream = Stream(forecaster, n_series=3)
    samples = np.stack([frames[i].to_numpy()[50:] for i in range(3)], axis=1)
    found = stream.push_many(samples)
    assert found.shape == (10, 3, 3, 2)
    forecaster.update(y, update_params=False)
    assert_allclose(found[-1].reshape(9, 2), forecaster.predict(fh=[1, 2, 3]), rtol=1e-8)
    stream.reset()
    assert_allclose(stream.push(samples[0]), found[0])
    with pytest.raises(ValueError, match="n_series must be 3"):
        Stream(forecaster)


def test_a_panel_starts_before_the_first_sample():
    panel = Panel.from_arrays([waves(80, i) for i in range(4)])
    forecaster = closed().fit(panel, fh=5)
    stream, y = Stream(forecaster, n_series=2), np.stack([waves(40, 8), waves(40, 9)], axis=1)
    with pytest.raises(ValueError, match="first sample"):
        stream.push([np.nan, 1.0])
    found = stream.push_many(y[:, :, None])
    for length in (1, 5, 40):
        histories = Panel.from_arrays([y[:length, i].astype(np.float32) for i in range(2)])
        expected = forecaster.predict(histories, np.arange(1.0, 6.0)).values.reshape(2, 5)
        assert_allclose(found[length - 1], expected, rtol=1e-5)


def test_the_state_can_be_kept_and_what_happens_to_the_forecaster_has_no_effect():
    forecaster = closed().fit(pd.Series(waves(80)), fh=[1, 2, 3])
    stream = Stream(forecaster)
    stream.push(21.0)
    state, other = stream.state, stream.copy()
    first = stream.push_many([22.0, 19.0])[-1]
    forecaster.fit(pd.Series(waves(80, 3)), fh=[1])
    assert_allclose(other.push_many([22.0, 19.0])[-1], first, rtol=0)
    stream.state = state
    assert_allclose(stream.push_many([22.0, 19.0])[-1], first, rtol=0)


def test_a_model_of_other_series_streams_one():
    y = pd.concat({i: pd.DataFrame({"y": waves(90, i)}) for i in range(3)}, names=["series", "time"])
    if not hasattr(BaseForecaster, "_pretrain"):
        pytest.skip("sktime 1.0 came with pretrain")
    forecaster = closed().pretrain(y).fit(pd.Series(waves(30, 7)), fh=[1, 2])
    found = Stream(forecaster).push(20.0)
    forecaster.update(pd.Series([20.0], index=[30]), update_params=False)
    assert_allclose(found, forecaster.predict([1, 2]), rtol=1e-8)


X = pd.DataFrame({"x": np.random.default_rng(1).normal(size=140)})
REFUSED = {
    "not fitted": (lambda: Stream(closed()), Exception, "not been fitted"),
    "times": (
        lambda: Stream(closed().fit(Panel.from_arrays([waves(60)], [np.arange(60.0)]), fh=3.0)),
        ValueError,
        "fitted to series with times",
    ),
    "variables of a network": (
        lambda: Stream(trained().fit(pd.Series(waves()), X=X, fh=[1, 2, 3])),
        ValueError,
        "also reads X",
    ),
    "a time": (lambda: Stream(closed().fit(waves(60))).push(1.0, time=3.0), ValueError, "time must be None"),
    "infinity": (lambda: Stream(closed().fit(waves(60))).push(np.inf), ValueError, "must be finite"),
    "two values": (lambda: Stream(closed().fit(waves(60))).push([1.0, 2.0]), ValueError, "1 channel"),
    "text": (lambda: Stream(closed().fit(waves(60))).push("a"), TypeError, "real numbers"),
    "level 0": (lambda: Stream(closed().fit(waves(60)), quantiles=[0.0]), ValueError, "quantiles must hold"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_is_refused(case):
    act, error, message = case
    with pytest.raises(error, match=message):
        act()
