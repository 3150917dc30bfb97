"""Any causal network over pieces of sequences, layer by layer, by the means of the network itself."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tsssm.backbone import Backbone

Array = npt.NDArray[Any]


@dataclass
class LayerwiseState:
    """What a network carries from sample to sample, for B series.

    Attributes
    ----------
    layers : list
        States of the layers, as these return them.
    sums, latest, kept : Tensor (B, H)
        What the mean over time has gathered, in float64; the features of the last sample; and those of the
        last one with a positive gap, or their maximum.
    clock : Tensor (B, 2), float64
        The first gap, and the sum of all.
    current : array (B, n_outputs)
        Outputs after the last sample.
    """

    layers: list[Any]
    sums: Tensor
    latest: Tensor
    kept: Tensor
    clock: Tensor
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

    def fork(self) -> LayerwiseNetwork:
        """The network itself, which several streams may use at the same time."""
        return self

    def initial_state(self, batch: int) -> LayerwiseState:
        """The state of ``batch`` series before their first sample."""
        head = self._net.head
        features = head.weight.new_zeros(batch, head.in_features)
        layers = [block.layer.initial_state(batch) for block in self._blocks]
        return LayerwiseState(
            layers,
            features.double(),
            features.clone(),
            features.clone(),
            torch.zeros(batch, 2, dtype=torch.float64),
            np.zeros((batch, head.out_features)),
        )

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
        # A regular grid spares layers the coefficients of every sample.
        steps = None if bool((gaps == 1).all()) else gaps
        inputs = torch.from_numpy(u.swapaxes(0, 1).copy()).to(net.head.weight.dtype)
        states = [_map(lambda part: part[rows], before) for before in state.layers]
        features, states = net.advance(inputs, steps, states)
        for before, after in zip(state.layers, states, strict=True):
            _map(lambda old, new: old[rows].copy_(new), before, after)
        pooled = self._pooled(state, rows, features, gaps)
        y[:] = net.head(pooled).transpose(0, 1).numpy()
        state.current[rows] = y[-1]

    def _pooled(self, state: LayerwiseState, rows: slice, z: Tensor, gaps: Tensor) -> Tensor:
        """Summaries (B, L, H) of the samples up to each one, given the features z (B, L, H)."""
        first, total = state.clock[rows].unbind(-1)
        first = torch.where(total > 0, first, gaps[:, 0].double())
        elapsed = total[:, None] + gaps.double().cumsum(1)
        counts = (gaps > 0)[..., None]
        if self._net.pooling == "max":
            started = (total > 0)[:, None]
            start = torch.where(started, state.kept[rows], -torch.inf)
            history = torch.cat([start[:, None], z.masked_fill(~counts, -torch.inf)], dim=1)
            kept = history.cummax(dim=1).values[:, 1:]
        else:
            # The features of the last sample with a positive gap, those of earlier calls included.
            positions = torch.arange(1, z.shape[1] + 1)
            latest = torch.where(gaps > 0, positions, 0).cummax(dim=1).values
            history = torch.cat([state.kept[rows][:, None], z], dim=1)
            kept = history.gather(1, latest[..., None].expand_as(z))
        pooled = kept
        if self._net.pooling == "mean":
            # Every sample counts with the gaps before and after it; that after the last one is the first gap.
            earlier = torch.cat([state.latest[rows][:, None], z[:, :-1]], dim=1)
            terms = gaps.double()[..., None] * (earlier.double() + z)
            sums = state.sums[rows][:, None] + terms.cumsum(1)
            pooled = ((sums + first[:, None, None] * kept) / (2 * elapsed)[..., None]).to(z.dtype)
            state.sums[rows] = sums[:, -1]
            state.latest[rows] = z[:, -1]
        state.kept[rows] = kept[:, -1]
        state.clock[rows] = torch.stack([first, elapsed[:, -1]], dim=-1)
        return pooled


def _map(function: Any, *states: Any) -> Any:
    """Apply a function of tensors to states of a layer, which are tensors or named tuples of them."""
    first = states[0]
    if isinstance(first, Tensor):
        return function(*states)
    return type(first)(*(_map(function, *parts) for parts in zip(*states, strict=True)))
