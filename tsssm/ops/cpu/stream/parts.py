"""What stands between the layers of a network, for the features of one sample."""

from __future__ import annotations

from math import erf, sqrt
from typing import Any

from tsssm.ops.cpu.compiling import inline, routine
from tsssm.ops.cpu.elementary import exp_expm1
from tsssm.ops.cpu.lanewise import constant
from tsssm.ops.cpu.simd import load, splat, store

_HALF_ROOT = sqrt(0.5)


@routine
def affine(weight: Any, at: int, stride: int, v: Any, count: int, out: Any, to: int, width: int) -> None:
    """A register of ``weight v + bias``, written to ``out`` from ``to`` on.

    Row j of the weights, what v[j] contributes, stands at flat position ``at + j * stride``; the bias is the
    row after the last.
    """
    total = load(weight, at + count * stride)
    for j in range(count):
        total = total + load(weight, at + j * stride) * splat(v[j], v)
    store(out, to, total)


@routine
def normalise(h: Any, norms: Any, at: int, eps: float, channels: int, out: Any, width: int) -> None:
    """Scale and shift each channel, by what stands from ``at`` on; before that, if ``eps`` > 0, layer norm.

    Padded channels have scale and shift 0.
    """
    padded = out.size
    mean, inverse = 0.0, 1.0
    if eps > 0:
        for c in range(channels):
            mean += h[c]
        mean /= channels
        variance = 0.0
        for c in range(channels):
            variance += (h[c] - mean) ** 2
        inverse = 1 / sqrt(variance / channels + eps)
    for i in range(0, padded, width):
        centred = (load(h, i) - splat(mean, h)) * splat(inverse, h)
        store(out, i, centred * load(norms, at + i) + load(norms, at + padded + i))


@routine
def gelu(y: Any, channels: int) -> None:
    """The Gaussian error linear unit, y Phi(y), in place."""
    for c in range(channels):
        y[c] = y[c] * (1 + erf(y[c] * _HALF_ROOT)) / 2


@routine
def add_gated(mixed: Any, h: Any, width: int) -> None:
    """Add a sigmoid(g) to h, where ``mixed`` holds the a of all channels and then the g."""
    padded = h.size
    for i in range(0, padded, width):
        a, g = load(mixed, i), load(mixed, padded + i)
        store(h, i, load(h, i) + a * sigmoid(g))


@inline
def sigmoid(g: Any) -> Any:
    """1 / (1 + exp(-g))"""
    one = constant(g, "one")
    e, _ = exp_expm1(-g)
    return one / (one + e)
