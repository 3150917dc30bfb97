"""What a stream feeds: a network after the encoding of its inputs, or closed-form features before a ridge.

Symbols and shapes: B series in lockstep, d channels, L samples::

    values   (L, B, d)          samples, NaN where missing
    times    (L, B) or None     when they were taken
    outputs  (L, B, n_outputs)  receives the outputs after each sample
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt

from tsssm.backbone import Backbone
from tsssm.encoding import PanelEncoder
from tsssm.estimators import (
    SSMClassifier,
    SSMFeatures,
    SSMFeaturesClassifier,
    SSMFeaturesRegressor,
    SSMRegressor,
)
from tsssm.features import Running, RunningFeatures
from tsssm.streaming._compiled import CompiledNetwork, has_compiled_form
from tsssm.streaming._layerwise import LayerwiseNetwork
from tsssm.streaming._samples import Memory, Samples

Array = npt.NDArray[Any]
Streamable = (
    SSMClassifier | SSMRegressor | SSMFeatures | SSMFeaturesClassifier | SSMFeaturesRegressor | Backbone
)


class NetworkModel:
    """A network, and the encoding of its inputs if there is one."""

    dtype: type = np.float64

    def __init__(self, net: Backbone, encoder: PanelEncoder | None) -> None:
        net = copy.deepcopy(net).cpu().eval().requires_grad_(False)
        self.n_outputs = net.head.out_features
        self.samples = Samples(encoder, net.encoder.in_features if encoder is None else encoder.n_channels)
        self.compiled = has_compiled_form(net)
        form: Any = CompiledNetwork if self.compiled else LayerwiseNetwork
        self._network = form(net)
        # Standardised inputs of a sample without values are zeros, with those of the missing mask.
        u = np.zeros((1, 1, net.encoder.in_features), np.float32)
        y = np.empty((1, 1, self.n_outputs))
        self._network.advance(self._network.initial_state(1), u, np.ones((1, 1), np.float32), y)
        self._before = y[0, 0]

    def initial_state(self, batch: int) -> Any:
        """The state of ``batch`` series before their first sample."""
        state = self._network.initial_state(batch)
        state.current[:] = self._before
        return state

    def fork(self) -> NetworkModel:
        """The same model, which may run at the same time."""
        other = copy.copy(self)
        other._network = self._network.fork()
        return other

    def advance(self, state: Any, memory: Memory, values: Array, times: Array | None, outputs: Array) -> None:
        """Take samples in and write the outputs after each of them."""
        encoded = [
            self.samples.encode(values[k], None if times is None else times[k], memory)
            for k in range(len(values))
        ]
        u, dt = (np.stack(parts) for parts in zip(*encoded, strict=True))
        self._network.advance(state, u, dt, outputs)


class FeaturesState:
    """What `FeaturesModel` carries from sample to sample, for each of the series."""

    def __init__(self, series: list[Running]) -> None:
        self.series = series

    @property
    def shape(self) -> tuple[int, ...]:
        """What it has in common with the states that can take its place: not how many samples are pending."""
        x, total = self.series[0].settled.x, self.series[0].settled.total
        return len(self.series), *x.shape, *total.shape

    def copy(self) -> FeaturesState:
        """A state that shares no memory with this one."""
        return FeaturesState([one.copy() for one in self.series])


class FeaturesModel:
    """Closed-form features, and the ridge regression on them if there is one."""

    compiled = True

    def __init__(self, estimator: SSMFeatures | SSMFeaturesClassifier | SSMFeaturesRegressor) -> None:
        fitted = estimator.features_
        self._running = RunningFeatures(fitted)
        self.samples = Samples(fitted.timeline.encoder, self._running.n_channels)
        self._ridge: tuple[Array, Array] | None = None
        self.n_outputs = self._running.n_features_out
        if not isinstance(estimator, SSMFeatures):
            self._ridge = estimator.coef_.copy(), estimator.intercept_.copy()
            self.n_outputs = len(self._ridge[1])
        self.dtype: type = np.float32 if self._ridge is None else np.float64

    def initial_state(self, batch: int) -> FeaturesState:
        """As `NetworkModel.initial_state`."""
        return FeaturesState([self._running.start() for _ in range(batch)])

    def fork(self) -> FeaturesModel:
        """The model itself, which several streams may use at the same time."""
        return self

    def advance(
        self, state: FeaturesState, memory: Memory, values: Array, times: Array | None, outputs: Array
    ) -> None:
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


def model_of(model: Any) -> tuple[NetworkModel | FeaturesModel, Any]:
    """What a stream of a model feeds, and the estimator whose answers its outputs stand for, if they do.

    Raises
    ------
    TypeError, ValueError, NotFittedError
        As `tsssm.Stream` says.
    """
    if isinstance(model, (SSMFeatures, SSMFeaturesClassifier, SSMFeaturesRegressor)):
        model.check_is_fitted()
        return FeaturesModel(model), None if isinstance(model, SSMFeatures) else copy.copy(model)
    if isinstance(model, (SSMClassifier, SSMRegressor)):
        model.check_is_fitted()
        if model.net_ is None:
            raise ValueError(
                "model saw a single class in fit and has no network: its answer does not depend on samples."
            )
        net, estimator, encoder = model.net_, copy.copy(model), model.encoder_
    elif isinstance(model, Backbone):
        net, estimator, encoder = model, None, None
    else:
        raise TypeError(
            f"model must be a fitted estimator of tsssm, or a Backbone; got {type(model).__name__}. Of a "
            "pipeline, stream the last step."
        )
    blocks: list[Any] = list(net.blocks)
    if any(block.layer.bidirectional for block in blocks):
        raise ValueError(
            "model is bidirectional and has to see the end of a series before it can answer: fit it with "
            "bidirectional=False to stream."
        )
    return NetworkModel(net, encoder), estimator
