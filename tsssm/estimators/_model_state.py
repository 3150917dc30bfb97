"""What a model file says of an estimator, and how an estimator is made of that again.

A file holds the parameters and whatever ``fit`` has set, but for what follows from the rest. A class
declares that in ``_holds``, by the names of attributes without a leading underscore, and says in ``_restore``
how it is read back and checked: a file may come from anybody. Subclasses outside of this package may leave
both out; what they set is then taken as it is, unless it would hide what the class defines.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from tsssm.estimators._parameters import check_parameters
from tsssm.persistence import Fields, ModelFileError, can_hold, public, register

#: What sktime keeps on every instance: its constructor sets them anew.
OF_SKTIME = (
    "_X_metadata",
    "_class_dictionary",
    "_config_dynamic",
    "_converter_store_X",
    "_converter_store_y",
    "_estimator_type",
    "_is_timed",
    "_is_vectorized",
    "_tags_dynamic",
)

_names: dict[type, str] = {}


def register_estimator(cls: Any) -> None:
    """Let model files hold estimators of a class, which they know by its name.

    The class has ``rules`` for its parameters, ``_parameters_of_a_model``, ``_holds``, to which those of its
    bases are added, ``_restore``, and in ``_not_saved`` the names of attributes that are of the program and
    not of the model, or follow from others.
    """
    if is_own(cls) and not cls.__name__.startswith("SSM"):
        return  # what they share
    name = cls.__name__ if is_own(cls) else f"{cls.__module__}.{cls.__qualname__}"
    _names[cls] = name
    holds = {"parameters": "dict: the arguments of the constructor, by their names"}
    for base in reversed(cls.__mro__):
        holds |= vars(base).get("_holds", {})
    if not is_own(cls):
        holds["others"] = "dict: attributes that are declared nowhere"
    register(name, cls, holds, to_state=lambda one: _state(one, holds))(
        lambda fields: _read(cls, fields, holds)
    )


def is_ours(value: Any) -> bool:
    """Whether a value is an estimator of a class that is registered."""
    return type(value) in _names


def held_parameters(estimator: Any) -> dict[str, Any]:
    """Return the parameters that a model file holds, with defaults for those that it cannot."""
    parameters = estimator._parameters_of_a_model(estimator.get_params(deep=False))
    left_out = [name for name, value in parameters.items() if not can_hold(value)]
    if left_out:
        defaults = estimator.get_param_defaults()
        parameters.update({name: defaults[name] for name in left_out})
        warnings.warn(
            f"The model file leaves out {', '.join(left_out)}, because the value is not plain data: the "
            f"loaded {type(estimator).__name__} has the default instead. Its predictions are the same.",
            UserWarning,
            stacklevel=3,
        )
    return parameters


def unfitted(cls: Any, parameters: dict[str, Any]) -> Any:
    """Return an estimator of a class with the parameters of a file, after checking them."""
    check_parameters(parameters, cls.rules)
    return cls(**cls._parameters_of_a_model(parameters))


def template_state(estimator: Any) -> dict[str, Any]:
    """What a file holds of an estimator that is not fitted."""
    return {"name": _names.get(type(estimator)), "parameters": held_parameters(estimator)}


def template_from(fields: Fields) -> Any:
    """Return an estimator that is not fitted."""
    classes = {name: cls for cls, name in _names.items()}
    name = fields.choice("name", list(classes))
    return unfitted(classes[name], fields.mapping("parameters").rest())


def is_own(cls: type) -> bool:
    """Whether a class is of this package."""
    return cls.__module__.partition(".")[0] == "tsssm"


def _state(estimator: Any, holds: Mapping[str, str]) -> Mapping[str, Any]:
    """What a file holds of a fitted estimator."""
    apart = {*estimator.get_params(deep=False), *estimator._not_saved}
    fitted = {name: value for name, value in vars(estimator).items() if name not in apart}
    undeclared = [] if is_own(type(estimator)) else [name for name in fitted if public(name) not in holds]
    others = {name: fitted.pop(name) for name in undeclared}
    state = {"parameters": held_parameters(estimator)}
    state |= {public(name): value for name, value in fitted.items()}
    return {**state, "others": others} if others else state


def _read(cls: Any, fields: Fields, holds: Mapping[str, str]) -> Any:
    estimator = unfitted(cls, fields.mapping("parameters").rest())
    estimator._restore(fields)
    if not is_own(cls) and fields.given("others"):
        others = fields.mapping("others").rest()
        apart = {*estimator.get_params(deep=False), *cls._not_saved}
        # Nor what was read and checked above.
        hidden = [name for name in others if hasattr(cls, name) or name in apart or public(name) in holds]
        if hidden:
            raise ModelFileError(f"its {cls.__name__} would override {', '.join(hidden)} of the class.")
        vars(estimator).update(others)
    return estimator
