"""What a network reads of a panel, and what "auto" stands for: ordinary series and charts differ in both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tsssm.encoding import ChartEncoder, PanelEncoder, is_chart
from tsssm.panel import Panel
from tsssm.training import TrainingOptions, VariableDropout

# Batches of an epoch of few series and of many, and their sizes.
_BATCHES, _BATCHES_OF_MANY, _LEAST_BATCH, _LARGEST_BATCH = 10, 100, 8, 64
# Samples in a step, at most. Batches of a third took half of the time for 800 ECGs of half a minute, with the
# same score (examples/experiments/cinc2017.py, one fold).
STEP_SAMPLES = 65_536
# Networks overfit small sets within 150 steps; 600 change nothing in what a committee says of others.
_STEPS, _STEPS_OF_A_MEMBER = 600, 200


class Recipe(NamedTuple):
    """Parameters of a network and of its training where the user has named none.

    ``largest_batch`` is the batch size of "auto" for some hundred series; thousands may have up to 64.
    """

    n_layers: int
    dropout: float
    pooling: str
    weight_decay: float
    label_smoothing: float
    largest_batch: int


_OF_SERIES = Recipe(4, 0.1, "mean", 0.01, 0.1, 64)
# Few stays, many variables, and little in each of them that tells the outcome. Chosen on 3,200 training stays
# of PhysioNet 2012 by cross-validation (examples/experiments/physionet2012.py).
_OF_CHARTS = Recipe(1, 0.5, "last", 3.0, 0.0, 32)
# Of a chart, each variable is left out as often.
_DROPPED = 0.2


def fitted_encoder(
    panel: Panel, time_scale: Any, scale: str, categorical: Sequence[str | int] | None = None, *, whole: bool
) -> PanelEncoder:
    """Return a fitted encoder for the training panel.

    Charts without categories have their own where networks see ``whole`` series; a network that streams
    reads every sample.
    """
    encoder = PanelEncoder(time_scale, scale, categorical or ()).fit(panel)
    if whole and not categorical and encoder.missing and is_chart(panel):
        return ChartEncoder(time_scale).fit(panel)
    return encoder


def recipe_of(encoder: PanelEncoder, parameters: Any) -> Recipe:
    """Return the parameters of an estimator, with numbers and names in place of "auto"."""
    recipe = _OF_CHARTS if isinstance(encoder, ChartEncoder) else _OF_SERIES
    names = ("n_layers", "dropout", "pooling", "weight_decay", "label_smoothing")
    named: dict[str, Any] = {name: getattr(parameters, name, "auto") for name in names}
    return recipe._replace(**{name: value for name, value in named.items() if value != "auto"})


def dropout_of(encoder: PanelEncoder) -> VariableDropout | None:
    """Return what is left out of the inputs in training: now and then a variable of a chart."""
    if not isinstance(encoder, ChartEncoder):
        return None
    return VariableDropout(encoder.static.n_outputs, len(encoder.channels), _DROPPED)


def training_options(parameters: Any, seed: int, **own: Any) -> TrainingOptions:
    """Return the options of a run, from the parameters of the same name that all trained estimators have.

    ``own`` are those that depend on the data or on the kind of estimator.

    Raises
    ------
    ValueError
        If a fit is to be resumed, but has no ``random_state``.
    """
    resumes = parameters.checkpoint_dir is not None or parameters.resume_from is not None
    if resumes and parameters.random_state is None:
        raise ValueError(
            "checkpoint_dir and resume_from need a random_state, so that a resumed fit draws the same random "
            "numbers; got random_state=None."
        )
    # The parameters that a fit depends on, in words; a checkpoint has to agree with them.
    free = ("checkpoint_dir", "resume_from", "verbose", "callbacks", "trainer_kwargs", "random_state")
    given = parameters.get_params(deep=False)
    depends = {name: repr(value) for name, value in given.items() if name not in free}
    return TrainingOptions(
        max_epochs=parameters.max_epochs,
        learning_rate=parameters.learning_rate,
        ssm_learning_rate=parameters.ssm_learning_rate,
        patience=parameters.n_iter_no_change,
        accelerator=parameters.accelerator,
        devices=parameters.devices,
        precision=parameters.precision,
        callbacks=parameters.callbacks or (),
        trainer_kwargs=parameters.trainer_kwargs,
        checkpoint_dir=parameters.checkpoint_dir,
        resume_from=parameters.resume_from,
        identity={"estimator": type(parameters).__name__, **depends},
        seed=seed,
        verbose=parameters.verbose,
        **own,
    )


def auto_batch_size(n: int, largest: int = _LARGEST_BATCH) -> int:
    """Series, or crops of them, in a step of training with n of them."""
    return int(np.clip(n // _BATCHES, _LEAST_BATCH, largest))


def batch_size_of(recipe: Recipe, batch_size: int | str, n: int, length: float) -> int:
    """Return the parameter of this name, with a number for "auto", for n series of a mean ``length``."""
    if not isinstance(batch_size, str):
        return batch_size
    few = auto_batch_size(n, recipe.largest_batch)
    many = max(few, min(n // _BATCHES_OF_MANY, _LARGEST_BATCH))
    return min(many, max(_LEAST_BATCH, int(STEP_SAMPLES / length)))


def least_steps_of(n_members: int) -> int:
    """Return how many steps networks are trained for at least, unless the user says otherwise."""
    return _STEPS if n_members == 1 else _STEPS_OF_A_MEMBER
