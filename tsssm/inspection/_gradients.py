"""Integrated gradients of networks, brought back from their inputs to the measurements they are made of.

Symbols and shapes: u (L, d_in) the inputs of a network for one series, b (d_in,) the baseline of each of
them, g (L, d_in) the mean gradient of the answer on the way from b to u::

    answer(u) - answer(b) = sum of g (u - b)        (completeness)

Sundararajan, Taly, Yan, *Axiomatic attribution for deep networks*, arXiv 1703.01365, section 3.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tsssm.encoding import ChartEncoder, PanelEncoder
from tsssm.inspection._answers import Answer
from tsssm.inspection._captum import captum_attr
from tsssm.inspection._inputs import spread_chart, spread_series
from tsssm.panel import Panel

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Points of the integral that "auto" begins and ends with, and the gap that it is content with.
_FIRST, _MOST, _TOLERANCE = 32, 512, 1e-3
# Samples times points of the integral that are held at a time.
_AT_ONCE = 100_000


class Found(NamedTuple):
    """Attributions to values and to what is missing (total, d), and baselines and outputs (n,)."""

    values: FloatArray
    missing: FloatArray
    baseline: FloatArray
    output: FloatArray


def integrated_gradients(
    estimator: Any,
    panel: Panel,
    answer: Answer,
    background: Panel | None,
    rows: IntArray | None,
    n_steps: int | str,
) -> Found:
    """Attribute the answers of the networks of an estimator for the series of a panel.

    ``rows`` (n,) are the encoded samples at which the answers are read, by networks that answer along time;
    -1 is before the first one.
    """
    encoder: PanelEncoder = estimator.encoder_
    data = encoder.encode_all(panel)
    net = copy.deepcopy(estimator.net_).requires_grad_(False)
    b = torch.zeros(encoder.n_inputs) if background is None else _mean_inputs(encoder, background)
    weight = np.zeros(tuple(data.u.shape))
    baseline, output = np.empty(len(panel)), np.empty(len(panel))
    for i, (start, stop) in enumerate(
        zip(data.offsets[:-1].tolist(), data.offsets[1:].tolist(), strict=True)
    ):
        u, dt = data.u[start:stop], data.dt[start:stop]
        at = None if rows is None else int(rows[i]) - start
        if at is not None and at < 0:
            # Before the first sample with a value: the answer is that of a series without any.
            with torch.no_grad():
                nothing = answer.of(net(torch.zeros(1, 1, encoder.n_inputs)))
            baseline[i] = output[i] = float(nothing)
            continue
        run = _runner(net, answer, None if bool((dt == 1).all()) else dt, at)
        weight[start:stop], baseline[i], output[i] = _integrated(run, u, b, n_steps, answer.unit)
    below = b.numpy().astype(np.float64)
    if isinstance(encoder, ChartEncoder):
        return Found(*spread_chart(encoder, panel, weight, below), baseline, output)
    return Found(*spread_series(encoder, panel, weight, below), baseline, output)


def _mean_inputs(encoder: PanelEncoder, background: Panel) -> Tensor:
    """Mean inputs (d_in,) of some series, each of which counts alike."""
    data = encoder.encode_all(background)
    share = 1.0 / (len(data) * torch.repeat_interleave(data.lengths, data.lengths).double())
    return (share @ data.u.double()).float()


def _runner(net: Any, answer: Answer, dt: Tensor | None, at: int | None) -> Callable[[Tensor], Tensor]:
    """From inputs (k, L, d_in) of k variants of a series to answers (k,)."""

    def run(u: Tensor) -> Tensor:
        expanded = None if dt is None else dt.expand(len(u), -1)
        if at is None:
            return answer.of(net(u, expanded))
        where = torch.arange(len(u)), torch.full((len(u),), at)
        return answer.of(net(u, expanded, at=where))

    return run


def _integrated(
    run: Callable[[Tensor], Tensor], u: Tensor, b: Tensor, n_steps: int | str, unit: float
) -> tuple[FloatArray, float, float]:
    """Mean gradient (L, d_in), and the answers at the baseline and at the series."""
    method = captum_attr().IntegratedGradients(run, multiply_by_inputs=False)
    start = b.expand_as(u)[None]
    with torch.no_grad():
        before, after = run(torch.cat([start, u[None]])).double().tolist()
    steps = _FIRST if isinstance(n_steps, str) else n_steps
    allowed = _TOLERANCE * (abs(after - before) + unit)
    while True:
        at_once = max(1, _AT_ONCE // len(u))
        gradient = method.attribute(
            u[None].clone().requires_grad_(),
            baselines=start,
            n_steps=steps,
            internal_batch_size=at_once if at_once < steps else None,
        )[0]
        mean = gradient.detach().numpy().astype(np.float64)
        gap = after - before - float((mean * (u - b).numpy()).sum())
        if not isinstance(n_steps, str) or abs(gap) <= allowed or steps >= _MOST:
            return mean, before, after
        steps *= 2
