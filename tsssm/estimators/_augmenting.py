"""The parameter ``augment``: names of the ways in which training series are changed, and what they take."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tsssm.encoding import ChartEncoder, PanelEncoder
from tsssm.estimators._checks import FloatArray
from tsssm.estimators._parameters import NOT_NEGATIVE, SHARE, Rule, check_parameters, is_pair
from tsssm.training import Augmentation

_SPEEDS = Rule(
    (tuple, list),
    lambda value: is_pair(value) and 0 < value[0] <= value[1] < np.inf,
    "a pair of positive finite numbers, the smaller first",
)

_N_SPEEDS = 8  # enough for the mean and the spread of rates

#: What each way takes.
WAYS: dict[str, Rule] = {
    "crop": Rule((Real,), lambda value: 0 < value <= 1, "a number in (0, 1]"),
    "drop_samples": SHARE,
    "drop_channels": SHARE,
    "speed": _SPEEDS,
    "rate": _SPEEDS,
    "gain": NOT_NEGATIVE,
    "noise": NOT_NEGATIVE,
}


def check_augment(augment: Any, *, numbers: bool) -> None:
    """Check the parameter ``augment``; targets are ``numbers`` or classes.

    Raises
    ------
    TypeError, ValueError
        Naming what is wrong, its value and what is allowed.
    """
    if augment is None:
        return
    if not isinstance(augment, Mapping):
        raise TypeError(
            f"augment must be None or a dict of {', '.join(map(repr, WAYS))}; got {augment!r} of type "
            f"{type(augment).__name__}."
        )
    for name, value in augment.items():
        if name not in WAYS:
            raise ValueError(f"augment must have keys among {', '.join(map(repr, WAYS))}; got {name!r}.")
        place = f"augment[{name!r}]"
        check_parameters({place: value}, {place: WAYS[name]})
    if "rate" in augment and not numbers:
        raise ValueError("augment['rate'] changes targets, and those are classes here: use 'speed'.")
    if "rate" in augment and "speed" in augment:
        raise ValueError(
            "augment must have 'speed', which keeps targets, or 'rate', which changes them; got both."
        )


def augmentation_of(augment: Mapping[str, Any], encoder: PanelEncoder, origin: Tensor | None) -> Augmentation:
    """Return what is done to the series that an encoder gives; ``origin`` is that of `Augmentation`.

    Raises
    ------
    ValueError
        For charts.
    """
    if isinstance(encoder, ChartEncoder):
        raise ValueError(
            "augment must be None for charts, whose variables are measured at times of their own; networks "
            "of charts leave variables out by themselves."
        )
    ways = dict(augment)
    rate = ways.pop("rate", None)
    low, high = rate or ways.pop("speed", (1.0, 1.0))
    return Augmentation(
        len(encoder.numeric),
        encoder.missing,
        origin if rate else None,
        speed=(float(low), float(high)),
        **ways,
    )


def targets_in_training(
    augment: Mapping[str, Any] | None, y: npt.NDArray[Any], weight: FloatArray
) -> tuple[npt.NDArray[Any], FloatArray]:
    """Return targets and weights of all that a network is trained on: rates are those of many speeds."""
    if not augment or "rate" not in augment:
        return y, weight
    low, high = augment["rate"]
    speeds = np.geomspace(low, high, _N_SPEEDS)
    return np.concatenate([y * speed for speed in speeds]), np.tile(weight, _N_SPEEDS)
