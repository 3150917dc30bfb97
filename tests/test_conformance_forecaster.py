"""The whole check suite of sktime on the forecasters."""

from __future__ import annotations

import pytest
from sktime.utils.estimator_checks import check_estimator, parametrize_with_checks

from tsssm import SSMFeaturesForecaster, SSMForecaster

FORECASTERS = [SSMFeaturesForecaster, SSMForecaster]
CASES = parametrize_with_checks(FORECASTERS, obj_varname="cls", check_varname="name").args[1]

# Half of the time of the suite goes into these few, which walk through every index and horizon.
LONG = {
    "test_update_predict_predicted_index",
    "test_predict_time_index",
    "test_predict_time_index_with_X",
    "test_predict_interval",
}
# Of one that trains, those are run at once that fit once or not at all.
SHORT = {
    "test_class_tags_match_mro",
    "test_clone",
    "test_constructor",
    "test_get_params",
    "test_get_test_params_coverage",
    "test_inheritance",
    "test_pretrain_fit_predict_workflow",
    "test_raises_not_fitted_error",
    "test_random_tags",
    "test_repr",
    "test_set_params",
    "test_valid_object_class_tags",
    "test_valid_object_tags",
}


def is_long(cls, name):
    return name in LONG if cls is SSMFeaturesForecaster else name not in SHORT


# The suite provokes warnings, and looks for those that it expects itself.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("cls", "name"),
    [
        pytest.param(cls, name, id=f"{cls.__name__}-{name}", marks=[pytest.mark.slow] * is_long(cls, name))
        for cls, name in CASES
    ],
)
def test_sktime(cls, name):
    results = check_estimator(cls, tests_to_run=name, raise_exceptions=True, verbose=False)
    assert results and set(results.values()) == {"PASSED"}


def test_the_suite_is_there():
    for forecaster in FORECASTERS:
        names = {name for cls, name in CASES if cls is forecaster}
        assert len(names) >= 50 and names >= LONG and len(names & SHORT) >= 6
