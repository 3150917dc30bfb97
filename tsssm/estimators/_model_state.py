"""What a model file says of an estimator, and how an estimator is made of that again.

A file holds the parameters and whatever ``fit`` has set. A class says in ``_restore`` how what was set is
read back and checked: a file may come from anybody. Subclasses outside of this package may leave that out;
what they set is then taken as it is, unless it would hide what the class defines.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from tsssm.estimators._parameters import check_parameters
from tsssm.estimators._parts import register_parts
from tsssm.persistence import Fields, ModelFileError, can_hold, register

register_parts()

#: What sktime keeps on every instance: its constructor sets them anew. Files of earlier versions have them.
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

    The class has ``rules`` for its parameters, ``_parameters_of_a_model``, ``_restore``, and names of
    attributes that are left out: ``_not_saved`` are of the program and not of the model, ``_of_sktime`` are
    in files of earlier versions.
    """
    name = cls.__name__ if _is_own(cls) else f"{cls.__module__}.{cls.__qualname__}"
    _names[cls] = name
    register(name, cls, to_state, lambda state: _from_state(cls, state))


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
    parameters = fields.mapping("parameters").rest()
    fields.end()
    return unfitted(classes[name], parameters)


def to_state(estimator: Any) -> Mapping[str, Any]:
    """What a file holds of a fitted estimator."""
    parameters = held_parameters(estimator)
    apart = {*estimator.get_params(deep=False), *estimator._not_saved, *estimator._of_sktime}
    fitted = {name: value for name, value in vars(estimator).items() if name not in apart}
    targets = fitted.pop("_targets", None)
    if targets is not None:
        fitted.update(targets.state())
    return {"parameters": parameters, "fitted": fitted}


def _from_state(cls: Any, state: dict[str, Any]) -> Any:
    fields = Fields(cls.__name__, state)
    parameters, fitted = fields.mapping("parameters").rest(), fields.mapping("fitted")
    fields.end()
    estimator = unfitted(cls, parameters)
    fitted.ignore(*cls._of_sktime)
    estimator._restore(fitted)
    if not _is_own(cls):
        others = fitted.rest()
        hidden = [name for name in others if hasattr(cls, name) or name in parameters]
        if hidden:
            raise ModelFileError(f"its {cls.__name__} would override {', '.join(hidden)} of the class.")
        vars(estimator).update(others)
    fitted.end()
    return estimator


def _is_own(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "tsssm"
