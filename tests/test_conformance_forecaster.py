"""The whole check suite of sktime on the forecasters."""

from __future__ import annotations

import pytest
from sktime.utils.estimator_checks import check_estimator, parametrize_with_checks

from tsssm import SSMFeaturesForecaster

CASES = parametrize_with_checks([SSMFeaturesForecaster], obj_varname="cls", check_varname="name").args[1]

# Half of the time of the suite goes into these few, which walk through every index and horizon.
LONG = {
    "test_update_predict_predicted_index",
    "test_predict_time_index",
    "test_predict_time_index_with_X",
    "test_predict_interval",
}


# The suite provokes warnings, and looks for those that it expects itself.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("cls", "name"),
    [
        pytest.param(cls, name, id=f"{cls.__name__}-{name}", marks=[pytest.mark.slow] * (name in LONG))
        for cls, name in CASES
    ],
)
def test_sktime(cls, name):
    results = check_estimator(cls, tests_to_run=name, raise_exceptions=True, verbose=False)
    assert results and set(results.values()) == {"PASSED"}


def test_the_suite_is_there():
    assert len(CASES) >= 50 and LONG <= {name for _, name in CASES}
