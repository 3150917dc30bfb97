"""What the parameters of the estimators may be: one table, checked once at the start of ``fit``."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np

from tsssm.backbone import BACKBONES, NORMS, POOLINGS
from tsssm.encoding import SCALES
from tsssm.estimators._closed_form import LEAST_FEATURES
from tsssm.forecasting import LONGEST_SEASON, LOSSES, SCALINGS
from tsssm.training import RESERVED_TRAINER_KWARGS


class Rule(NamedTuple):
    """Types that a parameter may have, the condition on its value, and both in words."""

    types: tuple[type, ...]
    holds: Callable[[Any], bool]
    allowed: object


class _Listed:
    """Names in words, as they are when it is asked: layers may be added to `BACKBONES` from outside."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names

    def __str__(self) -> str:
        return f"one of {', '.join(map(repr, self._names))}"


def one_of(names: Collection[str]) -> Rule:
    """The rule of a parameter that names one of some variants."""
    return Rule((str,), lambda value: value in names, _Listed(names))


def _integer(low: int, high: int | None = None) -> Rule:
    if high is not None:
        return Rule((Integral,), lambda value: low <= value <= high, f"an integer from {low} to {high:,}")
    return Rule((Integral,), lambda value: value >= low, f"an integer of at least {low}")


def _or_auto(rule: Rule) -> Rule:
    return Rule(
        (*rule.types, str),
        lambda value: value == "auto" if isinstance(value, str) else rule.holds(value),
        f"'auto' or {rule.allowed}",
    )


def _optional(rule: Rule) -> Rule:
    return Rule(
        (*rule.types, type(None)), lambda value: value is None or rule.holds(value), f"None or {rule.allowed}"
    )


_FLAG = Rule((bool, np.bool_), lambda value: True, "True or False")
_POSITIVE = Rule((Real,), lambda value: 0 < value < np.inf, "a positive finite number")
#: Rules of sizes and shares.
NOT_NEGATIVE = Rule((Real,), lambda value: 0 <= value < np.inf, "a finite number of at least 0")
SHARE = Rule((Real,), lambda value: 0 <= value < 1, "a number in [0, 1)")

#: The rule of the levels of quantiles.
LEVELS = Rule(
    (tuple, list, np.ndarray),
    lambda value: (
        all(isinstance(level, Real) and 0 < float(level) < 1 for level in value)
        and all(low < high for low, high in zip(value, value[1:], strict=False))
        and 0.5 in value
    ),
    "a sequence of increasing numbers in (0, 1) with 0.5 among them",
)


def is_pair(value: Any) -> bool:
    """Whether a value is a pair of numbers, such as a shortest and a longest timescale."""
    return (
        isinstance(value, (tuple, list))
        and len(value) == 2
        and all(isinstance(number, Real) and not isinstance(number, bool) for number in value)
    )


def _are_timescales(value: Any) -> bool:
    if isinstance(value, str):
        return value == "auto"
    pairs = [value] if is_pair(value) else value
    return len(pairs) > 0 and all(is_pair(pair) and 0 < pair[0] <= pair[1] < np.inf for pair in pairs)


def steps_of(timescales: Any, unit: float, n_layers: int) -> tuple[Any, Any]:
    """Smallest and largest initial Delta, in 1 / ``unit``, of all layers or, in tuples, of each.

    Raises
    ------
    ValueError
        If there are several pairs of timescales, and not one per layer.
    """
    if is_pair(timescales):
        shortest, longest = timescales
        return unit / longest, unit / shortest
    if len(timescales) != n_layers:
        raise ValueError(
            f"timescales must be 'auto', one pair, or one pair for each of n_layers={n_layers} layers; got "
            f"{len(timescales)} pairs."
        )
    slowest, fastest = zip(
        *((unit / longest, unit / shortest) for shortest, longest in timescales), strict=True
    )
    return slowest, fastest


#: The rule of what a channel of ``fit`` is that later series lack.
MISSING_CHANNELS = one_of(("error", "nan"))

_PATH = Rule((str, os.PathLike, type(None)), lambda value: True, "None or a path")

RULES: dict[str, Rule] = {
    "backbone": one_of(BACKBONES),
    "n_members": _or_auto(_integer(1)),
    "n_features": _or_auto(
        Rule(
            (Integral,),
            lambda value: value == 0 or value >= LEAST_FEATURES,
            f"an integer 0 or of at least {LEAST_FEATURES}",
        )
    ),
    "n_layers": _or_auto(_integer(1)),
    "d_model": _integer(1),
    "d_state": _integer(1),
    "bidirectional": _FLAG,
    "dropout": _or_auto(SHARE),
    "norm": one_of(NORMS),
    "pooling": one_of(("auto", *POOLINGS)),
    "n_readouts": _integer(1),
    "timescales": Rule(
        (str, tuple, list),
        _are_timescales,
        "'auto', a pair of positive finite numbers, the smaller first, or a sequence of such pairs",
    ),
    "max_epochs": _optional(_integer(1)),
    "max_steps": _optional(_integer(1)),
    "batch_size": _or_auto(_integer(1)),
    "learning_rate": _POSITIVE,
    "ssm_learning_rate": NOT_NEGATIVE,
    "weight_decay": _or_auto(NOT_NEGATIVE),
    "label_smoothing": _or_auto(SHARE),
    "early_stopping": _FLAG,
    "validation_fraction": Rule((Real,), lambda value: 0 < value < 1, "a number in (0, 1)"),
    "n_iter_no_change": _integer(1),
    "class_weight": Rule(
        (str, Mapping, list, type(None)),
        lambda value: value == "balanced" or not isinstance(value, str),
        "None, 'balanced', a dict from class to weight, or a list of dicts, one for each column of y",
    ),
    "warm_start": _FLAG,
    "accelerator": one_of(("auto", "cpu", "gpu", "cuda")),
    "devices": Rule(
        (Integral, str, list, tuple),
        lambda value: int(value) >= 1 if isinstance(value, Integral) else len(value) > 0,
        "an integer of at least 1, a list of device numbers, or 'auto'",
    ),
    "precision": one_of(("32-true", "16-mixed", "bf16-mixed")),
    "callbacks": Rule((Sequence, type(None)), lambda value: True, "None or a list of lightning callbacks"),
    "checkpoint_dir": _PATH,
    "resume_from": _PATH,
    "trainer_kwargs": Rule(
        (Mapping, type(None)),
        lambda value: not set(value or ()) & set(RESERVED_TRAINER_KWARGS),
        f"None or a dict without {', '.join(map(repr, RESERVED_TRAINER_KWARGS))}, which are parameters here",
    ),
    "verbose": _integer(0),
    "scale": one_of(SCALES),
    "missing_channels": MISSING_CHANNELS,
    "categorical": _optional(
        Rule((list, tuple), lambda value: len(value) > 0, "a sequence of names or numbers of channels")
    ),
}


def along_rules() -> dict[str, Rule]:
    """Rules of what only estimators with answers along time take."""
    return {
        "lookahead": _optional(NOT_NEGATIVE),
        "crop_length": _or_auto(_integer(2)),
        "warm_up": _or_auto(_integer(0)),
        "rare_classes": SHARE,
    }


def _are_lags(value: Any) -> bool:
    if isinstance(value, str):
        return value == "auto"
    lags: list[Any] = [value] if isinstance(value, Integral) else list(value)
    return (
        len(lags) > 0
        and all(isinstance(lag, Integral) and not isinstance(lag, bool) and int(lag) >= 2 for lag in lags)
        and all(low < high for low, high in zip(lags, lags[1:], strict=False))
    )


def forecast_rules() -> dict[str, Rule]:
    """Rules of what only forecasters take."""
    return {
        "sp": _or_auto(_integer(1, LONGEST_SEASON)),
        "horizon": _optional(_integer(1)),
        "look_back": _or_auto(_integer(2)),
        "loss": one_of(LOSSES),
        "quantiles": LEVELS,
        "scaling": one_of(SCALINGS),
        "together": _FLAG,
        "lags": Rule(
            (Integral, tuple, list, str),
            _are_lags,
            "'auto', an integer of at least 2, or an increasing tuple of such integers",
        ),
    }


def check_parameters(parameters: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Check parameters against their rules; those without a rule are checked where they are used.

    Raises
    ------
    TypeError, ValueError
        Naming the parameter, its value and what is allowed.
    """
    for name, value in parameters.items():
        rule = rules.get(name)
        if rule is None:
            continue
        # bool is a subclass of int: 'n_layers=True' is a slip, not a one.
        fits = isinstance(value, rule.types) and (not isinstance(value, bool) or bool in rule.types)
        if not fits:
            raise TypeError(f"{name} must be {rule.allowed}; got {value!r} of type {type(value).__name__}.")
        if not rule.holds(value):
            raise ValueError(f"{name} must be {rule.allowed}; got {value!r}.")
