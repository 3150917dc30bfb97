"""Passes over rows (samples) of H channels, H a multiple of the width of a register.

``keep`` says which rows count. Sums are made of parts of so many rows: one by one, a
long sum would lose digits. Calls on different ranges of rows may run at the same time.
"""

from __future__ import annotations

from typing import Any

from tsssm.ops.cpu.compiling import kernel
from tsssm.ops.cpu.memory import wipe, zeros
from tsssm.ops.cpu.simd import load, splat, store

_ROWS = 256
WIDTH = 16


@kernel
def statistics(h: Any, keep: Any, first: int, last: int, mean: Any, squares: Any) -> int:
    """Means of the rows that count and sums of the squares of what they differ by, and how many count.

    Parts are joined by the formula of Chan, Golub and LeVeque (1979), so that rows are read once.
    """
    channels = mean.size
    sums, spread = zeros((channels,), h), zeros((channels,), h)
    count = 0
    for start in range(first, last, _ROWS):
        stop = min(start + _ROWS, last)
        rows = 0
        wipe(sums)
        wipe(spread)
        for row in range(start, stop):
            if keep[row]:
                rows += 1
                for c in range(0, channels, WIDTH):
                    store(sums, c, load(sums, c) + load(h, row * channels + c))
        if rows == 0:
            continue
        share = splat(1 / rows, h)
        for c in range(0, channels, WIDTH):
            store(sums, c, load(sums, c) * share)
        for row in range(start, stop):
            if keep[row]:
                for c in range(0, channels, WIDTH):
                    difference = load(h, row * channels + c) - load(sums, c)
                    store(spread, c, load(spread, c) + difference * difference)
        total = count + rows
        step, between = splat(rows / total, h), splat(count * rows / total, h)
        for c in range(0, channels, WIDTH):
            apart = load(sums, c) - load(mean, c)
            store(mean, c, load(mean, c) + apart * step)
            store(squares, c, load(squares, c) + load(spread, c) + apart * apart * between)
        count = total
    return count


@kernel
def normalised(h: Any, keep: Any, mean: Any, factor: Any, bias: Any, first: int, last: int, out: Any) -> None:
    """(h - mean) factor + bias, and 0 where a row does not count."""
    channels, nothing = mean.size, splat(0.0, h)
    for row in range(first, last):
        for c in range(0, channels, WIDTH):
            at = row * channels + c
            value = load(h, at)
            if keep[row]:
                store(out, at, (value - load(mean, c)) * load(factor, c) + load(bias, c))
            else:
                store(out, at, nothing)


@kernel
def parameter_gradients(
    g: Any, h: Any, keep: Any, mean: Any, first: int, last: int, gweight: Any, gbias: Any
) -> None:
    """Add up g (h - mean) and g over the rows that count."""
    channels = mean.size
    products, sums = zeros((channels,), h), zeros((channels,), h)
    for start in range(first, last, _ROWS):
        wipe(products)
        wipe(sums)
        for row in range(start, min(start + _ROWS, last)):
            if keep[row]:
                for c in range(0, channels, WIDTH):
                    at = row * channels + c
                    upstream = load(g, at)
                    store(products, c, load(products, c) + upstream * (load(h, at) - load(mean, c)))
                    store(sums, c, load(sums, c) + upstream)
        for c in range(0, channels, WIDTH):
            store(gweight, c, load(gweight, c) + load(products, c))
            store(gbias, c, load(gbias, c) + load(sums, c))


@kernel
def input_gradient(
    g: Any,
    h: Any,
    keep: Any,
    mean: Any,
    factor: Any,
    slope: Any,
    offset: Any,
    first: int,
    last: int,
    gh: Any,
) -> None:
    """factor (g - offset - (h - mean) slope), and 0 where a row does not count."""
    channels, nothing = mean.size, splat(0.0, h)
    for row in range(first, last):
        for c in range(0, channels, WIDTH):
            at = row * channels + c
            value = load(h, at)
            if keep[row]:
                inner = load(g, at) - load(offset, c) - (value - load(mean, c)) * load(slope, c)
                store(gh, at, inner * load(factor, c))
            else:
                store(gh, at, nothing)
