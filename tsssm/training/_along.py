"""The outputs of a network along time: at any samples of series of any length."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from tsssm.backbone import Backbone
from tsssm.encoding import Encoded
from tsssm.training._both_ways import BothWays
from tsssm.training._run import _split_by_size

# Samples of a series that a network runs through at a time.
PIECE = 16_384


def predict_along(
    net: Backbone, data: Encoded, rows: Tensor, device: torch.device, piece: int = PIECE
) -> Tensor:
    """Return the outputs of ``net`` at samples of the series, float32 (m, n_outputs) on the CPU.

    Long series are run through in pieces, from state to state, so that memory does not grow with their
    length: a network in one direction once, one in both as `BothWays` does.

    Parameters
    ----------
    net : Backbone
    data : Encoded
    rows : Tensor (m,), int64
        Rows of the data at which to read, in any order.
    device : torch.device
    piece : int
        Samples of a piece.

    Returns
    -------
    Tensor (m, n_outputs)
    """
    if device.type != "cpu":
        net = copy.deepcopy(net).to(device)
    rows, order = rows.sort(stable=True)
    bounds = torch.searchsorted(rows, data.offsets)
    outputs = torch.empty(len(rows), net.head.out_features)
    by_length = data.lengths.argsort(stable=True)
    with torch.inference_mode():
        for chosen in _split_by_size(by_length, data.lengths[by_length]):
            first, counts = bounds[chosen], bounds[chosen + 1] - bounds[chosen]
            series = torch.repeat_interleave(torch.arange(len(chosen)), counts)
            labels = torch.arange(len(series)) + (first - (counts.cumsum(0) - counts))[series]
            if len(labels) == 0:
                continue
            sample = rows[labels] - data.offsets[chosen][series]
            u, dt = data.batch(chosen)
            last = int(sample.max())
            for start, h in _features(net, u, dt, device, piece):
                here = torch.nonzero((sample >= start) & (sample < start + h.shape[1]))[:, 0]
                read = h[series[here].to(device), (sample[here] - start).to(device)]
                outputs[labels[here]] = net.head(read).cpu()
                if last < start + h.shape[1]:
                    break
    result = torch.empty_like(outputs)
    result[order] = outputs
    return result


def _features(
    net: Backbone, u: Tensor, dt: Tensor | None, device: torch.device, piece: int
) -> Iterator[tuple[int, Tensor]]:
    """Yield the first sample of each piece and its features (batch, piece, d_model)."""
    length = u.shape[1]
    if length <= piece:
        yield 0, net.features(u.to(device), None if dt is None else dt.to(device))
    elif net.config["bidirectional"]:
        yield from BothWays(net, piece).features(u, dt)
    else:
        states = None
        for start in range(0, length, piece):
            part, own = (
                None if whole is None else whole[:, start : start + piece].to(device) for whole in (u, dt)
            )
            assert part is not None
            h, states = net.advance(part, own, states)
            yield start, h
