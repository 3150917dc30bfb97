"""Causal convolution in the time domain, W channels in registers: for short series faster than transforms.

One kernel, out_k += sum_j a_j b_{k-j}, serves the convolution and both of its adjoints: with g reversed
in time, the gradient of the input is the convolution of the kernel with g, reversed, and the gradient of
the kernel is the convolution of the input with g, reversed.
"""

from __future__ import annotations

from typing import Any

from tsssm.ops.cpu.compiling import inline, kernel
from tsssm.ops.cpu.memory import wipe, zeros
from tsssm.ops.cpu.simd import load, store

# Outputs computed together; each load of ``a`` and ``b`` then serves four products.
_GROUP = 4


@inline
def _accumulate(a: Any, lags: int, b: Any, out: Any, length: int, width: int) -> None:
    """Add the convolution to ``out``, which may be overrun by `_GROUP`; ``b`` follows as many zeros."""
    for k in range(0, length, _GROUP):
        y0, y1 = load(out, k * width), load(out, (k + 1) * width)
        y2, y3 = load(out, (k + 2) * width), load(out, (k + 3) * width)
        at = (k + _GROUP) * width
        b0, b1, b2, b3 = load(b, at), load(b, at + width), load(b, at + 2 * width), load(b, at + 3 * width)
        for j in range(min(k + _GROUP, lags)):
            aj = load(a, j * width)
            y0, y1, y2, y3 = y0 + aj * b0, y1 + aj * b1, y2 + aj * b2, y3 + aj * b3
            b1, b2, b3 = b0, b1, b2
            b0 = load(b, (k + _GROUP - 1 - j) * width)
        store(out, k * width, y0)
        store(out, (k + 1) * width, y1)
        store(out, (k + 2) * width, y2)
        store(out, (k + 3) * width, y3)


@inline
def _read(source: Any, row: int, h0: int, reverse: bool, out: Any, offset: int, width: int) -> None:
    """Copy W channels of ``source[row]`` (L, H) to ``out`` from sample ``offset`` on."""
    length, channels = source.shape[1], source.shape[2]
    lanes = min(width, channels - h0)
    for k in range(length):
        t = length - 1 - k if reverse else k
        if lanes == width:
            store(out, (offset + k) * width, load(source, (row * length + t) * channels + h0))
        else:
            for w in range(lanes):
                out[(offset + k) * width + w] = source[row, t, h0 + w]


@inline
def _write(target: Any, row: int, h0: int, reverse: bool, values: Any, width: int) -> None:
    """Copy ``values`` to W channels of ``target[row]`` (L, H)."""
    length, channels = target.shape[1], target.shape[2]
    for k in range(length):
        t = length - 1 - k if reverse else k
        for w in range(min(width, channels - h0)):
            target[row, k, h0 + w] = values[t * width + w]


@kernel
def convolve(u: Any, kernel: Any, first: int, last: int, b0: int, b1: int, y: Any) -> None:
    """Outputs ``y`` (M, batch, L, H) for a range of blocks of W channels and of series."""
    width = 64 // u.itemsize
    length, lags = u.shape[1], kernel.shape[1]
    ub = zeros(((length + 2 * _GROUP) * width,), u)
    kb = zeros((lags * width,), u)
    yb = zeros(((length + _GROUP) * width,), u)
    for block in range(first, last):
        h0 = block * width
        for m in range(kernel.shape[0]):
            _read(kernel, m, h0, False, kb, 0, width)
            for b in range(b0, b1):
                _read(u, b, h0, False, ub, _GROUP, width)
                wipe(yb)
                _accumulate(kb, lags, ub, yb, length, width)
                _write(y[m], b, h0, False, yb, width)


@kernel
def convolve_adjoint(
    gy: Any, u: Any, kernel: Any, first: int, last: int, b0: int, b1: int, gu: Any, gkernel: Any
) -> None:
    """Adjoint of `convolve`: writes ``gu``, and ``gkernel`` (M, L', H) for this range of series."""
    width = 64 // u.itemsize
    length, channels, lags = u.shape[1], u.shape[2], kernel.shape[1]
    gb = zeros(((length + 2 * _GROUP) * width,), u)
    ub = zeros((length * width,), u)
    kb = zeros((lags * width,), u)
    gub = zeros(((length + _GROUP) * width,), u)
    gkb = zeros(((length + _GROUP) * width,), u)
    for block in range(first, last):
        h0 = block * width
        for b in range(b0, b1):
            _read(u, b, h0, False, ub, 0, width)
            wipe(gub)
            for m in range(kernel.shape[0]):
                _read(kernel, m, h0, False, kb, 0, width)
                _read(gy[m], b, h0, True, gb, _GROUP, width)
                _accumulate(kb, lags, gb, gub, length, width)
                wipe(gkb)
                _accumulate(ub, length, gb, gkb, length, width)
                for j in range(lags):
                    for w in range(min(width, channels - h0)):
                        gkernel[m, j, h0 + w] += gkb[(length - 1 - j) * width + w]
            _write(gu, b, h0, True, gub, width)
