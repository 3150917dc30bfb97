"""The check suites of scikit-learn and sktime, whole, on every public estimator."""

from __future__ import annotations

import pytest
import sktime
from estimators_under_test import ESTIMATORS, EXPECTED_FAILURES, expected_failures
from packaging.version import Version
from sklearn.utils.estimator_checks import parametrize_with_checks as sklearn_checks
from sktime.utils.estimator_checks import check_estimator
from sktime.utils.estimator_checks import parametrize_with_checks as sktime_checks

CLASSES = [type(estimator) for estimator in ESTIMATORS]

by_scikit_learn = sklearn_checks(ESTIMATORS, expected_failed_checks=expected_failures)
# A generator in scikit-learn 1.6; a list can also be counted.
sklearn_cases = list(by_scikit_learn.args[1])
by_scikit_learn = pytest.mark.parametrize(by_scikit_learn.args[0], sklearn_cases, **by_scikit_learn.kwargs)
by_sktime = sktime_checks(CLASSES, obj_varname="cls", check_varname="name")

# Asked of a regressor that takes several targets, it wants one that does not. Mended before 1.2.
WRONG_IN_OLD_SKTIME = "test_multioutput"


# The suites provoke warnings, and look for those that they expect themselves.
@pytest.mark.filterwarnings("ignore")
@by_scikit_learn
def test_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore")
@by_sktime
def test_sktime(cls, name):
    old = Version(sktime.__version__) < Version("1.2")
    if old and name == WRONG_IN_OLD_SKTIME and cls.get_class_tag("object_type") == "regressor":
        pytest.xfail("sktime before 1.2 confuses what the tag capability:multioutput says")
    results = check_estimator(cls, tests_to_run=name, raise_exceptions=True, verbose=False)
    if old and not results:
        pytest.skip("this sktime has no scenario to check it with")
    assert results and set(results.values()) == {"PASSED"}


def test_both_suites_are_there_with_few_expected_failures():
    assert set(EXPECTED_FAILURES) <= set(CLASSES)
    for estimator in ESTIMATORS:
        cls, failures = type(estimator), expected_failures(estimator)
        # Those that are expected to fail are wrapped by pytest.param.
        in_sklearn = sum(type(getattr(p, "values", p)[0]) is cls for p in sklearn_cases)
        in_sktime = sum(pair[0] is cls for pair in by_sktime.args[1])
        assert len(failures) <= 1 and all(failures.values())
        assert in_sklearn >= 40 and in_sktime >= 30
