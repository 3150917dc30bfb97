"""One step of a diagonal layer for one series.

The states x are registers (U, 2, W), real and imaginary parts, from flat position ``start`` on. ``rows``
holds the coefficients of all layers for one gap in the planes of `tsssm.ops.cpu.rows`, those of this layer
from ``row`` on. ``v`` is the input and ``y`` the output, P registers of channels each. A sample whose ``gap``
is zero leaves the states alone and is read out like every other one.
"""

from __future__ import annotations

from typing import Any

from tsssm.ops.cpu.blocks import load_mode
from tsssm.ops.cpu.bounds import clipped
from tsssm.ops.cpu.compiling import inline, routine
from tsssm.ops.cpu.disc import to_disc
from tsssm.ops.cpu.rows import FOH, GBT, A, B, Q, fill, get, times
from tsssm.ops.cpu.simd import load, splat, store


@routine
def fill_rows(
    rows: Any, plane: int, system: Any, steps: Any, width: int, kind: int, alpha: float, gap: float
) -> None:
    """Coefficients of all layers for one gap, from ``system`` (units, 4, W) and ``steps`` (units, W)."""
    for r in range(system.shape[0]):
        s = load(steps, r * width) * splat(gap, steps)
        fill(rows, plane, r * width, width, kind, alpha, False, load_mode(system, r, width), s)


@inline
def transition(x: Any, at: int, width: int, ar: Any, ai: Any, wr: Any, wi: Any) -> Any:
    """x = a x + w for one register of modes."""
    xr, xi = times(ar, ai, load(x, at), load(x, at + width))
    xr, xi = xr + wr, xi + wi
    store(x, at, xr)
    store(x, at + width, xi)
    return xr, xi


@routine
def step_channels(
    v: Any,
    gap: float,
    rows: Any,
    plane: int,
    row: int,
    readout: Any,
    D: Any,
    bounds: Any,
    layer: int,
    modes: int,
    kind: int,
    x: Any,
    start: int,
    previous: Any,
    before: int,
    y: Any,
    width: int,
) -> None:
    """A system for each channel; its register i of channels has the units i N to (i + 1) N - 1.

    ``previous``, from ``before`` on, is the last input, for first-order hold. ``bounds``, which a layer has
    from ``row`` on as well, clip the input that acts on a transition; empty where none does.
    """
    padded, liquid = v.size, bounds.size > 0
    for i in range(0, padded, width):
        u = load(v, i)
        last = u
        if kind == FOH:
            last = load(previous, before + i)
        total = load(D, layer * padded + i) * u
        for n in range(i // width * modes, (i // width + 1) * modes):
            at = start + 2 * n * width
            xr, xi = load(x, at), load(x, at + width)
            if gap > 0:
                ar, ai = get(rows, plane, A, row + n * width)
                br, bi = get(rows, plane, B, row + n * width)
                wr, wi = br * u, bi * u
                if liquid:
                    acting = clipped(u, load(bounds, row + n * width))
                    ar, ai = ar + br * acting, ai + bi * acting
                    if kind == GBT:
                        ar, ai, _ = to_disc(ar, ai)
                if kind == FOH:
                    qr, qi = get(rows, plane, Q, row + n * width)
                    wr, wi = wr + qr * last, wi + qi * last
                xr, xi = transition(x, at, width, ar, ai, wr, wi)
            at = 2 * ((layer * (padded // width)) * modes + n) * width
            total = total + load(readout, at) * xr - load(readout, at + width) * xi
        store(y, i, total)
        if kind == FOH and gap > 0:
            store(previous, before + i, u)


@routine
def step_shared(
    v: Any,
    gap: float,
    rows: Any,
    plane: int,
    row: int,
    inputs: Any,
    outputs: Any,
    D: Any,
    layer: int,
    channels: int,
    kind: int,
    x: Any,
    start: int,
    previous: Any,
    before: int,
    driven: Any,
    y: Any,
    width: int,
) -> None:
    """One system for all channels, with U registers of modes.

    ``inputs`` (layers, H, 2 U, W) is B, real parts first, and ``outputs`` (layers, 2 U W, P, W) what the
    parts of x, in the same order, contribute to each channel. ``driven`` is room for B v, and ``previous``,
    from ``before`` on, what that was for the last input.
    """
    padded, size = v.size, driven.size
    imag = size // 2
    if gap > 0:
        for i in range(0, size, width):
            total = splat(0.0, v)
            for j in range(channels):
                total = total + load(inputs, (layer * channels + j) * size + i) * splat(v[j], v)
            store(driven, i, total)
        for i in range(0, imag, width):
            ar, ai = get(rows, plane, A, row + i)
            br, bi = get(rows, plane, B, row + i)
            ur, ui = load(driven, i), load(driven, imag + i)
            wr, wi = times(br, bi, ur, ui)
            if kind == FOH:
                qr, qi = get(rows, plane, Q, row + i)
                lr, li = times(qr, qi, load(previous, before + i), load(previous, before + imag + i))
                wr, wi = wr + lr, wi + li
                store(previous, before + i, ur)
                store(previous, before + imag + i, ui)
            transition(x, start + 2 * i, width, ar, ai, wr, wi)
    for i in range(0, padded, width):
        total = load(D, layer * padded + i) * load(v, i)
        for p in range(imag):
            # Position of mode p among the registers of real and imaginary parts.
            at = start + p // width * 2 * width + p % width
            real, imaginary = x[at], x[at + width]
            weight = (layer * size + p) * padded + i
            total = total + load(outputs, weight) * splat(real, v)
            total = total + load(outputs, weight + imag * padded) * splat(imaginary, v)
        store(y, i, total)
