"""The methods ``save`` and ``load`` of the estimators: model files, and sktime's pickles."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar
from zipfile import ZipFile

from sktime.base import BaseObject

from tsssm.estimators import _persistence
from tsssm.persistence import SUFFIX, ModelFileError, write

Estimator = TypeVar("Estimator")


def save(
    self: Any, path: str | os.PathLike[str] | None = None, serialization_format: str = "pickle"
) -> ZipFile | tuple[type, bytes] | None:
    """Save the fitted estimator, as a model file if the name ends in ``.safetensors``.

    Parameters
    ----------
    path : path, optional
        Ending in ".safetensors": one file with numbers and plain text, no pickle, which `tsssm.load`
        reads without running anything from it, on any device. It replaces an older file at once, or not
        at all. A path without an
        ending, or with ".zip", or none: sktime's own format, PATH.zip or an object in memory, which
        `sktime.base.load` reads. These are pickles: load them only from where you would run code from.
    serialization_format : {"pickle", "cloudpickle"}
        Of sktime's format; a model file has no such choice.

    Returns
    -------
    None, ZipFile or tuple
        None for a model file; what sktime returns for the others.

    Raises
    ------
    NotFittedError
        If a model file of an estimator is asked for that is not fitted.
    ValueError
        For a path with another ending.
    UnsavableError
        If something that ``fit`` has set cannot be held by a model file.
    OSError
        If the file cannot be written.

    Warns
    -----
    UserWarning
        If a parameter holds objects that are no plain data, such as ``callbacks`` or a logger in
        ``trainer_kwargs``: the loaded estimator has the default there.

    Notes
    -----
    A model file does not hold where a fit writes: ``checkpoint_dir``, ``resume_from``, and paths and
    loggers in ``trainer_kwargs``.
    """
    ending = "" if path is None else Path(path).suffix
    if ending not in ("", ".zip", SUFFIX):
        raise ValueError(
            f"path must end in {SUFFIX!r}, for a model file that tsssm.load reads, or have no ending, "
            f"for sktime's pickles; got {ending!r} in {str(path)!r}. For a joblib file, call joblib.dump."
        )
    if path is None or Path(path).suffix != SUFFIX:
        where = path if path is None or isinstance(path, str) else Path(path)
        return BaseObject.save(self, where, serialization_format)
    if serialization_format != "pickle":
        raise ValueError(
            f"serialization_format must be the default for a path that ends in {SUFFIX!r}, because a "
            f"model file has no other format; got {serialization_format!r}."
        )
    self.check_is_fitted("save")
    write(path, self)
    return None


def with_later_parameters(self: Any, state: dict[str, Any]) -> dict[str, Any]:
    """The state of a pickled estimator of an earlier version, with defaults of parameters that came later."""
    return {**self.get_param_defaults(), **state}


def load(cls: type[Estimator], path: str | os.PathLike[str]) -> Estimator:
    """Return the estimator of a class in a model file."""
    estimator = _persistence.load(path)
    if not isinstance(estimator, cls):
        raise ModelFileError(f"{path} holds a {type(estimator).__name__}, not a {cls.__name__}.")
    return estimator
