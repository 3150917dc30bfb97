"""What a stream feeds: a network after the encoding of its inputs, or closed-form features before a ridge.

Symbols and shapes: B series in lockstep, d channels, L samples::

    values   (L, B, d)          samples, NaN where missing
    times    (L, B) or None     when they were taken
    outputs  (L, B, n_outputs)  receives the outputs after each sample
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tsssm.backbone import Backbone
from tsssm.encoding import PanelEncoder
from tsssm.estimators import (
    SSMClassifier,
    SSMFeatures,
    SSMFeaturesClassifier,
    SSMFeaturesForecaster,
    SSMFeaturesRegressor,
    SSMForecaster,
    SSMRegressor,
    SSMSequenceClassifier,
    SSMSequenceRegressor,
)
from tsssm.features import (
    ChartFeatures,
    Features,
    RunningCharts,
    RunningFeatures,
)
from tsssm.streaming._compiled import CompiledNetwork, has_compiled_form
from tsssm.streaming._forecasts import ForecastingModel, Paths
from tsssm.streaming._layerwise import LayerwiseNetwork
from tsssm.streaming._samples import Memory, Samples
from tsssm.training import Committee, members_of

Array = npt.NDArray[Any]
Streamable = (
    SSMClassifier
    | SSMRegressor
    | SSMSequenceClassifier
    | SSMSequenceRegressor
    | SSMFeatures
    | SSMFeaturesClassifier
    | SSMFeaturesRegressor
    | SSMFeaturesForecaster
    | SSMForecaster
    | Backbone
)


class NetworkModel:
    """A network or a committee, and the encoding of its inputs if there is one."""

    dtype: type = np.float64

    def __init__(self, net: Backbone | Committee, encoder: PanelEncoder | None) -> None:
        net = copy.deepcopy(net).cpu().eval().requires_grad_(False)
        members = members_of(net)
        n_inputs = members[0].encoder.in_features
        self.n_outputs = members[0].head.out_features
        self.samples = Samples(encoder, n_inputs if encoder is None else encoder.n_channels)
        self.compiled = all(map(has_compiled_form, members))
        form: Any = CompiledNetwork if self.compiled else LayerwiseNetwork
        self._networks = [form(member) for member in members]
        # Standardised inputs of a sample without values are zeros, with those of the missing mask.
        u = np.zeros((1, 1, n_inputs), np.float32)
        self._before = []
        for network in self._networks:
            y = np.empty((1, 1, self.n_outputs))
            network.advance(network.initial_state(1), u, np.ones((1, 1), np.float32), y)
            self._before.append(y[0, 0])

    def initial_state(self, batch: int) -> States:
        """The state of ``batch`` series before their first sample."""
        states = [network.initial_state(batch) for network in self._networks]
        for state, before in zip(states, self._before, strict=True):
            state.current[:] = before
        return States(states)

    def fork(self) -> NetworkModel:
        """The same model, which may run at the same time."""
        other = copy.copy(self)
        other._networks = [network.fork() for network in self._networks]
        return other

    def advance(self, state: Any, memory: Memory, values: Array, times: Array | None, outputs: Array) -> None:
        """Take samples in and write the outputs after each of them."""
        encoded = [
            self.samples.encode(values[k], None if times is None else times[k], memory)
            for k in range(len(values))
        ]
        u, dt = (np.stack(parts) for parts in zip(*encoded, strict=True))
        self._networks[0].advance(state.parts[0], u, dt, outputs)
        if len(self._networks) > 1:
            own = np.empty_like(outputs)
            for network, part in zip(self._networks[1:], state.parts[1:], strict=True):
                network.advance(part, u, dt, own)
                outputs += own
            outputs /= len(self._networks)


@dataclass
class States:
    """What several models carry from sample to sample."""

    parts: list[Any]

    def copy(self) -> States:
        """A state that shares no memory with this one."""
        return States([part.copy() for part in self.parts])


class FeaturesState:
    """What `FeaturesModel` carries from sample to sample, for each of the series."""

    def __init__(self, series: list[Any]) -> None:
        self.series = series

    @property
    def shape(self) -> tuple[int, ...]:
        """What it has in common with the states that can take its place: not how many samples are pending."""
        return len(self.series), *self.series[0].shape

    def copy(self) -> FeaturesState:
        """A state that shares no memory with this one."""
        return FeaturesState([one.copy() for one in self.series])


class FeaturesModel:
    """Closed-form features, and the linear model on them if there is one."""

    compiled = True

    def __init__(self, fitted: Features, ridge: tuple[Array, Array] | None) -> None:
        self._running: RunningCharts | RunningFeatures
        if isinstance(fitted, ChartFeatures):
            self._running = RunningCharts(fitted)
        else:
            self._running = RunningFeatures(fitted)
        self.samples = Samples(fitted.encoder, self._running.n_channels)
        self._ridge = ridge
        self.n_outputs = self._running.n_features_out if ridge is None else len(ridge[1])
        self.dtype: type = np.float32 if ridge is None else np.float64

    def initial_state(self, batch: int) -> FeaturesState:
        """As `NetworkModel.initial_state`."""
        return FeaturesState([self._running.start() for _ in range(batch)])

    def fork(self) -> FeaturesModel:
        """The model itself, which several streams may use at the same time."""
        return self

    def advance(self, state: Any, memory: Memory, values: Array, times: Array | None, outputs: Array) -> None:
        """As `NetworkModel.advance`."""
        for k, sample in enumerate(values):
            time = self.samples.move_clock(None if times is None else times[k], memory)
            for b, series in enumerate(state.series):
                self._running.take(series, sample[b], time[b], times is not None)
                features = self._running.features(series)
                if self._ridge is None:
                    outputs[k, b] = features
                else:
                    coef, intercept = self._ridge
                    outputs[k, b] = features.astype(np.float64) @ coef + intercept


class BlendedModel:
    """A network beside a closed form, each with a memory of its own of the samples."""

    dtype: type = np.float64

    def __init__(self, estimator: SSMClassifier | SSMRegressor) -> None:
        closed_form = estimator.closed_form_
        assert estimator.net_ is not None and closed_form is not None and estimator.blend_ is not None
        self._network = NetworkModel(estimator.net_, estimator.encoder_)
        self._closed_form = FeaturesModel(closed_form.features, (closed_form.coef, closed_form.intercept))
        self._targets, self._blend = estimator._targets, estimator.blend_
        self.samples, self.n_outputs = self._network.samples, self._network.n_outputs
        self.compiled = self._network.compiled

    def initial_state(self, batch: int) -> States:
        """As `NetworkModel.initial_state`."""
        states = [self._network.initial_state(batch), self._closed_form.initial_state(batch)]
        return States([*states, self._closed_form.samples.memory(batch)])

    def fork(self) -> BlendedModel:
        """As `NetworkModel.fork`."""
        other = copy.copy(self)
        other._network = self._network.fork()
        return other

    def advance(self, state: Any, memory: Memory, values: Array, times: Array | None, outputs: Array) -> None:
        """As `NetworkModel.advance`."""
        network, closed_form, own_memory = state.parts
        self._network.advance(network, memory, values, times, outputs)
        length, batch = outputs.shape[:2]
        ridge = np.empty((length, batch, self._closed_form.n_outputs))
        self._closed_form.advance(closed_form, own_memory, values, times, ridge)
        flat = outputs.reshape(length * batch, -1)
        blended = self._targets.blended(ridge.reshape(length * batch, -1), flat, self._blend)
        outputs[:] = blended.reshape(outputs.shape)


def model_of(
    model: Any, levels: Sequence[float] | None = None
) -> tuple[NetworkModel | FeaturesModel | BlendedModel | ForecastingModel, Any]:
    """What a stream of a model feeds, and what turns its outputs into answers, if anything does.

    Raises
    ------
    TypeError, ValueError, NotFittedError
        As `tsssm.Stream` says.
    """
    if isinstance(model, (SSMFeaturesForecaster, SSMForecaster)):
        forecasting = ForecastingModel(copy.copy(model), levels)
        return forecasting, Paths(forecasting.shape)
    if levels is not None:
        raise ValueError(f"quantiles need a forecaster as model; got a {type(model).__name__}.")
    if isinstance(model, SSMFeatures):
        model.check_is_fitted()
        return FeaturesModel(model.features_, None), None
    if isinstance(model, (SSMFeaturesClassifier, SSMFeaturesRegressor)):
        model.check_is_fitted()
        ridge = model.coef_.copy(), model.intercept_.copy()
        return FeaturesModel(model.features_, ridge), model._targets
    if isinstance(model, Backbone):
        _check_direction(model)
        return NetworkModel(model, None), None
    along = isinstance(model, (SSMSequenceClassifier, SSMSequenceRegressor))
    if not along and not isinstance(model, (SSMClassifier, SSMRegressor)):
        raise TypeError(
            f"model must be a fitted estimator of tsssm, or a Backbone; got {type(model).__name__}. Of a "
            "pipeline, stream the last step."
        )
    model.check_is_fitted()
    if model.net_ is None:
        raise ValueError("model saw a single class in fit and has no network: it always predicts that class.")
    _check_direction(model.net_, "a number as lookahead" if along else None)
    if not along and model.closed_form_ is not None:
        return BlendedModel(model), model._targets
    return NetworkModel(model.net_, model.encoder_), model._targets


def _check_direction(net: Backbone | Committee, remedy: str | None = None) -> None:
    blocks: list[Any] = [block for member in members_of(net) for block in member.blocks]
    if any(block.layer.bidirectional for block in blocks):
        raise ValueError(
            "model is bidirectional and cannot predict before the end of a series: to stream, fit it with "
            f"{remedy or 'bidirectional=False'}."
        )
