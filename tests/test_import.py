"""``import tsssm`` must cost nothing, and fit alone may load Lightning."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import tsssm

HEAVY = ("lightning", "numba", "pandas", "sklearn", "sktime", "torch")


def loaded_after(code: str) -> tuple[set[str], float]:
    """Heavy packages in ``sys.modules`` after ``code`` ran in a fresh interpreter, and its seconds."""
    script = (
        f"import sys, time; start = time.perf_counter(); {code}; took = time.perf_counter() - start;"
        f"import json; print(json.dumps([[m for m in {HEAVY!r} if m in sys.modules], took]))"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules, seconds = json.loads(output.stdout.splitlines()[-1])
    return set(modules), seconds


def test_importing_the_package_loads_nothing_heavy():
    # The best of three: another process may be using the machine.
    results = [loaded_after("import tsssm") for _ in range(3)]
    assert [modules for modules, _ in results] == [set()] * 3
    assert min(seconds for _, seconds in results) < 0.3


def test_importing_an_estimator_does_not_load_lightning():
    modules, _ = loaded_after("from tsssm import SSMClassifier, SSMRegressor")
    assert modules >= {"sklearn", "sktime", "torch"} and "lightning" not in modules


def test_importing_a_panel_loads_neither_torch_nor_sktime():
    assert loaded_after("from tsssm import Panel")[0] == {"pandas"}


def test_every_public_name_is_there():
    for name in (*tsssm.__all__, *tsssm._SUBMODULES):
        assert getattr(tsssm, name) is not None
        assert name in dir(tsssm)
    with pytest.raises(AttributeError, match="no attribute 'SSMNothing'"):
        tsssm.SSMNothing  # noqa: B018
