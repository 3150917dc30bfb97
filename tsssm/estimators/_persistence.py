"""What a model file says of an estimator, and the two ways of saving: model files and sktime's pickles."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar
from zipfile import ZipFile

from tsssm.backbone import Backbone
from tsssm.encoding import PanelEncoder
from tsssm.persistence import SUFFIX, ModelFileError, can_hold, read, register, write
from tsssm.training import isolated_rng

Self = TypeVar("Self", bound="Saveable")


class Saveable:
    """Mixin in front of sktime's base classes: an estimator that model files can hold.

    Every subclass is known to model files by its name. What a file holds are the parameters and whatever
    ``fit`` has set; an estimator with attributes that `tsssm.persistence` does not know says in
    ``_to_state`` and ``_from_state`` what they are made of, or registers their class.
    """

    #: Attributes that belong to the program an estimator runs in and not to the model.
    _not_saved: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = cls.__module__.partition(".")[0] == "tsssm"
        name = cls.__name__ if own else f"{cls.__module__}.{cls.__qualname__}"
        register(name, cls, cls._to_state, cls._from_state)

    def _to_state(self) -> Mapping[str, Any]:
        parameters = self.get_params(deep=False)  # type: ignore[attr-defined]
        left_out = [name for name, value in parameters.items() if not can_hold(value)]
        if left_out:
            defaults = self.get_param_defaults()  # type: ignore[attr-defined]
            parameters.update({name: defaults[name] for name in left_out})
            warnings.warn(
                f"The model file does not hold {', '.join(left_out)}, whose value is no plain data; the "
                f"loaded {type(self).__name__} has the default there. Its predictions are the same.",
                UserWarning,
                stacklevel=2,
            )
        fitted = {
            name: value
            for name, value in vars(self).items()
            if name not in parameters and name not in self._not_saved
        }
        return {"parameters": parameters, "fitted": fitted}

    @classmethod
    def _from_state(cls: type[Self], state: dict[str, Any]) -> Self:
        estimator = cls(**state["parameters"])
        vars(estimator).update(state["fitted"])
        return estimator

    def save(
        self, path: str | os.PathLike[str] | None = None, serialization_format: str = "pickle"
    ) -> ZipFile | tuple[type, bytes] | None:
        """Save the fitted estimator, as a model file if the name ends in ``.safetensors``.

        Parameters
        ----------
        path : path, optional
            Ending in ".safetensors": one file with numbers and plain text, no pickle, which `tsssm.load`
            reads without running anything from it, on any device. It replaces an older file at once, or not
            at all. Any other path, or none: sktime's own format, PATH.zip or an object in memory, which
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
        UnsavableError
            If something that ``fit`` has set cannot be held by a model file.
        OSError
            If the file cannot be written.

        Warns
        -----
        UserWarning
            If a parameter holds objects that are no plain data, such as ``callbacks`` or a logger in
            ``trainer_kwargs``: the loaded estimator has the default there.
        """
        if path is None or Path(path).suffix != SUFFIX:
            where = path if path is None or isinstance(path, str) else Path(path)
            return super().save(where, serialization_format)  # type: ignore[misc]
        if serialization_format != "pickle":
            raise ValueError(
                f"A path that ends in {SUFFIX!r} asks for a model file, which has no serialization_format; "
                f"got {serialization_format!r}."
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
        Fitted, of the class that was saved.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If the file is no model file, is cut off or damaged, was written by a newer tsssm, or holds an
        estimator whose class has not been imported. It is a ValueError.
    """
    estimator = read(path)
    if not isinstance(estimator, Saveable):
        raise ModelFileError(f"{path} holds a {type(estimator).__name__}, which is no estimator.")
    return estimator


#: What the default of ``discretization`` was while files did not name the rule of a network.
_FIRST_RULES = {"s4": "bilinear", "lssl": "bilinear", "lssl-fixed": "bilinear"}


def _backbone_to_state(net: Backbone) -> dict[str, Any]:
    return {"config": net.config, "weights": dict(net.state_dict())}


def _backbone_from_state(state: dict[str, Any]) -> Backbone:
    config = dict(state["config"])
    if config["discretization"] is None:
        config["discretization"] = _FIRST_RULES.get(config["backbone"])
    with isolated_rng(0):
        net = Backbone(**config).float()
    net.load_state_dict(state["weights"])
    return net.eval()


def _encoder_from_state(state: dict[str, Any]) -> PanelEncoder:
    encoder = PanelEncoder(state["time_scale"])
    vars(encoder).update(state)
    return encoder


register("Backbone", Backbone, _backbone_to_state, _backbone_from_state)
register("PanelEncoder", PanelEncoder, lambda encoder: vars(encoder), _encoder_from_state)
