"""The closed form as ONNX operators: state-space features of regular series, and a linear model on top.

Symbols and shapes: B series of d channels and L samples, G systems of N states and R readouts::

    values   (B, L, d)      NaN after the end of a series
    now      (B, G)         input of each system at a sample, and with the value of the one before: ``before``
    y        (B, G, R)      readouts
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from tsssm.discretize import discretize_dense, discretize_diagonal
from tsssm.encoding import LARGEST_VALUE
from tsssm.exporting._checks import ExportError
from tsssm.exporting._encoding import seen_values
from tsssm.exporting._graph import Graph
from tsssm.features import ChartFeatures, Features, StateSpaceFeatures
from tsssm.ops.features import COMPETITORS

Array = npt.NDArray[Any]


class _Masks(NamedTuple):
    """Names: which samples are of their series (B, L, 1), how many they are (B, 1, 1), in float64."""

    inside: str
    length: str


def check_features(features: Features) -> StateSpaceFeatures:
    """Return features that have an ONNX form.

    Raises
    ------
    ExportError
        For those of charts, and of series with times or missing values: what lies between samples is not
        written.
    """
    if isinstance(features, ChartFeatures):
        raise ExportError("The closed form of clinical charts cannot be exported to ONNX.")
    encoder = features.encoder
    if encoder.has_times or encoder.missing:
        had = "times" if encoder.has_times else "missing values"
        raise ExportError(
            f"The closed form cannot be exported to ONNX where training series had {had}: it needs "
            "the curve between samples. Fit to regular series without times, or with n_features=0."
        )
    return features


def linear_outputs(g: Graph, features: StateSpaceFeatures, coef: Array, intercept: Array) -> str:
    """Outputs (B, m), float64, of a linear model on features of the input ``values``.

    NaN for a series with a value missing before its end: the features would be of a curve between samples.
    """
    seen = g.cast(seen_values(g, "values", features.encoder), np.float64)
    length = g.op("Gather", g.op("Shape", "values"), g.constant(1, np.int64))
    numbers = g.op("Range", g.constant(0, np.int64), length, g.constant(1, np.int64))
    positions = g.axis(g.cast(numbers, np.float64), 0, 2)
    last = _largest(g, g.op("Mul", g.op("ReduceMax", seen, axes=[2], keepdims=1), positions))
    inside = g.op("LessOrEqual", positions, last)
    masks = _Masks(inside, g.op("Add", last, _real(g, 1.0)))
    lacking = g.op("Mul", g.cast(inside, np.float64), g.op("Sub", _real(g, 1.0), seen))
    broken = g.op("Greater", g.op("ReduceMax", lacking, axes=[1, 2], keepdims=0), _real(g, 0.0))
    known = g.op("Where", g.cast(seen, np.bool_), g.cast("values", np.float64), _real(g, 0.0))
    values, slopes = _signals(g, features, known, masks)
    pooled = _pooled(g, features, values, slopes, masks)
    flat = g.cast(g.op("Reshape", pooled, g.constant([0, -1], np.int64)), np.float64)
    outputs = g.op("Add", g.op("MatMul", flat, _real(g, coef)), _real(g, intercept))
    return g.op("Where", g.axis(broken, 1), _real(g, np.nan), outputs)


def _real(g: Graph, value: npt.ArrayLike) -> str:
    return g.constant(value, np.float64)


def _largest(g: Graph, name: str) -> str:
    return g.op("ReduceMax", name, axes=[1], keepdims=1)


def _mean(g: Graph, name: str, masks: _Masks) -> str:
    """Mean (B, 1, d) over the samples of each series."""
    kept = g.op("Where", masks.inside, name, _real(g, 0.0))
    return g.op("Div", g.total(kept, 1, keep=True), masks.length)


def _or_one(g: Graph, scale: str) -> str:
    return g.op("Where", g.op("Greater", scale, _real(g, 0.0)), scale, _real(g, 1.0))


def _before(g: Graph, name: str) -> str:
    """A tensor (B, L, ...) one sample later, the first sample twice."""
    zero, one, end, axis = (g.constant([k], np.int64) for k in (0, 1, -1, 1))
    first, rest = (
        g.op("Slice", name, zero, one, axis),
        g.op("Slice", name, zero, end, axis),
    )
    return g.op("Concat", first, rest, axis=1)


def _signals(g: Graph, features: StateSpaceFeatures, values: str, masks: _Masks) -> tuple[str, str]:
    """Normalised values and slopes (B, L, d), as of `Timeline.sample` on a grid; float32."""
    timeline, encoder = features.timeline, features.encoder
    step = encoder.step * encoder.time_scale_ / timeline.unit
    if timeline.normalize == "series":
        values = g.op("Sub", values, _mean(g, values, masks))
        low, high = (g.op("Where", masks.inside, values, _real(g, end)) for end in (np.inf, -np.inf))
        varies = g.op("Greater", _largest(g, high), g.op("ReduceMin", low, axes=[1], keepdims=1))
        std = g.op("Sqrt", _mean(g, g.op("Mul", values, values), masks))
        values = g.op("Div", values, _or_one(g, g.op("Where", varies, std, _real(g, 0.0))))
    else:
        reach = LARGEST_VALUE * encoder.std
        values = g.op("Max", values, _real(g, encoder.mean - reach))
        values = g.op("Min", values, _real(g, encoder.mean + reach))
        values = g.op("Div", g.op("Sub", values, _real(g, timeline._mean)), _real(g, timeline._std))
    slopes = g.op("Div", g.op("Sub", values, _before(g, values)), _real(g, step))
    if timeline.normalize_slopes == "series":
        scale = _or_one(g, g.op("Sqrt", _mean(g, g.op("Mul", slopes, slopes), masks)))
    else:
        scale = _real(g, timeline.slope_scale)
    slopes = g.op("Div", slopes, scale)
    slopes = g.op("Clip", slopes, _real(g, -LARGEST_VALUE), _real(g, LARGEST_VALUE))
    return g.cast(values, np.float32), g.cast(slopes, np.float32)


def _pooled(g: Graph, features: StateSpaceFeatures, values: str, slopes: str, masks: _Masks) -> str:
    """Features (B, G, kinds, R), as `ops.pooled_scan` and `finished`."""
    fixed = {**features._systems, **features._readouts}
    A, B, mix_u, mix_held, C, D = (fixed[name] for name in ("A", "B", "mix_u", "mix_held", "C", "D"))
    value = g.op("MatMul", values, g.constant(mix_u.numpy().T))
    held = g.op("MatMul", slopes, g.constant(mix_held.numpy().T))
    now, before = g.add(value, held), g.add(_before(g, value), held)
    body = Graph(g)
    u, v, mask = (body.name(name) for name in ("now", "before", "inside"))
    step = features.encoder.step * features.encoder.time_scale_ / features.timeline.unit
    states, y = _step(body, A, B, C, u, v, step)
    y = body.add(y, body.mul(g.constant(D.numpy()), body.axis(u, 2)))
    thresholds = features._thresholds.numpy()
    kept: list[str] = []
    if "ppv" in features.pooling:
        kept += [body.cast(body.op("Greater", y, g.constant(thresholds[:, k])), np.float32) for k in range(2)]
    if "competition" in features.pooling:
        kept += _competition(body, y, D.shape[1])
    inside, sums = body.axis(mask, 2), []
    shape = (len(D), D.shape[1])
    for part in kept:
        total = body.name("total")
        sums.append((g.zeros("values", shape), total, body.add(total, body.mul(part, inside))))
    starts = [(g.zeros("values", shape), name, after) for shape, name, after in states]
    pairs = [(now, u), (before, v), (g.cast(masks.inside, np.float32), mask)]
    found = g.scan(body, [*starts, *sums], pairs, [], states_too=True)[len(starts) :]
    count = g.cast(masks.length, np.float32)
    shares = [g.op("Div", part, count) for part in found]
    if "competition" in features.pooling:
        roots = [g.op("Sqrt", g.op("Max", part, g.constant(0.0))) for part in shares[-2:]]
        shares = [*shares[:-2], *roots]
    return g.op("Concat", *(g.axis(part, 2) for part in shares), axis=2)


def _step(
    body: Graph, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor, u: str, v: str, step: float
) -> tuple[list[tuple[tuple[int, ...], str, str]], str]:
    """One step of the systems: shape, name before and after of their states, and Re(C x) (B, G, R)."""
    width = torch.full((1, 1), step, dtype=torch.float64)
    now, before = body.axis(u, 2), body.axis(v, 2)
    readout = C.transpose(1, 2)
    if A.ndim == 3:
        A_bar, B_bar, B_prev = discretize_dense(A, B, width[0], "foh")
        assert B_prev is not None
        x = body.name("state")
        moved = body.op("MatMul", body.constant(A_bar.numpy()), body.axis(x, 3))
        moved = body.op("Squeeze", moved, body.constant([3], np.int64))
        driven = (
            body.mul(body.constant(part.numpy()), one) for part, one in ((B_bar, now), (B_prev, before))
        )
        after = body.add(moved, body.add(*driven))
        states = [(tuple(B.shape), x, after)]
        seen, weights = after, readout.numpy()
    else:
        A_bar, B_bar, B_prev = discretize_diagonal(A, B, width, "foh")
        assert B_prev is not None
        x_re, x_im = body.name("state"), body.name("state")
        a, b, p = (part.numpy() for part in (A_bar, B_bar, B_prev))
        parts = []
        for turned, other, part in ((a.real, -a.imag, "real"), (a.imag, a.real, "imag")):
            moved = body.add(body.mul(x_re, body.constant(turned)), body.mul(x_im, body.constant(other)))
            driven = (
                body.mul(body.constant(getattr(one, part)), name) for one, name in ((b, now), (p, before))
            )
            parts.append(body.add(moved, body.add(*driven)))
        states = [(tuple(B.shape), x_re, parts[0]), (tuple(B.shape), x_im, parts[1])]
        seen = body.op("Concat", *parts, axis=2)
        weights = torch.cat([readout.real, -readout.imag], dim=1).numpy()
    y = body.op("MatMul", body.axis(seen, 2), body.constant(weights))
    return states, body.op("Squeeze", y, body.constant([2], np.int64))


def _competition(body: Graph, y: str, readouts: int) -> list[str]:
    """The largest of each block of neighbours, where it is, and where the smallest is; (B, G, R) each."""
    blocks = body.constant([0, 0, readouts // COMPETITORS, COMPETITORS], np.int64)
    whole = body.constant([0, 0, readouts], np.int64)
    block = body.op("Reshape", y, blocks)
    best, worst = (body.op(kind, block, axes=[3], keepdims=1) for kind in ("ReduceMax", "ReduceMin"))
    is_best, is_worst = (body.op("Equal", block, one) for one in (best, worst))
    largest = body.op("Where", is_best, best, body.constant(0.0))
    return [body.op("Reshape", part, whole) for part in (largest, body.cast(is_worst, np.float32))]
