"""What the parameters of `SSMForecaster` mean for its network and for the training of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

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
    if (forecaster.checkpoint_dir, forecaster.resume_from) != (
        None,
        None,
    ) and forecaster.random_state is None:
        raise ValueError(
            "checkpoint_dir and resume_from need a random_state, so that a fit that goes on draws what "
            "it would have drawn; got random_state=None."
        )
    free = ("checkpoint_dir", "resume_from", "verbose", "callbacks", "trainer_kwargs", "random_state")
    named = {k: repr(v) for k, v in forecaster.get_params(deep=False).items() if k not in free}
    unlimited = forecaster.max_epochs is None and forecaster.max_steps is None
    return TrainingOptions(
        max_epochs=forecaster.max_epochs,
        max_steps=_STEPS if unlimited else forecaster.max_steps,
        batch_size=min(_BATCH, n_windows)
        if isinstance(forecaster.batch_size, str)
        else forecaster.batch_size,
        learning_rate=forecaster.learning_rate,
        ssm_learning_rate=forecaster.ssm_learning_rate,
        weight_decay=forecaster.weight_decay,
        patience=forecaster.n_iter_no_change,
        accelerator=forecaster.accelerator,
        devices=forecaster.devices,
        precision=forecaster.precision,
        callbacks=forecaster.callbacks or (),
        trainer_kwargs=forecaster.trainer_kwargs,
        checkpoint_dir=forecaster.checkpoint_dir,
        resume_from=forecaster.resume_from,
        identity={"estimator": type(forecaster).__name__, **named},
        seed=seed,
        verbose=forecaster.verbose,
    )
