"""Any causal network over pieces of sequences, layer by layer, by the means of the network itself."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tsssm.backbone import POOLINGS, Backbone

Array = npt.NDArray[Any]


@dataclass
class LayerwiseState:
    """What a network carries from sample to sample, for B series.

    Attributes
    ----------
    layers : list
        States of the layers, as these return them.
    pooled : Tensor or tuple of Tensor
        That of the summary over time, as `Pooling.advance` returns it.
    current : array (B, n_outputs)
        Outputs after the last sample.
    """

    layers: list[Any]
    pooled: Any
    current: Array

    def copy(self) -> LayerwiseState:
        """A state that shares no memory with this one."""
        return copy.deepcopy(self)


class LayerwiseNetwork:
    """A network that continues from states.

    Parameters
    ----------
    net : Backbone
        With layers in one direction; on the CPU in evaluation mode, and nobody else's.
    """

    def __init__(self, net: Backbone) -> None:
        self._net = net
        self._blocks: list[Any] = list(net.blocks)
        self._pooling = POOLINGS[net.pooling]

    def fork(self) -> LayerwiseNetwork:
        """The network itself, which several streams may use at the same time."""
        return self

    def initial_state(self, batch: int) -> LayerwiseState:
        """The state of ``batch`` series before their first sample."""
        head = self._net.head
        features = head.weight.new_zeros(batch, head.in_features)
        layers = [block.layer.initial_state(batch) for block in self._blocks]
        return LayerwiseState(layers, self._pooling.start(features), np.zeros((batch, head.out_features)))

    def advance(self, state: LayerwiseState, u: Array, dt: Array, y: Array) -> None:
        """Run the network over samples and change its state in place.

        Parameters
        ----------
        state : LayerwiseState
        u : array (L, B, d_in), float32
            Inputs.
        dt : array (L, B), float32
            Time since the previous sample; negative where a series has no sample.
        y : array (L, B, n_outputs), float64
            Receives the outputs after each sample.
        """
        present = dt >= 0
        with torch.inference_mode():
            if present.all():
                self._advance(state, slice(None), u, dt, y)
                return
            # Series that miss different samples do not share their steps.
            for b in range(dt.shape[1]):
                rows, samples = slice(b, b + 1), np.flatnonzero(present[:, b])
                before = state.current[b].copy()
                outputs = np.empty((len(samples), 1, y.shape[2]))
                if len(samples):
                    self._advance(state, rows, u[samples, rows], dt[samples, rows], outputs)
                known = np.concatenate([before[None], outputs[:, 0]])
                y[:, b] = known[np.cumsum(present[:, b])]

    def _advance(self, state: LayerwiseState, rows: slice, u: Array, dt: Array, y: Array) -> None:
        net = self._net
        gaps = torch.from_numpy(dt.T.copy())
        inputs = torch.from_numpy(u.swapaxes(0, 1).copy()).to(net.head.weight.dtype)
        kept = [*state.layers, state.pooled]
        *layers, pooled = [_map(lambda part: part[rows], before) for before in kept]
        # A regular grid spares layers the coefficients of every sample.
        features, layers = net.advance(inputs, None if bool((gaps == 1).all()) else gaps, layers)
        summaries, pooled = self._pooling.advance(features, gaps, pooled)
        for before, after in zip(kept, [*layers, pooled], strict=True):
            _map(lambda old, new: old[rows].copy_(new), before, after)
        y[:] = net.head(summaries).transpose(0, 1).numpy()
        state.current[rows] = y[-1]


def _map(function: Any, *states: Any) -> Any:
    """Apply a function of tensors to states, which are tensors or named tuples of them."""
    first = states[0]
    if isinstance(first, Tensor):
        return function(*states)
    return type(first)(*(_map(function, *parts) for parts in zip(*states, strict=True)))
