"""What all estimators share: the containers that they take, and what both libraries expect of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.exceptions import NotFittedError as SklearnNotFittedError
from sklearn.utils.validation import validate_data
from sktime.base import BaseEstimator as SktimeEstimator
from sktime.exceptions import NotFittedError as SktimeNotFittedError

from tsssm.encoding import PanelEncoder
from tsssm.estimators import _saving
from tsssm.estimators._alignment import aligned, matched
from tsssm.estimators._checks import is_table
from tsssm.estimators._earlier_files import targets_among
from tsssm.estimators._familiar import Familiar, tell_of_training
from tsssm.estimators._model_state import OF_SKTIME, register_estimator
from tsssm.estimators._parameters import Rule, check_parameters
from tsssm.estimators._targets import Targets
from tsssm.panel import Panel, as_panel
from tsssm.persistence import Fields

Estimator = TypeVar("Estimator", bound="PanelEstimator")
Answer = TypeVar("Answer")

# Attributes that scikit-learn keeps on an estimator across fit, and that sktime's reset would delete.
_SKLEARN_STATE = (
    "_metadata_request",
    "_parent_callback_ctx",
    "_skl_callbacks",
    "_callback_fit_ctx",
    "_skl_callbacks_to_teardown",
    "_sklearn_output_config",
)


#: The tags that sktime reads, of everything that takes a panel.
PANEL_TAGS = {
    "authors": ["tsssm developers"],
    "maintainers": ["tsssm developers"],
    # Lightning, which only fit needs, is left out: a model that was loaded from a file does without.
    "python_dependencies": ["torch"],
    "X_inner_mtype": ["pd-multiindex", "df-list", "numpy3D"],
    "capability:multivariate": True,
    "capability:unequal_length": True,
    "capability:missing_values": True,
    "capability:random_state": True,
    "property:randomness": "derandomized",
}


def of_one_fit(method: Callable[..., Answer]) -> Callable[..., Answer]:
    """Let a method answer by what one fit has learned, while another thread may be fitting anew."""

    @wraps(method)
    def answer(self: Any, *args: Any, **kwargs: Any) -> Answer:
        fitted = object.__new__(type(self))
        fitted.__dict__.update(self.__dict__)
        return method(fitted, *args, **kwargs)

    return answer


def declared_tags(base: Any, tags: dict[str, Any]) -> dict[str, Any]:
    """Return the tags that a base class of the installed sktime declares; its check suite rejects others."""
    declared = base.get_class_tags()
    return {name: value for name, value in tags.items() if name in declared}


class NotFittedError(SklearnNotFittedError, SktimeNotFittedError):
    """Raised when an estimator is asked to predict before it was fitted; known to both libraries."""


class PanelEstimator(SktimeEstimator):
    """Base of the estimators of panels, in front of an sktime base for a task and of scikit-learn's mixins.

    scikit-learn calls ``fit`` with arrays, lists and panels, sktime with its own containers; all of them
    become a `Panel` here, so that sktime's conversion, which drops times on some paths, is never needed.
    A subclass has ``rules`` for its parameters, a ``fit`` whose body runs inside `_fitting`, and a `_restore`
    that reads back from a model file what ``fit`` sets.
    """

    rules: dict[str, Rule] = {}

    #: What y is to the estimator, if it is anything.
    _kind_of_targets: type[Targets] | None = None

    #: What a model file holds, besides the parameters.
    _holds = {
        "channel_names": "tuple of the names of the channels, or null",
        "n_features_in_": "number of channels; of a flat table in training, of its columns",
        "feature_names_in_": "array of their names, if there were some",
        "fitted_on_table": "whether X was a flat table in training, a series in each row",
        "familiar": "Familiar or null: sizes of values and gaps in training",
        "fit_time_": "milliseconds that the fit took",
    }
    _not_saved: tuple[str, ...] = (
        *_SKLEARN_STATE,
        *OF_SKTIME,
        # What follows from the encoder, the targets or the features.
        *("_is_fitted", "_n_channels", "_has_times", "time_scale_"),
        *("classes_", "n_classes_", "n_features_out_"),
    )

    n_features_in_: int
    feature_names_in_: npt.NDArray[np.object_]
    _is_fitted: bool
    _n_channels: int
    _channel_names: tuple[str, ...] | None
    _fitted_on_table: bool
    _has_times: bool
    _familiar: Familiar | None
    missing_channels: str
    _targets: Any

    # sktime compares estimators by their parameters and thereby makes them unhashable, which breaks
    # scikit-learn's bookkeeping; parameters can change, so identity is all that a hash can rest on.
    __hash__ = object.__hash__

    save = _saving.save

    @classmethod
    def load(cls: type[Estimator], path: str | os.PathLike[str]) -> Estimator:
        """Return the estimator of this class in a model file; see `tsssm.load`."""
        return _saving.load(cls, path)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        register_estimator(cls)

    def __init__(self) -> None:
        super().__init__()
        # sktime announces these before fit; to scikit-learn they say that the estimator is fitted.
        for name in ("classes_", "n_classes_", "fit_time_"):
            self.__dict__.pop(name, None)

    def reset(self: Estimator) -> Estimator:
        """Return to the state after construction, keeping what scikit-learn has attached."""
        kept = self._attached()
        self._is_fitted = False  # first, for threads that ask in between
        super().reset()
        self.__dict__.update(kept)
        return self

    def set_params(self: Estimator, **params: Any) -> Estimator:
        """Set parameters, by the rules of both libraries.

        sktime returns the estimator to the state before ``fit``; with ``warm_start``, what was learned stays.
        A wrong name is an error that changes nothing.
        """
        before = dict(self.__dict__)
        try:
            super().set_params(**params)
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        if self._starts_warm():
            names = self.get_params(deep=False)
            self.__dict__.update({name: value for name, value in before.items() if name not in names})
        return self

    def _starts_warm(self) -> bool:
        # Before the parameters are checked, which is in fit.
        warm = getattr(self, "warm_start", False)
        return isinstance(warm, (bool, np.bool_)) and bool(warm)

    @classmethod
    def _parameters_of_a_model(cls, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return what of the parameters belongs to a model, and not to the machine that it was fitted on."""
        return dict(parameters)

    def _restore(self, fields: Fields) -> None:
        """Set what ``fit`` has set, as a file gives it, after checking each against the others."""
        raise NotImplementedError

    def _restore_panel(self, fields: Fields, encoder: PanelEncoder) -> None:
        """As `_restore`: what is known of the training panel besides its encoder."""
        channels, self._has_times = encoder.n_channels, encoder.has_times
        self._n_channels, self._is_fitted = channels, True
        self._channel_names = fields.texts("channel_names", channels)
        self._fitted_on_table = fields.flag("fitted_on_table")
        if self._fitted_on_table and channels == 1:
            self.n_features_in_ = fields.count("n_features_in_", 1)
        else:
            self.n_features_in_ = fields.exactly("n_features_in_", channels)
        if fields.given("feature_names_in_"):
            self.feature_names_in_ = fields.names("feature_names_in_", self.n_features_in_)
        self.fit_time_ = fields.count("fit_time_")
        self._familiar = fields.maybe("familiar", Familiar)
        if self._familiar is not None and len(self._familiar.count) != channels:
            raise fields.refuse("familiar", f"of {channels} channels", self._familiar)

    def _restore_targets(self, fields: Fields) -> Any:
        """As `_restore`: what is known of y."""
        assert self._kind_of_targets is not None
        targets = self._targets = fields.instance("targets", self._kind_of_targets)
        targets.take_parameters(self)
        self.__dict__.update(targets.shown())
        return targets

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = _saving.with_later_parameters(self, state)
        # In earlier versions, what is known of y was not by itself.
        kind = self._kind_of_targets
        if kind is not None and state.get("_is_fitted") and "_targets" not in state:
            state["_targets"] = kind()
            vars(state["_targets"]).update(
                {name: state[name] for name in kind.parameters}, **targets_among(state)
            )
        super().__setstate__(state)

    def _check_own(self) -> None:
        """Check the parameters."""
        check_parameters(self.get_params(deep=False), self.rules)

    def _attached(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in _SKLEARN_STATE if name in self.__dict__}

    @contextmanager
    def _fitting(self, *, reset: bool = True) -> Iterator[None]:
        """Check the parameters, and fit in the block; an error leaves the estimator as it was before.

        With ``reset=False`` the block continues from what was learned earlier.
        """
        started = time.perf_counter()
        before = dict(self.__dict__)
        try:
            if reset:
                self.reset()
            self._check_own()
            yield
        except BaseException:
            attached = self._attached()
            self.__dict__.clear()
            self.__dict__.update({**before, **attached})
            raise
        self.fit_time_ = round(1000 * (time.perf_counter() - started))
        self._is_fitted = True

    def _fit(self: Estimator, X: Any, y: Any = None) -> Estimator:
        """Fit without weights: what sktime's machinery calls."""
        return self.fit(X, y)

    def check_is_fitted(self, method_name: str | None = None) -> None:
        """Raise `NotFittedError` unless the estimator is fitted."""
        if not self.__dict__.get("_is_fitted", False):
            raise NotFittedError(
                f"This instance of {type(self).__name__} has not been fitted yet, or `fit` is still "
                "running; please call `fit` first."
            )

    def __sklearn_is_fitted__(self) -> bool:
        return self._is_fitted

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        return tags

    def _panel(self, X: Any, *, reset: bool) -> Panel:
        """Return X as a panel, and set or check the number and the names of features."""
        # An index 0, 1, 2, ... is what pandas writes unasked: in fit it says nothing, but next to training
        # series with times it is a time, or else one series would be read differently alone and among others.
        panel = as_panel(X, counting_is_time=not reset and self._has_times)
        table = is_table(X)
        if table:
            # scikit-learn's rule for an array (n, length): columns are features, and their number is fixed. A
            # 3-D array (n, 1, length) holds the same series and may change its length.
            if reset or self._fitted_on_table:
                validate_data(self, X, reset=reset, skip_check_array=True)
        elif reset:
            self.n_features_in_ = panel.n_channels
        if reset:
            self._fitted_on_table = table
            self._has_times = panel.has_times
            self._n_channels = panel.n_channels
            self._channel_names = panel.channel_names
            if panel.channel_names is not None and not table:
                self.feature_names_in_ = np.array(panel.channel_names, dtype=object)
            self._familiar = Familiar.of(panel)
            tell_of_training(panel, X, self._familiar)
            return panel
        lacking = self.missing_channels
        panel = matched(panel, self._channel_names, self._n_channels, type(self).__name__, lacking=lacking)
        if self._familiar is not None:
            self._familiar.compare(panel)
        return panel

    def _check_targets(self, y: Any, classes: Any = None, *, reset: bool) -> npt.NDArray[Any]:
        """Return y as `Targets.check`; with ``reset`` as that of a first fit, else of one that goes on."""
        assert self._kind_of_targets is not None
        known = None if reset else self._targets
        targets = self._targets = self._kind_of_targets.of(self, known)
        checked = targets.check(y, classes, reset=reset)
        if reset:
            self.__dict__.update(targets.shown())
        return checked

    def _get_used_to(self, panel: Panel) -> None:
        """Let the values and gaps of more training series be usual."""
        if self._familiar is not None:
            self._familiar = self._familiar.with_more(panel)

    def _for_score(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any]:
        """Return targets and weights to compare predictions with, in the order of the series."""
        if not any(isinstance(values, (pd.Series, pd.DataFrame)) for values in (y, sample_weight)):
            return y, sample_weight
        self.check_is_fitted()
        panel = self._panel(X, reset=False)
        return aligned(y, panel, X, "y"), aligned(sample_weight, panel, X, "sample_weight")
