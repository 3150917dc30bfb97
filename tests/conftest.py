"""Small problems and tiny networks that several test modules share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

Arrays = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def tiny() -> dict[str, Any]:
    """Parameters of an estimator that fits in a fraction of a second."""
    return {"backbone": "s4d", "n_layers": 1, "d_model": 8, "d_state": 4, "max_epochs": 3, "random_state": 0}


@pytest.fixture
def labelled() -> Arrays:
    """X (24, 2, 12) and three classes that differ in level."""
    rng = np.random.default_rng(0)
    y = np.repeat(["high", "low", "mid"], 8)
    level = {"high": 1.5, "low": -1.5, "mid": 0.0}
    X = rng.normal(size=(24, 2, 12)) + np.array([level[label] for label in y])[:, None, None]
    return X, y
