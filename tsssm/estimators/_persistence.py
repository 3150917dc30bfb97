"""What a model file says of an estimator, and the two ways of saving: model files and sktime's pickles."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar
from zipfile import ZipFile

from sklearn.utils.validation import check_is_fitted

from tsssm.estimators._composites import Composite
from tsssm.estimators._parameters import Rule, check_parameters
from tsssm.estimators._parts import register_parts
from tsssm.persistence import SUFFIX, Fields, ModelFileError, can_hold, read, register, write

Self = TypeVar("Self", bound="Saveable")

register_parts()

# What sktime keeps on every instance: its constructor sets them anew. Files of earlier versions have them.
_OF_SKTIME = (
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


class Saveable:
    """Mixin in front of sktime's base classes: an estimator that model files can hold.

    Every subclass is known to model files by its name. What a file holds are the parameters and whatever
    ``fit`` has set. A class whose ``fit`` sets more than that of its base extends ``_restore``, which reads
    back what was set and checks it: a file may come from anybody. Subclasses outside of this package may
    leave that out; what they set is then taken as it is, unless it would hide what the class defines.
    """

    rules: dict[str, Rule] = {}

    #: Attributes that belong to the program an estimator runs in and not to the model.
    _not_saved: tuple[str, ...] = ()
    #: Attributes of sktime's base class that a model does without.
    _of_sktime: tuple[str, ...] = _OF_SKTIME

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = cls.__module__.partition(".")[0] == "tsssm"
        name = cls.__name__ if own else f"{cls.__module__}.{cls.__qualname__}"
        register(name, cls, cls._to_state, cls._from_state)

    @classmethod
    def _parameters_of_a_model(cls, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return what of the parameters belongs to a model, and not to the machine that it was fitted on."""
        return dict(parameters)

    def _to_state(self) -> Mapping[str, Any]:
        parameters = self._held_parameters()
        names = self.get_params(deep=False)  # type: ignore[attr-defined]
        kept = {*names, *self._not_saved, *self._of_sktime}
        return {
            "parameters": parameters,
            "fitted": {name: value for name, value in vars(self).items() if name not in kept},
        }

    def _held_parameters(self) -> dict[str, Any]:
        """Return the parameters that a model file holds, with defaults for those that it cannot."""
        parameters = self._parameters_of_a_model(self.get_params(deep=False))  # type: ignore[attr-defined]
        left_out = [name for name, value in parameters.items() if not can_hold(value)]
        if left_out:
            defaults = self.get_param_defaults()  # type: ignore[attr-defined]
            parameters.update({name: defaults[name] for name in left_out})
            warnings.warn(
                f"The model file leaves out {', '.join(left_out)}, because the value is not plain data: the "
                f"loaded {type(self).__name__} has the default instead. Its predictions are the same.",
                UserWarning,
                stacklevel=3,
            )
        return parameters

    @classmethod
    def _unfitted(cls: type[Self], parameters: dict[str, Any]) -> Self:
        """Return an estimator with the parameters of a file, after checking them."""
        check_parameters(parameters, cls.rules)
        return cls(**cls._parameters_of_a_model(parameters))

    @classmethod
    def _from_state(cls: type[Self], state: dict[str, Any]) -> Self:
        fields = Fields(cls.__name__, state)
        parameters, fitted = fields.mapping("parameters").rest(), fields.mapping("fitted")
        fields.end()
        estimator = cls._unfitted(parameters)
        fitted.ignore(*cls._of_sktime)
        estimator._restore(fitted)
        if cls.__module__.partition(".")[0] != "tsssm":
            others = fitted.rest()
            hidden = [name for name in others if hasattr(cls, name) or name in parameters]
            if hidden:
                raise ModelFileError(f"its {cls.__name__} would override {', '.join(hidden)} of the class.")
            vars(estimator).update(others)
        fitted.end()
        return estimator

    def _restore(self, fields: Fields) -> None:
        """Set what ``fit`` has set, as a file gives it, after checking each against the others."""
        raise NotImplementedError

    def save(
        self, path: str | os.PathLike[str] | None = None, serialization_format: str = "pickle"
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
            return super().save(where, serialization_format)  # type: ignore[misc]
        if serialization_format != "pickle":
            raise ValueError(
                f"serialization_format must be the default for a path that ends in {SUFFIX!r}, because a "
                f"model file has no other format; got {serialization_format!r}."
            )
        self.check_is_fitted("save")  # type: ignore[attr-defined]
        write(path, self)
        return None

    @classmethod
    def load(cls: type[Self], path: str | os.PathLike[str]) -> Self:
        """Return the estimator of this class in a model file; see `tsssm.load`."""
        estimator = load(path)
        if not isinstance(estimator, cls):
            raise ModelFileError(f"{path} holds a {type(estimator).__name__}, not a {cls.__name__}.")
        return estimator


def save(estimator: Any, path: str | os.PathLike[str]) -> None:
    """Save a fitted estimator, or one of scikit-learn that holds some of ours, to a model file.

    Parameters
    ----------
    estimator : estimator
        One of ours, or a pipeline, a calibrated classifier, a search or any other estimator of scikit-learn
        with ours inside. The rest of it has to be scikit-learn's, SciPy's and NumPy's own: skops (``pip
        install 'tsssm[skops]'``) writes it by its attributes.
    path : path
        Ending in ".safetensors"; replaces an older file at once, or not at all.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ValueError
        For a path with another ending.
    UnsavableError
        If it holds no estimator of ours, if it holds objects that skops does not trust, such as functions of
        yours, or if skops is not installed.
    OSError
        If the file cannot be written.

    See Also
    --------
    tsssm.load : Reads it.

    Notes
    -----
    A file is read by the scikit-learn that wrote it. With another version, skops may fail to.
    """
    if Path(path).suffix != SUFFIX:
        raise ValueError(f"path must end in {SUFFIX!r}; got {str(path)!r}.")
    if isinstance(estimator, Saveable):
        estimator.save(path)
        return
    check_is_fitted(estimator)
    write(path, Composite(estimator, Saveable), type(estimator).__name__)


def load(path: str | os.PathLike[str]) -> Any:
    """Return the fitted estimator that ``save`` wrote to a model file.

    Nothing from the file is run, and Lightning is not needed. The network is on the CPU, wherever it was
    trained, and predicts on the device that ``accelerator`` names, or on the CPU where there is none.

    Parameters
    ----------
    path : path
        A file that an estimator's ``save`` wrote, ending in ".safetensors".

    Returns
    -------
    estimator
        Fitted, of the class that was saved: one of ours, or of scikit-learn with ours inside.

    Raises
    ------
    FileNotFoundError
        If there is no such file; says so if there is one that ``save`` wrote without an ending.
    ModelFileError
        If the file is no model file, is cut off or damaged, was written by a newer tsssm, or holds an
        estimator whose class has not been imported. It is a ValueError.
    """
    zipped = Path(f"{os.fspath(path)}.zip")
    if not Path(path).exists() and zipped.exists():
        raise FileNotFoundError(
            f"There is no {str(path)!r}, but there is {str(zipped)!r}, which save wrote in sktime's format "
            f"because the name had no ending. It holds pickles: read it with sktime.base.load. For a file "
            f"that tsssm.load reads, save to a name that ends in {SUFFIX!r}."
        )
    estimator = read(path)
    if isinstance(estimator, Composite):
        return estimator.put_together()
    if not isinstance(estimator, Saveable):
        raise ModelFileError(f"{path} holds a {type(estimator).__name__}, which is not an estimator.")
    return estimator
