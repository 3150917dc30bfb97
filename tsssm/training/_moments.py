"""The state of an optimiser, when it is loaded from a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def check_moments(state: Any, parameters: Sequence[Tensor]) -> None:
    """Raise unless this is a state of AdamW for these parameters; its fused step does not look at shapes.

    Numbers that are not finite are not checked: training recovers from them.

    Parameters
    ----------
    state : dict
        By the number of the parameter, as in the ``state`` of ``AdamW.state_dict()``.
    parameters : sequence of Tensor
        In the order of the optimiser.

    Raises
    ------
    ValueError
        Naming the parameter and what came.
    """
    if type(state) is not dict or not set(state) <= set(range(len(parameters))):
        raise ValueError(f"the state of the optimiser must be that of {len(parameters)} parameters.")
    for number, entry in state.items():
        shape = parameters[number].shape
        expected = {"step": torch.Size(), "exp_avg": shape, "exp_avg_sq": shape}
        fits = (
            type(entry) is dict
            and entry.keys() == expected.keys()
            and all(
                isinstance(value, Tensor) and value.shape == expected[name] and value.dtype == torch.float32
                for name, value in entry.items()
            )
        )
        if not fits:
            raise ValueError(
                f"the state of the optimiser for parameter {number} must be step, exp_avg and exp_avg_sq "
                f"of shape {tuple(shape)}."
            )
