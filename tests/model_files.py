"""Small models whose files stay under ``tests/files``: whatever comes after must read them, and say the same.

    PYTHONPATH=tests python tests/model_files.py tests/files/format-2

writes them anew, which is for a new version of the format alone; ``test_model_files.py`` reads them all.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsssm import (
    Panel,
    SSMClassifier,
    SSMFeatures,
    SSMFeaturesClassifier,
    SSMFeaturesForecaster,
    SSMFeaturesRegressor,
    SSMForecaster,
    SSMRegressor,
    SSMSequenceClassifier,
    SSMSequenceRegressor,
)
from tsssm.estimators import _blending, _closed_form
from tsssm.training import _dense

NETWORK: dict[str, Any] = {"n_layers": 1, "d_model": 4, "d_state": 4, "max_steps": 3, "random_state": 0}
ALONE: dict[str, Any] = {**NETWORK, "n_members": 1, "n_features": 0}
FEATURES: dict[str, Any] = {"n_features": 64, "n_scales": 2, "random_state": 0}


def regular(seed: int = 0) -> np.ndarray:
    """24 series of two channels (24, 2, 20)."""
    return np.random.default_rng(seed).normal(size=(24, 2, 20)) + np.arange(24)[:, None, None] % 2


def irregular(seed: int = 0) -> Panel:
    """24 series at times of their own in hours, with names, ids and missing values."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(8, 16, size=24)
    total = int(lengths.sum())
    values = rng.normal(size=(total, 2))
    values[rng.random((total, 2)) < 0.2] = np.nan
    values[:, 0] = np.where(np.isnan(values).all(axis=1), 0.0, values[:, 0])
    times = np.concatenate([np.cumsum(rng.exponential(size=length)) for length in lengths])
    return Panel(
        values, np.cumsum([0, *lengths]), times, ("HR", "Temp"), ids=np.arange(100, 124), time_unit="h"
    )


def chart(seed: int = 0, missing: float = 0.75) -> Panel:
    """24 clinical charts of five variables and a constant."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(24 * 20, 6)) * [1, 5, 2, 1, 3, 1]
    values[rng.random(values.shape) < missing] = np.nan
    values[:, 5] = np.repeat(rng.normal(size=24), 20)
    times = np.tile(np.arange(20.0), 24) + rng.uniform(0, 0.5, size=480)
    return Panel(values, np.arange(25) * 20, times, tuple("abcdef"), time_unit="h")


def codes(seed: int = 0) -> np.ndarray:
    """24 series of whole numbers, which are names, and of a level (24, 2, 20)."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.choice([1.0, 4.0, 9.0], size=(24, 20)), rng.normal(size=(24, 20))], axis=1)


def months(seed: int = 0) -> pd.Series:
    """A seasonal series of 72 months."""
    rng = np.random.default_rng(seed)
    index = pd.period_range("2015-01", periods=72, freq="M")
    season = np.sin(np.arange(72) * np.pi / 6)
    return pd.Series(10 + season + 0.05 * np.arange(72) + 0.1 * rng.normal(size=72), index=index)


def warmth(start: str = "2015-01", length: int = 72) -> pd.DataFrame:
    """A variable of so many months."""
    index = pd.period_range(start, periods=length, freq="M")
    return pd.DataFrame({"warmth": np.cos(np.arange(length) ** 2.0)}, index=index)


Y = np.where(np.arange(24) % 2, "ill", "well")
NUMBERS = np.arange(24.0) % 7
ALONG = np.tile(np.arange(20) // 10, (24, 1))

Fit = Callable[[], Any]
Ask = Callable[[Any], Any]

#: Name: how a model is fitted, and what is asked of it.
MODELS: dict[str, tuple[Fit, Ask]] = {
    "classifier": (
        lambda: SSMClassifier(**NETWORK, n_members=2, n_features=384).fit(regular(), Y),
        lambda model: model.predict_proba(regular(1)),
    ),
    "regressor": (
        lambda: SSMRegressor("lssl", **ALONE, loss="gaussian").fit(irregular(), NUMBERS),
        lambda model: np.stack(model.predict(irregular(1), return_std=True)),
    ),
    "liquid": (
        lambda: SSMClassifier("liquid-s4", **ALONE, bidirectional=False).fit(irregular(), Y),
        lambda model: model.predict_proba(irregular(1)),
    ),
    "charts": (
        lambda: SSMClassifier(**NETWORK, n_members=2).fit(chart(missing=0.6), Y),
        lambda model: model.predict_proba(chart(1)),
    ),
    "categories": (
        lambda: SSMClassifier(**NETWORK, n_members=1, categorical=[0]).fit(codes(), Y),
        lambda model: model.predict_proba(codes(1)),
    ),
    "features": (
        lambda: SSMFeatures(**FEATURES).fit(irregular()),
        lambda model: model.transform(irregular(1)),
    ),
    "features_classifier": (
        lambda: SSMFeaturesClassifier(**FEATURES).fit(regular(), Y),
        lambda model: model.predict_proba(regular(1)),
    ),
    "features_regressor": (
        lambda: SSMFeaturesRegressor(**FEATURES).fit(irregular(), NUMBERS),
        lambda model: model.predict_interval(irregular(1)),
    ),
    "sequence_classifier": (
        lambda: SSMSequenceClassifier(**NETWORK, lookahead=2).fit(regular(), ALONG),
        lambda model: model.predict_proba(regular(1)),
    ),
    "sequence_regressor": (
        lambda: SSMSequenceRegressor(**NETWORK).fit(regular(), ALONG.astype(float)),
        lambda model: model.predict(regular(1)),
    ),
    "features_forecaster": (
        lambda: SSMFeaturesForecaster().fit(months(), fh=range(1, 7)),
        lambda model: model.predict_interval(coverage=0.8).to_numpy(),
    ),
    "covariates_forecaster": (
        lambda: SSMFeaturesForecaster().fit(
            months() + 5 * warmth("2015-01", 72)["warmth"], warmth("2015-01", 72)
        ),
        lambda model: model.predict(fh=[1, 2, 3], X=warmth("2021-01", 3)).to_numpy(),
    ),
    "panel_forecaster": (
        lambda: SSMFeaturesForecaster(sp=1, lags=3).fit(irregular(), fh=3.0),
        lambda model: model.predict(irregular(1), [1.0, 2.5]).values,
    ),
    "forecaster": (
        lambda: SSMForecaster(**{**SSMForecaster.get_test_params()[0], "random_state": 0}).fit(
            months(), fh=range(1, 7)
        ),
        lambda model: model.predict().to_numpy(),
    ),
}


def main(folder: Path) -> None:
    """Fit the models, and write their files and what they answer."""
    folder.mkdir(parents=True, exist_ok=True)
    # Dense networks of charts would be most of all files.
    _dense._UNITS = _blending.DENSE_MEMBERS = _closed_form.DENSE_MEMBERS = 2
    answers = {}
    for name, (fit, ask) in MODELS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = fit()
            model.save(folder / f"{name}.safetensors")
            answers[name] = np.asarray(ask(model), dtype=np.float64)
    np.savez_compressed(folder / "answers.npz", **answers)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
