"""What a network reads of a panel, and what "auto" stands for: ordinary series and charts differ in both."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tsssm.encoding import ChartEncoder, PanelEncoder, is_chart
from tsssm.panel import Panel

_LEAST_BATCH, _BATCHES = 8, 10
# Small sets are learned by heart within 150 steps; 600 change nothing in what a committee says of others.
_STEPS, _STEPS_OF_A_MEMBER = 600, 200


class Recipe(NamedTuple):
    """Parameters of a network and of its training where the user has named none.

    ``epochs`` is None where `TrainingOptions` knows the number; ``largest_batch`` is that of "auto".
    """

    n_layers: int
    dropout: float
    pooling: str
    weight_decay: float
    epochs: int | None
    largest_batch: int


_OF_SERIES = Recipe(4, 0.1, "mean", 0.01, None, 64)
# Few stays, many variables, and little in each of them that tells the outcome. Chosen on 3,200 training stays
# of PhysioNet 2012 by cross-validation (examples/experiments/physionet2012.py).
_OF_CHARTS = Recipe(1, 0.5, "last", 3.0, 6, 32)


def fitted_encoder(panel: Panel, time_scale: Any, *, whole: bool) -> PanelEncoder:
    """Return a fitted encoder for the training panel.

    Charts have their own where networks see ``whole`` series; a network that streams reads every sample.
    """
    encoder = PanelEncoder(time_scale).fit(panel)
    if whole and encoder.missing and is_chart(panel):
        return ChartEncoder(time_scale).fit(panel)
    return encoder


def recipe_of(encoder: PanelEncoder, parameters: Any) -> Recipe:
    """Return the parameters of an estimator, with numbers and names in place of "auto"."""
    recipe = _OF_CHARTS if isinstance(encoder, ChartEncoder) else _OF_SERIES
    names = ("n_layers", "dropout", "pooling", "weight_decay")
    named = {name: getattr(parameters, name) for name in names}
    return recipe._replace(**{name: value for name, value in named.items() if value != "auto"})


def schedule_of(recipe: Recipe, parameters: Any, n: int, n_members: int) -> dict[str, Any]:
    """Return ``batch_size``, ``max_steps`` and ``least_steps`` of `TrainingOptions` for n series."""
    batch_size, max_steps = parameters.batch_size, parameters.max_steps
    if isinstance(batch_size, str):
        batch_size = int(np.clip(n // _BATCHES, _LEAST_BATCH, recipe.largest_batch))
    least_steps = _STEPS if n_members == 1 else _STEPS_OF_A_MEMBER
    if parameters.max_epochs is None and max_steps is None and recipe.epochs is not None:
        max_steps = max(least_steps, recipe.epochs * -(-n // batch_size))
    return {"batch_size": batch_size, "max_steps": max_steps, "least_steps": least_steps}
