"""The truth about a layer: a loop over the dense system of one channel and one series, by SciPy."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm
from torch import Tensor

from tsssm.discretize import gbt_alpha
from tsssm.layers import DSS, LSSL, S4, S5, LinOSS, LiquidS4, SSMLayer


class Dense(NamedTuple):
    """The system of one channel: A (N, N), B (N,), readouts C (directions, N), D and Delta."""

    A: NDArray[Any]
    B: NDArray[Any]
    C: NDArray[Any]
    D: float
    step: float
    stored: int | None = None  # the layer holds so many states, of which the others are the conjugates


def dense_system(layer: SSMLayer, channel: int) -> Dense:
    p = {name: value.detach().numpy() for name, value in layer.state_dict().items()}
    D, step = float(np.atleast_2d(p["D"])[0, channel]), float(np.exp(p["log_dt"][channel]))
    if isinstance(layer, LSSL):
        A, B = (value.detach().numpy() for value in layer.transition())
        return Dense(A[channel % len(A)], B[channel % len(B)], p["C"][:, 0, channel], D, step)
    eigenvalues = layer.eigenvalues().detach().numpy()[channel]
    C = np.ascontiguousarray(p["C"]).view(complex)[:, channel, :, 0]
    if isinstance(layer, DSS):
        B = np.ones_like(eigenvalues)
        if layer.form == "softmax":
            x = np.expm1(eigenvalues * step * layer.horizon)
            C = C * x.conj() / (np.abs(x) ** 2 + 1e-7)
    else:
        B = np.ascontiguousarray(p["B"]).view(complex)[channel, :, 0]
    if isinstance(layer, LiquidS4):
        B, C = B * p["scale"], C / p["scale"]
    if isinstance(layer, LiquidS4) and layer.system == "dplr":
        P = np.ascontiguousarray(p["P"]).view(complex)[:, channel, :, 0]
        # Both halves of the conjugate pairs: over one half the matrix is not linear.
        Lambda, P, B, C = (np.concatenate([z, z.conj()], -1) for z in (eigenvalues, P, B, C))
        return Dense(np.diag(Lambda) - P.T @ P.conj(), B, C, D, step)
    if isinstance(layer, S4):
        low_rank = np.ascontiguousarray(p["P"]).view(complex)[:, channel, :, 0]
        low_rank, B, C = (np.concatenate([half, half.conj()], axis=-1) for half in (low_rank, B, C))
        A = np.diag(np.concatenate([eigenvalues, eigenvalues.conj()])) - low_rank.T @ low_rank.conj()
        return Dense(A, B, C, D, step, stored=len(eigenvalues))
    return Dense(np.diag(eigenvalues), B, 2 * C, D, step)


def one_step(A: NDArray[Any], B: NDArray[Any], s: float, method: str | float) -> tuple[NDArray[Any], ...]:
    """Transition and the coefficients of the current and the previous input, of a dense system."""
    n = len(B)
    alpha = gbt_alpha(method)
    if alpha is not None:
        left, right = np.eye(n) - alpha * s * A, np.eye(n) + (1 - alpha) * s * A
        return np.linalg.solve(left, right), np.linalg.solve(left, s * B), np.zeros(n)
    block = np.zeros((n + 2, n + 2), np.result_type(A, B))
    block[:n, :n], block[:n, n], block[n, n + 1] = A * s, B * s, 1
    block = expm(block)
    held, rising = block[:n, n], block[:n, n + 1]
    return (block[:n, :n], held, np.zeros(n)) if method == "zoh" else (block[:n, :n], rising, held - rising)


def run_dense(
    layer: SSMLayer, system: Dense, C: NDArray[Any], u: NDArray[Any], dt: list[float]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Output and final state of one channel of one series from rest; every gap is positive."""
    if isinstance(layer, LiquidS4):
        return run_liquid(layer, system, C, u, dt)
    method = layer.method
    x, before, y = np.zeros(len(system.B), system.A.dtype), 0.0, np.empty(len(u))
    for k, (u_k, gap) in enumerate(zip(u, dt, strict=True)):
        A_bar, now, past = one_step(system.A, system.B, system.step * gap, method)
        x = A_bar @ x + now * u_k + past * before
        before, y[k] = u_k, (C @ x).real
    return y, x


def bounded(f: NDArray[Any]) -> NDArray[Any]:
    """Entries of modulus above 1 scaled back to it."""
    return f / np.maximum(1, np.abs(f))


def run_liquid(
    layer: LiquidS4, system: Dense, C: NDArray[Any], u: NDArray[Any], dt: list[float]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """As `run_dense`, for each kernel of Liquid-S4; the states of the chain come first to last order."""
    x, past, y = np.zeros((1, len(system.B)), complex), [], np.empty(len(u))
    limit = -np.diag(system.A).real / np.abs(system.B)
    if layer.kernel == "exact" and layer.order is not None:
        x = np.zeros((layer.order, len(system.B)), complex)
    for k, (u_k, gap) in enumerate(zip(u, dt, strict=True)):
        A_bar, now, _ = one_step(system.A, system.B, system.step * gap, layer.method)
        w = now * u_k
        # Over a diagonal system the input acts on the transition up to where its mode stops to decay.
        acting = now * np.clip(u_k, -limit, limit)
        if layer.kernel != "exact":
            # Products of the last q inputs, for q = 1 to p.
            products = [np.prod(past[-q:], axis=0) for q in range(1, min(layer.order, len(past) + 1))]
            correlation = w * sum(products, np.zeros(len(w)))
            x = x @ A_bar.T + w + (correlation if layer.kernel == "kb" else 0)
            seen = x[0] + (correlation if layer.kernel == "pb" else 0)
            past.append(bounded(w))
        elif layer.order is None and layer.system == "diagonal":
            x = bounded(np.diag(A_bar) + acting) * x + w
            seen = x[0]
        elif layer.order is None:
            v = x @ A_bar.T + w * x
            x = v * min(1, np.linalg.norm(x) / max(np.linalg.norm(v), 1e-300)) + w
            seen = x[0]
        else:
            transition = np.diag(A_bar)
            G = bounded(transition + acting) - transition if layer.system == "diagonal" else bounded(w)
            x = x @ A_bar.T + np.concatenate([w[None], G * x[:-1]])
            seen = x.sum(0)
        y[k] = (C @ seen).real
    if layer.system == "dplr":
        x = x[:, : layer.d_state // 2]
    return y, x[0] if layer.system == "diagonal" and layer.order is None else x


def run_shared(
    layer: S5, C: NDArray[Any], u: NDArray[Any], dt: list[float]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """As `run_dense`, for all channels at once over both halves of the conjugate pairs."""
    p = {name: value.detach().numpy() for name, value in layer.state_dict().items()}
    half, B = -np.exp(p["A_real"]) + 1j * p["A_imag"], p["B"][..., 0] + 1j * p["B"][..., 1]
    step = np.tile(np.exp(p["log_dt"]), 2)
    A = np.diag(step * np.concatenate([half, half.conj()]))
    B, C = step[:, None] * np.concatenate([B, B.conj()]), np.concatenate([C, C.conj()], axis=1)
    x, before, y = np.zeros(len(A), complex), np.zeros(layer.d_model), np.empty(u.shape)
    for k, gap in enumerate(dt):
        inputs = [one_step(A, column, gap, layer.method) for column in B.T]
        A_bar = inputs[0][0]
        x = A_bar @ x + sum(
            now * value + past * earlier
            for (_, now, past), value, earlier in zip(inputs, u[k], before, strict=True)
        )
        before, y[k] = u[k], (C @ x).real
    return y, x[: len(half)]


def run_oscillators(
    layer: LinOSS, C: NDArray[Any], u: NDArray[Any], dt: list[float]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """As `run_shared`, each oscillator in the real coordinates of its position and its velocity."""
    p = {name: value.detach().numpy() for name, value in layer.state_dict().items()}
    steps, a, omega = (np.exp(p[name]) for name in ("log_dt", "log_decay", "log_frequency"))
    positions, modes = [], []
    for P, (s, G, A) in enumerate(zip(steps, 2 * a, a**2 + omega**2, strict=True)):
        system = np.array([[0.0, 1.0], [-A, -G]]), np.array([0.0, A**0.5])
        x, before, q = np.zeros(2), 0.0, np.empty(len(u))
        for k, (drive, gap) in enumerate(zip(u @ p["B"][P], dt, strict=True)):
            A_bar, now, past = one_step(*system, s * gap, layer.method)
            x = A_bar @ x + now * drive + past * before
            before, q[k] = drive, x[0]
        positions.append(q)
        modes.append((x[1] + (a[P] + 1j * omega[P]) * x[0]) / A**0.5)
    return np.stack(positions, axis=1) @ C.T, np.array(modes)


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
        back = [delta[0], *reversed(delta[1:])]
        if isinstance(layer, (S5, LinOSS)):
            C, run = layer.C.detach().numpy(), run_oscillators
            if isinstance(layer, S5):
                C, run = np.ascontiguousarray(C).view(complex)[..., 0], run_shared
            y, final = run(layer, C[0], values, delta)
            y += layer.D.detach().numpy() * values
            if layer.bidirectional:
                y += run(layer, C[1], values[::-1], back)[0][::-1]
            outputs.append(y)
            states.append(final)
            continue
        for h in range(layer.d_model):
            system = dense_system(layer, h)
            y[:, h], final = run_dense(layer, system, system.C[0], values[:, h], delta)
            y[:, h] += system.D * values[:, h]
            x.append(final[: system.stored])
            if layer.bidirectional:
                y[:, h] += run_dense(layer, system, system.C[1], values[::-1, h], back)[0][::-1]
        outputs.append(y)
        states.append(np.stack(x, axis=-2))
    return outputs, np.stack(states)
