"""What the parameters of `SSMForecaster` mean for its network and for the training of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tsssm.estimators._recipes import training_options
from tsssm.forecasting import ForecastNetwork, Track, View, n_answers
from tsssm.training import TrainingOptions

_LOOK_BACK = (24, 512)
_STEPS = 600
_BATCH = 32
# Initial timescales, as a share of what is read and in 1 / grid step.
_SLOWEST, _FASTEST = 0.5, 0.5


def steps_back(forecaster: Any, tracks: Sequence[Track], horizon: int, season: int) -> int:
    """Steps of history that are read."""
    if not isinstance(forecaster.look_back, str):
        return int(forecaster.look_back)
    low, high = _LOOK_BACK
    half = int(np.median([len(track.y) for track in tracks])) // 2
    return max(2, min(max(low, 2 * season, 3 * horizon), high, half))


def new_network(forecaster: Any, view: View) -> ForecastNetwork:
    """A network that has not learned anything yet."""
    levels = forecaster.quantiles if forecaster.loss == "quantile" else ()
    return ForecastNetwork(
        view.d_in,
        view.d_ahead,
        n_answers(forecaster.loss, levels),
        horizon=view.horizon,
        season=view.season,
        backbone=forecaster.backbone,
        n_layers=forecaster.n_layers,
        d_model=forecaster.d_model,
        d_state=forecaster.d_state,
        bidirectional=False,
        dropout=forecaster.dropout,
        norm=forecaster.norm,
        discretization=forecaster.discretization,
        dt_min=_SLOWEST / view.look_back,
        dt_max=_FASTEST,
    )


def options_of(forecaster: Any, n_windows: int, seed: int) -> TrainingOptions:
    """Options of a run on so many windows."""
    unlimited = forecaster.max_epochs is None and forecaster.max_steps is None
    automatic = isinstance(forecaster.batch_size, str)
    return training_options(
        forecaster,
        seed,
        max_steps=_STEPS if unlimited else forecaster.max_steps,
        batch_size=min(_BATCH, n_windows) if automatic else forecaster.batch_size,
        weight_decay=forecaster.weight_decay,
    )
