"""What forecasters share: sktime's contract around histories on a grid, and panels for everybody else."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from sktime.forecasting.base import BaseForecaster, ForecastingHorizon
from sktime.utils.validation.forecasting import check_fh

from tsssm.estimators import _saving
from tsssm.estimators._base import NotFittedError
from tsssm.estimators._forecaster_covariates import Target, fit_target
from tsssm.estimators._forecaster_files import HOLDS, IMPLIED, restore
from tsssm.estimators._forecaster_panel import PanelGrid
from tsssm.estimators._forecaster_series import Histories, read_histories
from tsssm.estimators._forecaster_time import FloatArray
from tsssm.estimators._forecaster_tracks import closed_forecasts, tracks_of
from tsssm.estimators._model_state import register_estimator
from tsssm.estimators._parameters import Rule, check_parameters
from tsssm.forecasting import ForecastModel, Track
from tsssm.panel import Panel
from tsssm.persistence import Fields

Estimator = TypeVar("Estimator", bound="ForecasterBase")

#: The tags that sktime reads, of every forecaster here.
FORECASTER_TAGS = {
    "authors": ["tsssm developers"],
    "maintainers": ["tsssm developers"],
    "python_dependencies": ["torch", "numba"],
    "y_inner_mtype": ["pd.DataFrame", "pd-multiindex", "pd_multiindex_hier"],
    "X_inner_mtype": ["pd.DataFrame", "pd-multiindex", "pd_multiindex_hier"],
    "scitype:y": "both",
    "capability:multivariate": True,
    "capability:exogenous": True,
    "ignores-exogeneous-X": False,
    "capability:missing_values": True,
    "handles-missing-data": True,
    "capability:insample": False,
    "capability:pred_int": True,
    "capability:pred_int:insample": False,
    "capability:update": True,
    "capability:non_contiguous_X": True,
    "capability:categorical_in_X": False,
    "requires-fh-in-fit": False,
    "X-y-must-have-same-index": False,
}

# Known to sktime from 1.0 on, where no base class declares it.
PRETRAIN_TAGS = {"capability:pretrain": True} if hasattr(BaseForecaster, "_pretrain") else {}


class ForecasterBase(BaseForecaster):
    """Base of the forecasters; a subclass says in `_learn` what is learned from series on a grid.

    The models do not store the series: forecasts are made from their histories, which the
    forecaster keeps and ``update`` extends. Several targets have a model each, which the series of a panel
    share.
    """

    _config = {"remember_data": False}
    rules: dict[str, Rule] = {}

    #: What `pretrain` sets.
    _pretrained: tuple[str, ...] = ("pretrained_clock_", "pretrained_targets_")

    _holds = HOLDS
    _not_saved = ("_config_dynamic", "_tags_dynamic", *IMPLIED)

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
        # sktime keeps no copy of y and X, because the histories have them; where its configuration asks for
        # copies later, it expects these to be there.
        self._y = self._X = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(_saving.with_later_parameters(self, state))

    horizon: int | None

    targets_: tuple[Target, ...]
    channels_: tuple[Any, ...]
    _panel_grid: PanelGrid | None
    pretrained_targets_: tuple[Target, ...]

    def _learn(
        self,
        series: Sequence[FloatArray],
        phases: Sequence[int],
        horizon: int | None,
        seasons: Sequence[int],
    ) -> ForecastModel:
        """Return a model of one target, from series (T_i,) on a common grid.

        ``horizon`` is None where nobody has said how far ahead forecasts will be asked for.
        """
        raise NotImplementedError

    @classmethod
    def _parameters_of_a_model(cls, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """As `PanelEstimator._parameters_of_a_model`."""
        return dict(parameters)

    def _restore(self, fields: Fields) -> None:
        """Set what ``fit`` and ``pretrain`` set, as a file gives it, after checking it."""
        restore(self, fields, self._pretrained)

    def check_is_fitted(self, method_name: str | None = None) -> None:
        """Raise `NotFittedError` unless the forecaster is fitted."""
        if not self.is_fitted:
            raise NotFittedError(
                f"This instance of {type(self).__name__} has not been fitted yet; please call `fit` first."
            )

    def fit(self: Estimator, y: Any, X: Any = None, fh: Any = None) -> Estimator:
        """Fit to series with sktime's arguments, or to a panel.

        Parameters
        ----------
        y : Series, DataFrame, array or Panel
            Any container of sktime's: one series, several targets, a panel or a hierarchy. A `Panel` has
            series with times of their own, and its channels are the targets. NaN is missing.
        X : as y, optional
            Variables that will be known in the future, with at least the times of y. Not with a `Panel`.
        fh : int, list, index or ForecastingHorizon, optional
            Times to forecast. They may also be given in ``predict``, and differ there; here they set how far
            ahead forecasts will be asked for. With a `Panel` a number: the time ahead, in its unit.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            For parameters and data that are not as documented.
        """
        before = dict(self.__dict__)
        try:
            if isinstance(y, Panel):
                if X is not None:
                    raise ValueError("X must be None with a Panel; pass the variables as its channels.")
                self._check_own()
                self.reset()
                self._fit_panel(y, fh)
                self._is_fitted = True
                return self
            if isinstance(y, (pd.Series, pd.DataFrame, np.ndarray)) and y.shape[:1] == (0,):
                raise ValueError("y must hold at least one sample; it is empty.")
            return super().fit(y, X, fh)
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def predict(self, fh: Any = None, X: Any = None) -> Any:
        """Forecast, with sktime's arguments, or ``predict(panel, times)``.

        Parameters
        ----------
        fh : int, list, index or ForecastingHorizon; or a Panel
            Times to forecast: relative or absolute, with gaps if need be, beyond those of ``fit`` as well.
            All have to lie in the future; forecasts of the past are not made. A `Panel` holds the histories
            to continue, with the channels of the panel in ``fit``.
        X : as in ``fit``, or array of shape (k,)
            The variables at all times of fh; without it the forecast ignores them. For a panel, the
            times ahead of the last sample of each series, in the unit of its times.

        Returns
        -------
        Series or DataFrame like y, indexed by fh; or a Panel with k samples of every series

        Raises
        ------
        NotFittedError, NotImplementedError, TypeError, ValueError
            Before ``fit``, for times that are not in the future, and for what is not as documented.
        """
        if isinstance(fh, Panel):
            return self._predict_panel(fh, X, None)
        self._check_for_series()
        return super().predict(fh, X)

    def predict_quantiles(self, fh: Any = None, X: Any = None, alpha: Any = None) -> Any:
        """Forecast quantiles, with sktime's arguments, or ``predict_quantiles(panel, times, alpha)``.

        Parameters
        ----------
        fh, X : as in ``predict``
        alpha : float or list of float, default=[0.05, 0.95]
            Levels in (0, 1).

        Returns
        -------
        DataFrame with columns (target, level); or a Panel with a channel for each, targets slowest
        """
        if isinstance(fh, Panel):
            levels = [0.05, 0.95] if alpha is None else np.atleast_1d(alpha).tolist()
            return self._predict_panel(fh, X, levels)
        self._check_for_series()
        return super().predict_quantiles(fh, X, alpha)

    def _fit_panel(self, panel: Panel, ahead: Any) -> None:
        grid = self._panel_grid = PanelGrid.of(panel)
        horizon = self.horizon if ahead is None else grid.steps(ahead)
        self.__dict__.update(self._learned_channels(grid.channels(panel, self._reads_together()), horizon))

    def _learned_channels(self, each: Sequence[Sequence[Track]], horizon: int | None) -> dict[str, Any]:
        """What is learned from the series of each channel, by the name of the attribute that it becomes."""
        learned = (self._learn([track.y for track in own], [0] * len(own), horizon, ()) for own in each)
        return {"channels_": tuple(learned)}

    def _predict_panel(self, panel: Panel, times: Any, levels: Sequence[float] | None) -> Panel:
        self.check_is_fitted()
        who, grid = type(self).__name__, getattr(self, "_panel_grid", None)
        if grid is None:
            raise TypeError(f"This {who} was fitted to sktime series, not to a Panel.")

        def paths(channel: int, tracks: list[Track], steps: list[FloatArray]) -> list[FloatArray]:
            return self._paths(Target(self.channels_[channel], None, None), tracks, steps, None, levels)

        return grid.forecasts(panel, times, levels, paths, self._reads_together(), who)

    def _check_own(self) -> None:
        """Check the parameters."""
        check_parameters(self.get_params(deep=False), self.rules)

    def _check_for_series(self) -> None:
        if self.is_fitted and getattr(self, "_panel_grid", None) is not None:
            raise TypeError(
                f"This {type(self).__name__} was fitted to a Panel; call predict(panel, times) with the "
                "histories to continue."
            )

    # What sktime calls

    def _check_fh(self, fh: Any, pred_int: bool = False) -> Any:
        """Leave the check of times without a frequency, which sktime cannot count, to `Histories.due`."""
        cutoff = self._cutoff
        stamps = isinstance(fh, (pd.DatetimeIndex, pd.PeriodIndex))
        if stamps and cutoff is not None and pd.api.types.is_integer_dtype(cutoff.dtype):
            raise TypeError(f"fh must be integers, as the index of y is, but holds dates: {fh[:3].tolist()}.")
        if fh is None or not isinstance(cutoff, pd.DatetimeIndex) or cutoff.freq is not None:
            return super()._check_fh(fh, pred_int=pred_int)
        self._fh = fh if isinstance(fh, ForecastingHorizon) else check_fh(fh)
        return self._fh

    def _fit(self, y: pd.DataFrame, X: pd.DataFrame | None, fh: ForecastingHorizon | None) -> Any:
        self._check_own()
        self._panel_grid = None
        pretrained = getattr(self, "pretrained_targets_", None)
        clock = self.pretrained_clock_ if pretrained is not None else None
        self._histories = read_histories(y, X, clock)
        if pretrained is None:
            self.__dict__.update(self._learned(self._histories, self._steps_asked(fh)))
        else:
            self.targets_ = self._from_pretrained(pretrained)
        return self

    def _from_pretrained(self, pretrained: tuple[Target, ...]) -> tuple[Target, ...]:
        """Models for the targets of fit; a single one serves them all."""
        given, width = len(self._histories.targets), len(self._histories.variables)
        if len(pretrained) not in (1, given):
            raise ValueError(
                f"y has {given} targets, but this {type(self).__name__} was pretrained on {len(pretrained)}."
            )
        effects = [target.effect for target in pretrained if target.effect is not None]
        if width and any(len(effect.coef) != width for effect in effects):
            raise ValueError(
                f"X has {width} column(s), but this {type(self).__name__} was pretrained with "
                f"{len(effects[0].coef)}."
            )
        return pretrained * given if len(pretrained) == 1 else pretrained

    def _pretrain(self, y: pd.DataFrame, X: pd.DataFrame | None = None, fh: Any = None) -> Any:
        self._check_own()
        histories = read_histories(y, X, None)
        found = self._learned(histories, self._steps_asked(fh, histories))
        self.__dict__.update({f"pretrained_{name}": value for name, value in found.items()})
        self.pretrained_clock_ = histories.clock
        return self

    def _update(self, y: pd.DataFrame, X: pd.DataFrame | None = None, update_params: bool = True) -> Any:
        self._histories = self._histories.extended(read_histories(y, X, self._histories.clock))
        if update_params and getattr(self, "pretrained_targets_", None) is None:
            self.targets_ = self._learned_targets(self._histories, self._steps_asked(self._fh))
        return self

    def _predict(self, fh: ForecastingHorizon, X: pd.DataFrame | None) -> pd.DataFrame:
        found, index = self._forecasts(fh, X, None)
        return pd.DataFrame(found[..., 0], index=index, columns=self._histories.targets)

    def _predict_quantiles(
        self, fh: ForecastingHorizon, X: pd.DataFrame | None, alpha: list[float]
    ) -> pd.DataFrame:
        found, index = self._forecasts(fh, X, alpha)
        columns = self._get_columns(method="predict_quantiles", alpha=alpha)
        return pd.DataFrame(found.reshape(len(found), -1), index=index, columns=columns)

    # From histories to forecasts

    def _steps_asked(self, fh: Any, histories: Histories | None = None) -> int | None:
        """Grid steps to the farthest time of fh; the parameter, if there is none."""
        histories = histories or self._histories
        if fh is None or len(fh) == 0:
            return self.horizon
        farthest = max(float(places.max()) for places, _ in histories.due(fh))
        return max(1, math.ceil(farthest - 1e-6), self.horizon or 0)

    def _learned(self, histories: Histories, horizon: int | None) -> dict[str, Any]:
        """What is learned from histories, by the name of the attribute that it becomes."""
        return {"targets_": self._learned_targets(histories, horizon)}

    def _learned_targets(self, histories: Histories, horizon: int | None) -> tuple[Target, ...]:
        phases, seasons = [h.first for h in histories.each], histories.clock.seasons()
        variables = [h.X for h in histories.each] if histories.variables else None
        return tuple(
            fit_target(
                lambda series: self._learn(series, phases, horizon, seasons),
                [h.y[:, column] for h in histories.each],
                variables,
            )
            for column in range(len(histories.targets))
        )

    def _reads_together(self) -> bool:
        """Whether the forecast of a target looks at the past of the others."""
        return False

    def _paths(
        self,
        target: Target,
        tracks: Sequence[Track],
        steps: Sequence[FloatArray],
        future: Sequence[FloatArray] | None,
        levels: Sequence[float] | None,
    ) -> list[FloatArray]:
        """Forecasts (k_i, levels or 1) of series of one target at steps (k_i,) after their last cell."""
        return closed_forecasts(target, tracks, steps, future, levels)

    def _forecasts(
        self, fh: ForecastingHorizon, X: pd.DataFrame | None, levels: Sequence[float] | None
    ) -> tuple[npt.NDArray[np.float64], pd.Index]:
        """Forecasts (rows, targets, levels or 1) and their index."""
        histories = self._histories
        due = histories.due(fh)
        steps = [places for places, _ in due]
        index = histories.index_of([stamps for _, stamps in due])
        future = None if X is None else histories.future(X, [stamps for _, stamps in due])
        columns = []
        for column, target in enumerate(self.targets_):
            tracks = tracks_of(histories, column, self._reads_together())
            columns.append(np.concatenate(self._paths(target, tracks, steps, future, levels)))
        return np.stack(columns, axis=1), index
