"""A fitted model that is fed sample by sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt

from tsssm.streaming._models import Streamable, model_of
from tsssm.streaming._samples import Memory


@dataclass(frozen=True)
class StreamState:
    """State of a `Stream`, to return to or to continue from in another one; its content is private.

    It can be pickled, and belongs to streams of the same model with the same ``n_series``.
    """

    _model: Any
    _memory: Memory

    def _copy(self) -> StreamState:
        return StreamState(self._model.copy(), self._memory.copy())


class Stream:
    """A model that takes one sample at a time, and predicts after each one.

    After the last sample of a series, the prediction is that of the model for the whole series, up to
    rounding. Memory and time for a sample do not grow with the samples before it, with one exception (see
    *Missing values*).

    Parameters
    ----------
    model : estimator or Backbone
        A fitted `SSMClassifier` or `SSMRegressor`, or a network, with ``bidirectional=False``: a layer that
        also runs backwards needs to see the end of the series. Or a fitted `SSMSequenceClassifier` or
        `SSMSequenceRegressor` with a number as ``lookahead``. Or a fitted `SSMFeatures`,
        `SSMFeaturesClassifier` or `SSMFeaturesRegressor` with ``normalize="global"`` or None; "auto" works
        for several channels, and for irregular times. Or a fitted `SSMFeaturesForecaster` or `SSMForecaster`
        whose network reads no other variables. Weights are copied: later changes of the model have no effect.
    n_series : int, optional
        Number B of series that are fed in lockstep, one sample of each at a time. By default there is one
        series, and arrays have no axis of series.
    quantiles : sequence of float, optional
        Levels in (0, 1): a forecaster then gives the quantiles, along a last axis.

    Attributes
    ----------
    compiled : bool
        Whether one compiled call runs all layers for a sample: for the layers "s4d", "dss", "s5", "linoss"
        and "liquid-s4" on float32 weights. Other layers run one after the other, some ten times as slow.
        Features are always compiled.

    Raises
    ------
    TypeError
        If ``model`` is none of the above, or ``n_series`` no integer.
    ValueError
        If the model is a network that is bidirectional or saw a single class in ``fit``, or features whose
        normalisation needs the whole series, or if ``n_series`` is not positive.
    NotFittedError
        If the estimator is not fitted.

    Notes
    -----
    *Predictions* are those of ``predict_proba`` for a classifier (a list of arrays where y had several
    columns), of ``predict`` for a regressor, of ``transform`` for `SSMFeatures`, and the outputs for a
    network, always without the axis of the series if there is one series. Those of estimators along time are
    for the time ``lookahead`` before the sample, and are final.

    *Forecasters* give the forecasts of the next samples, (horizon,) or (horizon, targets), as far as ``fh``
    in ``fit`` reached. After a fit with sktime's arguments the stream continues from the ends of the series,
    as ``update(..., update_params=False)`` and ``predict`` do; `reset` returns to them, and ``n_series`` is
    their number. After a fit to a `Panel` it starts before the first sample. Samples are taken in double
    precision, one for each step of the grid, and without times. Missing ones are filled by a straight line
    once a value comes, where ``predict`` also knows the season.

    *Missing values* are NaN, and treated as in ``fit``. A sample whose values are all missing only advances
    the time. Before the first value, the prediction is that for a series without values. The inputs of a
    network cannot be missing. For features a channel runs straight from one of its values to the next, which
    is not known before that comes: the samples since all channels were seen are kept, and gone through again
    with each sample.

    *Times* are numbers in the unit of the training series (seconds if they had stamps), counted from any
    origin, and must not decrease. A model that was trained on series with times needs one with each sample.
    For others they are optional: without them samples lie on the regular grid of training, and with them they
    count in units of its samples, or of ``time_scale`` if that is a number; for a network in units of ``dt``.

    A stream is for one thread at a time; different streams, copies included, may run at once.

    Examples
    --------
    >>> import numpy as np
    >>> from tsssm import SSMClassifier, Stream
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(20, 2, 30))  # 20 series, 2 channels, 30 samples
    >>> y = np.repeat(["rest", "walk"], 10)
    >>> X[y == "walk"] += 1.0
    >>> clf = SSMClassifier(bidirectional=False, n_layers=1, max_epochs=20, random_state=0).fit(X, y)
    >>> stream = Stream(clf)
    >>> for sample in X[-1].T:
    ...     proba = stream.push(sample)
    >>> bool(np.allclose(proba, clf.predict_proba(X[-1:])[0], atol=1e-5))
    True
    """

    compiled: bool

    def __init__(
        self, model: Streamable, n_series: int | None = None, quantiles: Sequence[float] | None = None
    ) -> None:
        levels = None if quantiles is None else np.atleast_1d(np.asarray(quantiles, np.float64)).tolist()
        if levels is not None and not (levels and all(0 < level < 1 for level in levels)):
            raise ValueError(f"quantiles must hold levels in (0, 1); got {quantiles!r}.")
        self._model, self._targets = model_of(model, levels)
        if n_series is not None:
            if isinstance(n_series, bool) or not isinstance(n_series, Integral):
                raise TypeError(f"n_series must be None or a positive int; got {n_series!r}.")
            if n_series < 1:
                raise ValueError(f"n_series must be None or a positive int; got {n_series!r}.")
        self._alone = n_series is None
        self._batch = 1 if n_series is None else int(n_series)
        self._samples = self._model.samples
        self.compiled = self._model.compiled
        self.reset()

    def reset(self) -> None:
        """Return to the state before the first sample."""
        self._state = self._model.initial_state(self._batch)
        self._memory = self._samples.memory(self._batch)

    def copy(self) -> Stream:
        """A stream that has seen the same samples and continues independently; it shares the weights."""
        other = object.__new__(Stream)
        other.__dict__.update(self.__dict__)
        other._model = self._model.fork()
        other.state = self.state
        return other

    @property
    def state(self) -> StreamState:
        """State of the stream. It can be set on this stream, or on another one of the model."""
        return StreamState(self._state, self._memory)._copy()

    @state.setter
    def state(self, state: StreamState) -> None:
        if not isinstance(state, StreamState):
            raise TypeError(f"state must be the state of a Stream; got {type(state).__name__}.")
        own, other = _shapes((self._state, self._memory)), _shapes((state._model, state._memory))
        if own != other:
            raise ValueError("state must be from a stream of the same model and number of series.")
        self._state, self._memory = state._model.copy(), state._memory.copy()

    def push(self, values: Any, time: Any = None) -> Any:
        """Take the next sample and return the prediction for the samples so far.

        Parameters
        ----------
        values : array (channels,), or (n_series, channels) with ``n_series``
            The sample, NaN where missing. The axis of the channels may be left out where there is one.
        time : float, or array (n_series,), optional
            When it was taken; one number counts for all series. See the notes of the class.

        Returns
        -------
        array (n_classes,) or (n_outputs,), float, or list of arrays
            With ``n_series`` these have a first axis of that length.

        Raises
        ------
        TypeError, ValueError
            For values and times that are not as documented; the stream is then as it was before.
        FloatingPointError
            If a prediction is not finite; the stream then has to be reset.
        """
        shape = () if self._alone else (self._batch,)
        checked = self._samples.checked_values(values, (*shape, self._samples.n_channels))
        times = None if time is None else np.asarray(time)[None]
        return self._answers(self._advance(checked[None], times), shape)

    def push_many(self, values: Any, times: Any = None) -> Any:
        """Take samples, one after the other, and return the prediction after each one.

        The same as calling `push` for each, but faster.

        Parameters
        ----------
        values : array (n_samples, channels), or (n_samples, n_series, channels) with ``n_series``
            The samples, NaN where missing. The axis of the channels may be left out where there is one.
        times : array (n_samples,), or (n_samples, n_series), optional
            When they were taken.

        Returns
        -------
        array (n_samples, ...), or list of arrays
            What `push` returns, stacked.

        Raises
        ------
        TypeError, ValueError
            For values and times that are not as documented; the stream is then as it was before.
        FloatingPointError
            If a prediction is not finite; the stream then has to be reset.
        """
        shape = () if self._alone else (self._batch,)
        checked = self._samples.checked_values(values, (None, *shape, self._samples.n_channels))
        return self._answers(self._advance(checked, times), (len(checked), *shape))

    def _advance(self, values: npt.NDArray[np.float32], times: Any) -> npt.NDArray[Any]:
        """Outputs (L, B, n_outputs) of the model after each of the samples (L, B, channels)."""
        length, batch = len(values), self._batch
        values = values.reshape(length, batch, self._samples.n_channels)
        checked = self._samples.checked_times(times, self._memory, (length, batch), self._alone)
        shape = length, batch, self._model.n_outputs
        outputs: npt.NDArray[Any] = np.empty(shape, self._model.dtype)
        if length:
            self._model.advance(self._state, self._memory, values, checked, outputs)
            # For the few outputs of one sample, NumPy takes four times as long.
            total = sum(outputs.ravel().tolist()) if outputs.size < 32 else outputs.sum()
            if not math.isfinite(total):
                raise FloatingPointError(
                    "the prediction is NaN or infinite, and all later ones would be, too: call reset, and "
                    f"check for extreme values; the latest samples reach {np.nanmax(np.abs(values)):g}."
                )
        return outputs

    def _answers(self, outputs: npt.NDArray[Any], shape: tuple[int, ...]) -> Any:
        """Outputs (L, B, n_outputs) in the terms of the estimator, with leading axes ``shape``."""
        flat = outputs.reshape(-1, self._model.n_outputs)
        answers = flat if self._targets is None else self._targets.answers(flat)
        several = isinstance(answers, list)
        # The index makes a number of an array without axes.
        columns = [
            column.reshape((*shape, *column.shape[1:]))[()] for column in (answers if several else [answers])
        ]
        return columns if several else columns[0]


def _shapes(state: Any) -> Any:
    """Types and shapes of whatever a state is made of."""
    if isinstance(state, (list, tuple)):
        return [type(state), *map(_shapes, state)]
    if is_dataclass(state):
        return [type(state), *map(_shapes, vars(state).values())]
    return getattr(state, "dtype", None), getattr(state, "shape", None)
