"""The whole check suite of sktime on the forecasters."""

from __future__ import annotations

import pytest
from sktime.utils.estimator_checks import check_estimator, parametrize_with_checks

from tsssm import SSMFeaturesForecaster

by_sktime = parametrize_with_checks([SSMFeaturesForecaster], obj_varname="cls", check_varname="name")


# The suite provokes warnings, and looks for those that it expects itself.
@pytest.mark.filterwarnings("ignore")
@by_sktime
def test_sktime(cls, name):
    results = check_estimator(cls, tests_to_run=name, raise_exceptions=True, verbose=False)
    assert results and set(results.values()) == {"PASSED"}


def test_the_suite_is_there():
    assert len(by_sktime.args[1]) >= 60
