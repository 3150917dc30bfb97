"""One step of a diagonal layer for one series.

The states x are registers (U, 2, W), real and imaginary parts, flat. ``rows`` are those of all layers for one
gap (see ``tsssm.ops.cpu.coefficients``). ``v`` is the input and ``y`` the output, P registers of channels
each. A sample whose ``gap`` is zero leaves the states alone and is read out like every other one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tsssm.ops.cpu.bounds import clipped, to_disc
from tsssm.ops.cpu.coefficients import FOH, GBT, A, B, Q, fill, get, load_mode
from tsssm.ops.cpu.compiling import routine
from tsssm.ops.cpu.simd import complex_of, load, pair, plus, plus_real, splat, store, width_of


class Weights(NamedTuple):
    """Weights of all layers, flat (see `tsssm.ops.cpu.stream.network.advance`); ``bounded`` if there are
    bounds."""

    readout: Any
    inputs: Any
    outputs: Any
    D: Any
    bounds: Any
    bounded: Any


class Layer(NamedTuple):
    """Where one layer of one series stands in flat arrays: index, first row, first state, last input."""

    index: Any
    row: Any
    start: Any
    before: Any


@routine
def fill_rows(rows: Any, system: Any, steps: Any, rule: Any, gap: float) -> None:
    """Coefficients of all layers for one gap, from ``system`` (units, 4, W) and ``steps`` (units, W)."""
    width = width_of(system)
    for r in range(system.shape[0]):
        s = load(steps, r * width) * splat(gap, steps)
        fill(rows, 2 * r * width, rule, False, load_mode(system, r), s)


@routine
def step_channels(
    v: Any,
    gap: float,
    rows: Any,
    weights: Any,
    modes: int,
    kind: int,
    layer: Any,
    x: Any,
    previous: Any,
    y: Any,
) -> None:
    """A system for each channel; its register i of channels has the units i N to (i + 1) N - 1.

    ``previous`` is the last input, for first-order hold. The bounds, which a layer has as it has rows, clip
    the input that acts on a transition; empty where none does.
    """
    width, padded, liquid = width_of(v), v.size, weights.bounded
    for i in range(0, padded, width):
        u = load(v, i)
        last = u
        if kind == FOH:
            last = load(previous, layer.before + i)
        total = load(weights.D, layer.index * padded + i) * u
        for n in range(i // width * modes, (i // width + 1) * modes):
            at, row = layer.start + 2 * n * width, layer.row + n * width
            z = pair(x, at)
            if gap > 0:
                a, b = get(rows, A, 2 * row), get(rows, B, 2 * row)
                driven = b * u
                if liquid:
                    a = plus(a, clipped(u, load(weights.bounds, row)), b)
                    if kind == GBT:
                        a, _ = to_disc(a)
                if kind == FOH:
                    driven = plus(driven, last, get(rows, Q, 2 * row))
                z = plus(driven, a, z)
                store(x, at, z)
            at = 2 * ((layer.index * (padded // width)) * modes + n) * width
            total = plus_real(total, pair(weights.readout, at), z)
        store(y, i, total)
        if kind == FOH and gap > 0:
            store(previous, layer.before + i, u)


@routine
def step_shared(
    v: Any, gap: float, rows: Any, weights: Any, channels: int, kind: int, layer: Any, x: Any, previous: Any,
    driven: Any, y: Any,
) -> None:  # fmt: skip
    """One system for all channels, with U registers of modes.

    Of the weights, ``inputs`` (layers, H, 2 U, W) is B, real parts first, and ``outputs`` (layers, 2 U W, P,
    W) what the parts of x, in the same order, contribute to each channel. ``driven`` is room for B v, and
    ``previous`` what that was for the last input.
    """
    width, padded, size = width_of(v), v.size, driven.size
    far, before = size // 2, layer.before
    if gap > 0:
        for i in range(0, size, width):
            total = splat(0.0, v)
            for j in range(channels):
                b = load(weights.inputs, (layer.index * channels + j) * size + i)
                total = plus(total, b, splat(v[j], v))
            store(driven, i, total)
        for i in range(0, far, width):
            row, at = 2 * (layer.row + i), layer.start + 2 * i
            now = complex_of(load(driven, i), load(driven, far + i))
            w = get(rows, B, row) * now
            if kind == FOH:
                last = complex_of(load(previous, before + i), load(previous, before + far + i))
                w = w + get(rows, Q, row) * last
                store(previous, before + i, load(driven, i))
                store(previous, before + far + i, load(driven, far + i))
            store(x, at, get(rows, A, row) * pair(x, at) + w)
    for i in range(0, padded, width):
        total = load(weights.D, layer.index * padded + i) * load(v, i)
        for p in range(far):
            # Position of mode p among the registers of real and imaginary parts.
            at = layer.start + p // width * 2 * width + p % width
            weight = (layer.index * size + p) * padded + i
            total = plus(total, load(weights.outputs, weight), splat(x[at], v))
            total = plus(total, load(weights.outputs, weight + far * padded), splat(x[at + width], v))
        store(y, i, total)
