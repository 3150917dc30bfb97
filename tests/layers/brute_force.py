"""The truth about a layer: a loop over the dense system of one channel and one series, by SciPy."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm
from torch import Tensor

from tsssm.discretize import gbt_alpha
from tsssm.layers import LSSL, LiquidS4, SSMLayer


class Dense(NamedTuple):
    """The system of one channel: A (N, N), B (N,), readouts C (directions, N), D and Delta."""

    A: NDArray[Any]
    B: NDArray[Any]
    C: NDArray[Any]
    D: float
    step: float


def dense_system(layer: SSMLayer, channel: int) -> Dense:
    p = {name: value.detach().numpy() for name, value in layer.state_dict().items()}
    D, step = float(p["D"][channel]), float(np.exp(p["log_dt"][channel]))
    if isinstance(layer, LSSL):
        return Dense(p["A"], p["B"], p["C"][:, channel], D, step)
    eigenvalues = layer.eigenvalues().detach().numpy()[channel]
    B, C = (np.ascontiguousarray(p[name]).view(complex)[..., 0] for name in ("B", "C"))
    return Dense(np.diag(eigenvalues), B[channel], 2 * C[:, channel], D, step)


def one_step(A: NDArray[Any], B: NDArray[Any], s: float, method: str | float) -> tuple[NDArray[Any], ...]:
    """Transition and the coefficients of the current and the previous input, of a dense system."""
    n = len(B)
    alpha = gbt_alpha(method)
    if alpha is not None:
        left, right = np.eye(n) - alpha * s * A, np.eye(n) + (1 - alpha) * s * A
        return np.linalg.solve(left, right), np.linalg.solve(left, s * B), np.zeros(n)
    block = np.zeros((n + 2, n + 2), complex)
    block[:n, :n], block[:n, n], block[n, n + 1] = A * s, B * s, 1
    block = expm(block)
    held, rising = block[:n, n], block[:n, n + 1]
    return (block[:n, :n], held, np.zeros(n)) if method == "zoh" else (block[:n, :n], rising, held - rising)


def run_dense(
    layer: SSMLayer, system: Dense, C: NDArray[Any], u: NDArray[Any], dt: list[float]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Output and final state of one channel of one series from rest; every gap is positive."""
    method = layer.alpha if isinstance(layer, LSSL) else layer.method
    x, before, y = np.zeros(len(system.B), system.A.dtype), 0.0, np.empty(len(u))
    for k, (u_k, gap) in enumerate(zip(u, dt, strict=True)):
        A_bar, now, past = one_step(system.A, system.B, system.step * gap, method)
        if isinstance(layer, LiquidS4):
            transition = np.diag(A_bar) + now * u_k
            A_bar = np.diag(transition / np.maximum(1, np.abs(transition)))
        x = A_bar @ x + now * u_k + past * before
        before, y[k] = u_k, (C @ x).real
    return y, x


def brute_force(
    layer: SSMLayer, u: Tensor, dt: Tensor, lengths: list[int]
) -> tuple[list[NDArray[Any]], NDArray[Any]]:
    """Valid outputs of each series, (length, H), and the final states of the forward direction.

    Going back from one sample to the one before it takes the gap between them, and the last sample, which
    the backward direction meets first, takes the first gap of the series.
    """
    outputs, states = [], []
    for series, length in enumerate(lengths):
        y, x = np.empty((length, layer.d_model)), []
        values, delta = u[series, :length].numpy(), dt[series, :length].tolist()
        for h in range(layer.d_model):
            system = dense_system(layer, h)
            y[:, h], final = run_dense(layer, system, system.C[0], values[:, h], delta)
            y[:, h] += system.D * values[:, h]
            x.append(final)
            if layer.bidirectional:
                back = [delta[0], *reversed(delta[1:])]
                y[:, h] += run_dense(layer, system, system.C[1], values[::-1, h], back)[0][::-1]
        outputs.append(y)
        states.append(np.stack(x))
    return outputs, np.stack(states)
