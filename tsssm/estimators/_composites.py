"""Estimators of scikit-learn around ours, such as pipelines, in model files.

What is scikit-learn's is written by skops, which reads objects of scikit-learn, SciPy and NumPy by their
attributes and refuses others; what is ours inside of it is written as ever, and named there by a number.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from types import ModuleType
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import numpy as np

from tsssm.estimators._model_state import is_ours, template_from, template_state
from tsssm.persistence import Fields, ModelFileError, UnsavableError, register

# Classes of scikit-learn that do nothing but hold numbers, and of which skops does not know that yet.
_HARMLESS = {
    "sklearn.calibration": ("_CalibratedClassifier", "_SigmoidCalibration", "_TemperatureScaling"),
    "sklearn.metrics._scorer": ("_PassthroughScorer", "_Scorer"),
    "sklearn.utils._bunch": ("Bunch",),
    "sklearn.model_selection._split": (
        "GroupKFold",
        "GroupShuffleSplit",
        "KFold",
        "LeaveOneGroupOut",
        "RepeatedKFold",
        "RepeatedStratifiedKFold",
        "ShuffleSplit",
        "StratifiedGroupKFold",
        "StratifiedKFold",
        "StratifiedShuffleSplit",
    ),
}
_INSTALL = "pip install 'tsssm[skops]'"


class Placeholder:
    """Where one of our estimators was in an object of scikit-learn.

    Parameters
    ----------
    number : int
        Which one.
    """

    def __init__(self, number: int) -> None:
        self.number = number


class Template:
    """One of our estimators before ``fit``, such as a search copies for every candidate.

    Parameters
    ----------
    estimator : estimator
        What it is.
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator


class Composite:
    """An estimator of scikit-learn that holds some of ours.

    Parameters
    ----------
    estimator : estimator
        Of scikit-learn; fitted, if it is to be of use.

    Raises
    ------
    UnsavableError
        If there is none of ours in it.
    """

    def __init__(self, estimator: Any) -> None:
        models: list[Any] = []

        def taken_out(value: Any) -> Any:
            if not is_ours(value):
                return value
            models.append(value if value.__sklearn_is_fitted__() else Template(value))
            return Placeholder(len(models) - 1)

        self.outside = _mapped(estimator, taken_out)
        self.models = tuple(models)
        if not models:
            name = type(estimator).__name__
            raise UnsavableError(
                f"The {name} holds no estimator of tsssm; save it with skops.io.dump or joblib.dump."
            )

    def put_together(self) -> Any:
        """Return the estimator of scikit-learn."""

        def put_in(value: Any) -> Any:
            if not isinstance(value, Placeholder):
                return value
            model = self.models[value.number]
            return model.estimator if isinstance(model, Template) else model

        return _mapped(self.outside, put_in)


def _mapped(value: Any, swap: Callable[[Any], Any], done: dict[int, Any] | None = None) -> Any:
    """Return a copy of an object of scikit-learn with some of the objects inside swapped."""
    done = {} if done is None else done
    if id(value) in done:
        return done[id(value)]
    swapped = swap(value)
    if swapped is not value:
        found = swapped
    elif type(value) in (list, tuple):
        found = type(value)(_mapped(item, swap, done) for item in value)
    elif isinstance(value, dict):
        found = copy.copy(value)  # which may be a Bunch
        found.update({key: _mapped(item, swap, done) for key, item in value.items()})
    elif type(value).__module__.partition(".")[0] == "sklearn" and hasattr(value, "__dict__"):
        found = done[id(value)] = copy.copy(value)
        found.__dict__.update({name: _mapped(item, swap, done) for name, item in vars(value).items()})
    else:
        return value
    done[id(value)] = found
    return found


def _skops() -> ModuleType | None:
    try:
        import skops.io
    except ImportError:
        return None
    return skops.io


def _state(composite: Composite) -> dict[str, Any]:
    skops = _skops()
    if skops is None:
        raise UnsavableError(f"Saving estimators of scikit-learn needs skops: {_INSTALL}.")
    written = skops.dumps(composite.outside)
    return {"outside": np.frombuffer(written, dtype=np.uint8), "models": composite.models}


@register(
    "Composite",
    Composite,
    {
        "outside": "array of bytes: the estimator of scikit-learn as skops writes it, an archive without "
        "compression, with a Placeholder and its number where one of ours is",
        "models": "tuple of ours: estimators, and Template for those that are not fitted",
    },
    to_state=_state,
)
def _composite(fields: Fields) -> Composite:
    written = fields.array("outside", (None,), np.uint8).tobytes()
    composite = object.__new__(Composite)
    composite.models = fields.tuple_of("models")
    with ZipFile(io.BytesIO(written)) as parts:
        # What is compressed may take any memory.
        if any(part.compress_type != ZIP_STORED for part in parts.infolist()):
            raise fields.refuse("outside", "not compressed", written[:8])
    skops = _skops()
    if skops is None:
        raise ModelFileError(f"reading estimators of scikit-learn needs skops: {_INSTALL}.")
    trusted = [f"{module}.{name}" for module, names in _HARMLESS.items() for name in names]
    trusted.append(f"{Placeholder.__module__}.{Placeholder.__qualname__}")
    found = set(skops.get_untrusted_types(data=written))
    composite.outside = skops.loads(written, trusted=sorted(found & set(trusted)))
    composite.put_together()
    return composite


@register(
    "Template",
    Template,
    {"name": "its class, by the name that files have for it", "parameters": "dict of its parameters"},
    to_state=lambda template: template_state(template.estimator),
)
def _template(fields: Fields) -> Template:
    return Template(template_from(fields))
