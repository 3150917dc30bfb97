"""``import tsssm`` must cost nothing, and fit alone may load Lightning."""

from __future__ import annotations

import subprocess
import sys

import pytest

import tsssm


def loaded_after(code: str) -> set[str]:
    """Packages outside the standard library in ``sys.modules`` after ``code`` ran in a fresh interpreter."""
    script = f"import sys; before = set(sys.modules); {code}; print(*(set(sys.modules) - before))"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    packages = {module.partition(".")[0] for module in output.stdout.splitlines()[-1].split()}
    return {package for package in packages - sys.stdlib_module_names if package.isidentifier()}


def test_importing_the_package_loads_nothing_else():
    assert loaded_after("import tsssm") == {"tsssm"}


def test_importing_an_estimator_does_not_load_lightning():
    loaded = loaded_after("from tsssm import SSMClassifier, SSMRegressor")
    assert loaded >= {"sklearn", "sktime", "torch"} and not loaded & {"lightning", "numba", "triton"}


def test_importing_a_panel_loads_neither_torch_nor_sktime():
    loaded = loaded_after("from tsssm import Panel")
    assert "pandas" in loaded and not loaded & {"lightning", "numba", "sklearn", "sktime", "torch"}


def test_every_public_name_is_there():
    for name in (*tsssm.__all__, *tsssm._SUBMODULES):
        assert getattr(tsssm, name) is not None
        assert name in dir(tsssm)
    with pytest.raises(AttributeError, match="no attribute 'SSMNothing'"):
        tsssm.SSMNothing  # noqa: B018
