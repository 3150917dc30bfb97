"""The outputs of a network along time: at any samples of series of any length."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from tsssm.backbone import Backbone
from tsssm.encoding import Encoded
from tsssm.training._run import _split_by_size

# Samples of a series that a network in one direction runs through at a time.
PIECE = 16_384


def predict_along(
    net: Backbone, data: Encoded, rows: Tensor, device: torch.device, piece: int = PIECE
) -> Tensor:
    """Return the outputs of ``net`` at samples of the series, float32 (m, n_outputs) on the CPU.

    A network in one direction runs through long series in pieces, from state to state, so that its memory
    does not grow with their length. One in both needs all features of a series at once.

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
    carried = not net.config["bidirectional"]
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
            length, last = u.shape[1], int(sample.max()) + 1
            step = piece if carried else length
            states = None
            # Backwards, everything matters; forwards, nothing after the last sample that is asked for.
            for start in range(0, last, step):
                part, gaps = (
                    None if whole is None else whole[:, start : start + step].to(device) for whole in (u, dt)
                )
                assert part is not None
                if carried and length > step:
                    h, states = net.advance(part, gaps, states)
                else:
                    h = net.features(part, gaps)
                here = torch.nonzero((sample >= start) & (sample < start + step))[:, 0]
                read = h[series[here].to(device), (sample[here] - start).to(device)]
                outputs[labels[here]] = net.head(read).cpu()
    result = torch.empty_like(outputs)
    result[order] = outputs
    return result
