"""sktime's tools for forecasters around ours: folds, searches, pipelines, choices and benchmarks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.preprocessing import StandardScaler
from sktime.benchmarking.forecasting import ForecastingBenchmark
from sktime.forecasting.compose import (
    ForecastingPipeline,
    MultiplexForecaster,
    TransformedTargetForecaster,
)
from sktime.forecasting.model_evaluation import evaluate
from sktime.forecasting.model_selection import ForecastingGridSearchCV
from sktime.forecasting.naive import NaiveForecaster
from sktime.forecasting.stream import UpdateRefitsEvery
from sktime.forecasting.trend import TrendForecaster
from sktime.performance_metrics.forecasting import MeanAbsoluteError
from sktime.performance_metrics.forecasting.probabilistic import PinballLoss
from sktime.split import ExpandingWindowSplitter, SlidingWindowSplitter
from sktime.transformations.series.adapt import TabularToSeriesAdaptor
from sktime.transformations.series.boxcox import LogTransformer

from tsssm import SSMFeaturesForecaster, SSMForecaster

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

SP, LENGTH = 6, 96
FH = [1, 2, 3]
NETWORK = {"max_steps": 2, "d_model": 8, "d_state": 4, "n_layers": 1, "random_state": 0, "accelerator": "cpu"}


def closed(**parameters):
    return SSMFeaturesForecaster(**{"sp": SP, "transform": "none", **parameters})


def trained(**parameters):
    return SSMForecaster(**{"sp": SP, **NETWORK, **parameters})


@pytest.fixture(params=[closed, trained], ids=["closed", "trained"])
def make(request):
    return request.param


def level(t):
    return 10 + 2 * np.sin(2 * np.pi * np.asarray(t) / SP)


def wave(noise=0.1):
    return pd.Series(level(np.arange(LENGTH)) + noise * np.random.default_rng(0).normal(size=LENGTH))


def test_a_network_takes_part():
    assert trained().fit(wave(), fh=FH).network_ is not None


@pytest.mark.parametrize(
    ("splitter", "strategy"),
    [(ExpandingWindowSplitter, "no-update_params"), (SlidingWindowSplitter, "refit")],
)
def test_evaluation_gives_the_scores_of_its_folds(make, splitter, strategy):
    window = {"initial_window": 84} if splitter is ExpandingWindowSplitter else {"window_length": 84}
    cv = splitter(fh=FH, step_length=6, **window)
    scores = [MeanAbsoluteError(), PinballLoss(alpha=[0.1, 0.9])]
    y = wave()
    found = evaluate(make(), cv, y, strategy=strategy, scoring=scores, error_score="raise")
    assert len(found) == 2 and (found["test_PinballLoss"] < 0.2).all()
    first = make().fit(y[:84], fh=FH)
    if strategy == "refit":
        start = 6 if splitter is SlidingWindowSplitter else 0
        second = make().fit(y[start:90], fh=FH)
    else:
        second = make().fit(y[:84], fh=FH).update(y[84:90], update_params=False)
    expected = [np.abs(first.predict() - y[84:87]).mean(), np.abs(second.predict() - y[90:93]).mean()]
    assert_allclose(found["test_MeanAbsoluteError"], expected, rtol=1e-5)


def test_grid_search_finds_the_season(make):
    cv = ExpandingWindowSplitter(fh=FH, initial_window=84, step_length=6)
    search = ForecastingGridSearchCV(make(), cv, {"sp": [1, SP]}, error_score="raise", backend=None)
    search.fit(wave(0.02), fh=FH)
    assert search.best_params_ == {"sp": SP}
    assert_allclose(search.predict(), level(LENGTH - 1 + np.array(FH)), atol=0.2)


def test_a_transformed_target_is_transformed_back(make):
    y = wave()
    logs = TransformedTargetForecaster([("log", LogTransformer()), ("forecast", make())])
    found = logs.fit(y, fh=FH).predict()
    assert_allclose(found, np.exp(make().fit(np.log(y), fh=FH).predict()), rtol=1e-9)
    low, high = logs.predict_interval(coverage=0.8).to_numpy().T
    assert (low < found).all() and (found < high).all()


def test_a_pipeline_hands_variables_through(make):
    X = pd.DataFrame({"x": 50 + 10 * np.random.default_rng(4).normal(size=LENGTH + 3)})
    y = wave(0.02) + 0.3 * X["x"].iloc[:LENGTH]
    scale = TabularToSeriesAdaptor(StandardScaler())
    pipe = ForecastingPipeline([("scale", scale), ("forecast", make())])
    found = pipe.fit(y, X=X.iloc[:LENGTH], fh=FH).predict(X=X.iloc[LENGTH:])
    truth = level(LENGTH - 1 + np.array(FH)) + 0.3 * X["x"].iloc[LENGTH:]
    assert_allclose(found, truth, atol=0.3)
    scaled = StandardScaler().fit(X.iloc[:LENGTH])
    by_hand = pd.DataFrame(scaled.transform(X), columns=["x"])
    own = make().fit(y, X=by_hand.iloc[:LENGTH], fh=FH).predict(X=by_hand.iloc[LENGTH:])
    assert_allclose(found, own, rtol=1e-6)


def test_a_multiplexer_chooses(make):
    y = wave()
    choice = MultiplexForecaster([("naive", NaiveForecaster()), ("ours", make())], selected_forecaster="ours")
    assert_allclose(choice.fit(y, fh=FH).predict(), make().fit(y, fh=FH).predict(), rtol=1e-9)
    cv = ExpandingWindowSplitter(fh=FH, initial_window=90, step_length=6)
    options = {"selected_forecaster": ["naive", "ours"]}
    search = ForecastingGridSearchCV(choice, cv, options, error_score="raise", backend=None)
    assert search.fit(y, fh=FH).best_params_ == {"selected_forecaster": "ours"}


def test_updates_may_fit_anew(make):
    """Where the network is to learn from what has come, too."""
    y = wave()
    wrapped = UpdateRefitsEvery(make(), refit_interval=6).fit(y[:84], fh=FH)
    wrapped.update(y[84:90])
    assert_allclose(wrapped.predict(), make().fit(y[:90], fh=FH).predict(), rtol=1e-6)


def test_a_benchmark_puts_it_before_those_of_sktime(make, tmp_path):
    benchmark = ForecastingBenchmark()
    benchmark.add_estimator(NaiveForecaster(), "naive")
    benchmark.add_estimator(NaiveForecaster(sp=SP), "seasonal")
    benchmark.add_estimator(TrendForecaster(), "trend")
    benchmark.add_estimator(make(), "ours")
    cv = ExpandingWindowSplitter(fh=FH, initial_window=84, step_length=6)
    benchmark.add_task(wave, cv, [MeanAbsoluteError()])
    table = benchmark.run(str(tmp_path / "results.csv")).set_index("model_id")
    scores = table["MeanAbsoluteError_mean"].astype(float)
    assert scores["ours"] < min(scores["seasonal"], 0.25)
    assert min(scores["naive"], scores["trend"]) > 1
