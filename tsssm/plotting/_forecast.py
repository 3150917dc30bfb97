"""A history and how it continues: forecasts with intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tsssm.panel import Panel
from tsssm.plotting._axes import axes_for, time_label


class ForecastDisplay:
    """The end of a series, its forecast, and intervals around it.

    Parameters
    ----------
    history, actual : Series
        Indexed by times; ``actual`` is what came, if it is known.
    forecast : DataFrame
        Indexed by times, with columns "forecast", "lower" and "upper".
    coverage : float
        Share of what comes that the intervals are meant to hold.
    label : str
        Of the axis of time.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    """

    figure_: Any
    ax_: Any

    def __init__(
        self,
        history: pd.Series,
        forecast: pd.DataFrame,
        coverage: float,
        actual: pd.Series | None = None,
        label: str = "time",
    ) -> None:
        self.history, self.forecast, self.actual = history, forecast, actual
        self.coverage, self.label = coverage, label

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        y: Any,
        fh: Any = None,
        X: Any = None,
        *,
        coverage: float = 0.8,
        actual: Any = None,
        column: Any = None,
        last: int | None = None,
        ax: Any = None,
    ) -> ForecastDisplay:
        """Forecast by a fitted forecaster, and draw.

        Parameters
        ----------
        estimator : fitted forecaster
            `SSMFeaturesForecaster`, or any of sktime with ``predict_interval``.
        y : Series, DataFrame, or Panel of one series
            The history: what sktime's forecasters were fitted to; of a forecaster that was fitted to a panel,
            the series to continue.
        fh : horizon, or array of times ahead for a panel, optional
            As of ``predict``.
        X : as of ``predict``, optional
        coverage : float, default=0.8
            Of the intervals, between 0 and 1.
        actual : Series, DataFrame, or Panel of one series, optional
            What came.
        column : label, optional
            Which column of y, or channel of the panel; by default the first.
        last : int, optional
            How many of the last samples of the history to draw; by default all.
        ax : matplotlib Axes, optional
            By default those of a new figure.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError, TypeError, ValueError
            As ``predict_interval``; for several series, and a coverage that is not between 0 and 1.
        """
        if not 0 < coverage < 1:
            raise ValueError(f"coverage must be between 0 and 1; got {coverage!r}.")
        low, high = 0.5 - coverage / 2, 0.5 + coverage / 2
        if isinstance(y, Panel):
            if len(y) != 1:
                raise ValueError(f"y must hold one series; got {len(y)}.")
            number = 0 if column is None else _position(y, column)
            quantiles = estimator.predict_quantiles(y, fh, [low, high])
            point = estimator.predict(y, fh)
            parts = [_channel(point, number), *(_channel(quantiles, 2 * number + k) for k in range(2))]
            history, label = _channel(y, number), time_label(y.time_unit, y.has_times)
            came = None if actual is None else _channel(actual, number)
        else:
            interval = estimator.predict_interval(fh=fh, X=X, coverage=coverage)
            history = _column(y, column)
            point = _column(estimator.predict(fh=fh, X=X), column)
            name = interval.columns.get_level_values(0)[0] if column is None else column
            parts = [point, *(interval[(name, coverage, end)] for end in ("lower", "upper"))]
            label, came = "time", None if actual is None else _column(actual, column)
        forecast = pd.concat(parts, axis=1, keys=["forecast", "lower", "upper"])
        return cls(history if last is None else history.iloc[-last:], forecast, coverage, came, label).plot(
            ax=ax
        )

    def plot(self, *, ax: Any = None) -> ForecastDisplay:
        """Draw on ``ax`` or on a new figure; returns itself."""
        self.figure_, (self.ax_,) = axes_for(ax, 1, 4.0)
        axes, when = self.ax_, _drawn(self.forecast.index)
        # On irregular times the samples themselves are of interest.
        marker = "." if len(self.history) <= 200 else None
        axes.plot(_drawn(self.history.index), self.history, marker=marker, color="C0", label="history")
        (line,) = axes.plot(when, self.forecast["forecast"], marker=marker, color="C1", label="forecast")
        axes.fill_between(
            when,
            self.forecast["lower"],
            self.forecast["upper"],
            color=line.get_color(),
            alpha=0.3,
            linewidth=0,
            label=f"{100 * self.coverage:g} % interval",
        )
        if self.actual is not None:
            axes.plot(
                _drawn(self.actual.index),
                self.actual,
                "o",
                markersize=4,
                fillstyle="none",
                color="C0",
                label="what came",
            )
        axes.set_xlabel(self.label)
        if self.history.name is not None:
            axes.set_ylabel(str(self.history.name))
        axes.legend()
        return self


def _drawn(index: pd.Index) -> npt.NDArray[Any]:
    """Times as matplotlib takes them."""
    if isinstance(index, pd.PeriodIndex):
        index = index.to_timestamp()
    return np.asarray(index)


def _column(values: pd.Series | pd.DataFrame, column: Any) -> pd.Series:
    if isinstance(values, pd.Series):
        return values
    if not isinstance(values, pd.DataFrame):
        raise TypeError(
            f"y and actual must be a Series, a DataFrame or a Panel; got {type(values).__name__}."
        )
    return values.iloc[:, 0] if column is None else values[column]


def _channel(panel: Panel, number: int) -> pd.Series:
    times = panel.times if panel.times is not None else np.arange(len(panel.values), dtype=np.float64)
    name = None if panel.channel_names is None else panel.channel_names[number]
    return pd.Series(panel.values[:, number], index=times, name=name)


def _position(panel: Panel, column: Any) -> int:
    names = list(panel.channel_names or range(panel.n_channels))
    if column not in names:
        raise ValueError(f"column must be one of {names}; got {column!r}.")
    return names.index(column)
