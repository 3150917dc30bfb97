"""What every fetcher and generator returns, and the checks of the arguments that they share."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tsssm.datasets._registry import card

StrArray = npt.NDArray[np.str_]


def result(
    name: str,
    data: Any,
    target: Any,
    *,
    return_X_y: bool,
    feature_names: Sequence[str],
    groups: npt.NDArray[Any] | None = None,
    parts: StrArray | None = None,
    part: str = "all",
    of_series: Mapping[str, Any] | None = None,
    **more: Any,
) -> Any:
    """Return ``(data, target)`` or a Bunch, of all series or those of one part.

    ``parts`` has the part of each series, ``of_series`` further fields with an entry for each; ``more`` are
    fields that are the same for every part. The card ``name`` becomes ``DESCR``.
    """
    fields = {"data": data, "target": target, "groups": groups, **(of_series or {})}
    if parts is not None:
        fields["part"] = parts
        if part != "all":
            chosen = np.flatnonzero(parts == part)
            fields = {key: _rows(value, chosen) for key, value in fields.items()}
    if return_X_y:
        return fields["data"], fields["target"]
    from sklearn.utils import Bunch

    return Bunch(**fields, feature_names=list(feature_names), DESCR=card(name), **more)


def _rows(values: Any, rows: npt.NDArray[np.int64]) -> Any:
    if values is None:
        return None
    return values.iloc[rows] if hasattr(values, "iloc") else values[rows]


def checked_part(part: str, known: Sequence[str] = ("train", "test")) -> str:
    """Check the argument ``part``: "all" or one of those that the data set has."""
    if part not in ("all", *known):
        names = ", ".join(f'"{name}"' for name in ("all", *known))
        raise ValueError(f"part must be one of {names}; got {part!r}.")
    return part


def checked_choice(value: Any, name: str, known: Sequence[str]) -> str:
    """Check an argument that is one of several names."""
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}; got {value!r}.")
    return value


def checked_count(value: Any, name: str, minimum: int = 1) -> int:
    """Check an argument that is a whole number of at least ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < minimum:
        raise ValueError(f"{name} must be a whole number of at least {minimum}, got {value!r}.")
    return int(value)


def checked_number(
    value: Any, name: str, low: float, high: float = np.inf, *, open_low: bool = False
) -> float:
    """Check an argument that is a finite number in [low, high], or in (low, high] with ``open_low``."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    if not real or value > high or value < low or (open_low and value == low):
        bounds = f"{'above' if open_low else 'of at least'} {low:g}"
        bounds += "" if high == np.inf else f" and at most {high:g}"
        raise ValueError(f"{name} must be a finite number {bounds}, got {value!r}.")
    return float(value)


def generator(random_state: Any) -> np.random.Generator:
    """Return the random numbers of a generator's argument ``random_state``."""
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31))
    try:
        return np.random.default_rng(random_state)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"random_state must be None, a whole number of at least 0, a Generator or a RandomState; got "
            f"{random_state!r}."
        ) from error
