"""One pass over memory each: activation and gate with their dropout, and the adjoints.

Arrays are float32, flat where they are indexed, and whole registers long; ``noise`` (int16) is empty where
nothing is dropped, else an entry counts ``scale`` times where its noise is at least ``least``, and not at all
elsewhere.
"""

from __future__ import annotations

from typing import Any

from tsssm.ops.cpu.compiling import inline, kernel
from tsssm.ops.cpu.gating.normal import kept, logistic, normal
from tsssm.ops.cpu.lanewise import constant
from tsssm.ops.cpu.memory import wipe, zeros
from tsssm.ops.cpu.simd import load, splat, store, where

# Rows whose contributions to the gradient of the bias are added up before they join the total: a long sum
# one by one would lose digits.
_ROWS = 256
WIDTH = 16


@inline
def _dropped(value: Any, noise: Any, at: int, least: int, scale: Any) -> Any:
    if noise.size > 0:
        value = where(kept(noise, at, least, value), value * scale, constant(value, "zero"))
    return value


@kernel
def gelu(y: Any, noise: Any, least: int, scale: float, out: Any, slope: Any) -> None:
    """m y Phi(y), and its derivative m (Phi(y) + y phi(y)) unless ``slope`` is empty."""
    factor = splat(scale, y)
    for at in range(0, y.size, WIDTH):
        value = load(y, at)
        share, bell = normal(value)
        store(out, at, _dropped(value * share, noise, at, least, factor))
        if slope.size > 0:
            rise = share + value * bell * constant(value, "1/sqrt(2 pi)")
            store(slope, at, _dropped(rise, noise, at, least, factor))


@kernel
def gated_sum(h: Any, z: Any, bias: Any, noise: Any, least: int, scale: float, out: Any) -> None:
    """h + m a sigmoid(b) for each row, with (a, b) = z + bias."""
    channels = bias.size // 2
    factor = splat(scale, h)
    for row in range(h.size // channels):
        for c in range(0, channels, WIDTH):
            at, pair = row * channels + c, 2 * row * channels + c
            a = load(z, pair) + load(bias, c)
            gate, _ = logistic(load(z, pair + channels) + load(bias, channels + c))
            store(out, at, load(h, at) + _dropped(a * gate, noise, at, least, factor))


@kernel
def gated_sum_adjoint(
    g: Any, z: Any, bias: Any, noise: Any, least: int, scale: float, gz: Any, gbias: Any
) -> None:
    """The gradient of z; its sum over the rows is added to ``gbias``."""
    channels = bias.size // 2
    rows = g.size // channels
    factor = splat(scale, z)
    sums = zeros((2 * channels,), z)
    for start in range(0, rows, _ROWS):
        wipe(sums)
        for row in range(start, min(start + _ROWS, rows)):
            for c in range(0, channels, WIDTH):
                at, pair = row * channels + c, 2 * row * channels + c
                a = load(z, pair) + load(bias, c)
                gate, rest = logistic(load(z, pair + channels) + load(bias, channels + c))
                ga = gate * _dropped(load(g, at), noise, at, least, factor)
                gb = ga * a * rest
                store(gz, pair, ga)
                store(gz, pair + channels, gb)
                store(sums, c, load(sums, c) + ga)
                store(sums, channels + c, load(sums, channels + c) + gb)
        for c in range(0, 2 * channels, WIDTH):
            store(gbias, c, load(gbias, c) + load(sums, c))
