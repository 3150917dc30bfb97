"""The recurrence of a plain scan with the rows of ``tsssm.ops.cpu.nodes``, made where they are used."""

from __future__ import annotations

from typing import Any

from numba import njit

from tsssm.ops.cpu.blocks import CHUNK
from tsssm.ops.cpu.nodes import NODE, move
from tsssm.ops.cpu.rows import A, P, put
from tsssm.ops.cpu.simd import load, store


@njit(nogil=True)
def run_nodes(
    u: Any,
    y: Any,
    table: Any,
    starts: Any,
    nearest: Any,
    powers: Any,
    modes: Any,
    weights: Any,
    state: Any,
    n: int,
    count: int,
    width: int,
) -> None:
    """`run_rows` with the coefficients of modes n and n + 1 made on the way."""
    at, at_2 = 2 * n * width, 2 * (n + 1) * width
    one, two = modes
    wr, wi = load(weights, at), load(weights, at + width)
    vr, vi = wr - wr, wi - wi
    if n + 1 < weights.shape[0]:
        vr, vi = load(weights, at_2), load(weights, at_2 + width)
    xr, xi = load(state, at), load(state, at + width)
    zr, zi = load(state, at_2), load(state, at_2 + width)
    for k in range(count):
        node = nearest[k] * NODE * width
        uk = load(u, k * width)
        ar, ai, pr, pi = move(table, starts[0] + node, width, powers, k, one)
        xr, xi = pr * uk + ar * xr - ai * xi, pi * uk + ar * xi + ai * xr
        ar, ai, pr, pi = move(table, starts[1] + node, width, powers, k, two)
        zr, zi = pr * uk + ar * zr - ai * zi, pi * uk + ar * zi + ai * zr
        store(y, k * width, load(y, k * width) + wr * xr - wi * xi + vr * zr - vi * zi)
    store(state, at, xr)
    store(state, at + width, xi)
    store(state, at_2, zr)
    store(state, at_2 + width, zi)


@njit(forceinline=True)
def states_nodes(
    X: Any,
    u: Any,
    x: Any,
    rows: Any,
    plane: int,
    table: Any,
    start: int,
    nearest: Any,
    powers: Any,
    mode: Any,
    count: int,
    width: int,
) -> None:
    """`states_rows` with the rows of the chunk made on the way and kept."""
    imag = (CHUNK + 1) * width
    xr, xi = x
    store(X, 0, xr)
    store(X, imag, xi)
    for k in range(count):
        at = k * width
        uk = load(u, at)
        ar, ai, pr, pi = move(table, start + nearest[k] * NODE * width, width, powers, k, mode)
        put(rows, plane, A, at, ar, ai)
        put(rows, plane, P, at, pr, pi)
        xr, xi = pr * uk + ar * xr - ai * xi, pi * uk + ar * xi + ai * xr
        store(X, at + width, xr)
        store(X, imag + at + width, xi)
