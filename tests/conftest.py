"""Small problems and tiny networks that several test modules share."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Arrays = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def tiny() -> dict[str, Any]:
    """Parameters of an estimator that fits in a fraction of a second."""
    network = {"backbone": "s4d", "n_layers": 1, "d_model": 8, "d_state": 4}
    return {**network, "n_members": 1, "n_features": 0, "max_epochs": 3, "random_state": 0}


@pytest.fixture
def labelled() -> Arrays:
    """X (24, 2, 12) and three classes that differ in level."""
    rng = np.random.default_rng(0)
    y = np.repeat(["high", "low", "mid"], 8)
    level = {"high": 1.5, "low": -1.5, "mid": 0.0}
    X = rng.normal(size=(24, 2, 12)) + np.array([level[label] for label in y])[:, None, None]
    return X, y


@pytest.fixture
def as_a_user(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python in a process of its own, in an empty folder and with no number of threads set."""

    def run(*arguments: Any, code: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert done.returncode == code, done.stderr
        return done

    return run


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many checks of the suites of scikit-learn and sktime each estimator has been through."""
    suites: dict[tuple[str, str], Counter[str]] = {}
    for outcome in ("passed", "xfailed", "skipped", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            found = re.search(
                r"test_conformance(?:_forecaster)?\.py::test_(scikit_learn|sktime)\[(\w+)", report.nodeid
            )
            if found:
                suites.setdefault((found[2], found[1]), Counter())[outcome] += 1
    if suites:
        terminalreporter.section("check suites")
    for (estimator, suite), counts in sorted(suites.items()):
        listed = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        terminalreporter.write_line(f"{estimator}, {suite.replace('_', '-')}: {listed}")
