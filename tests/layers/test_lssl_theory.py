"""LSSL against the continuous system that it stands for, and the statements of its paper. Float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from contract import BATCH, close, signal
from lssl_variants import FIXED, TRAINED
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.signal import lfilter

from tsssm.layers import LSSL


def reads_state(layer: LSSL) -> LSSL:
    """The layer with the first readout of each channel reading its first state, and no feedthrough."""
    with torch.no_grad():
        layer.C.zero_()[..., 0] = 1
        layer.D.zero_()
        layer.log_dt.zero_()
    return layer


def input_of_time(t: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.sin(3 * np.asarray(t)) + np.cos(np.asarray(t)) ** 2


def random_grid(samples: int, end: float, seed: int) -> NDArray[np.float64]:
    inside = np.random.default_rng(seed).uniform(0.5, 1.5, samples).cumsum()
    return np.concatenate([[0.0], end * inside / inside[-1]])


def state_at_the_end(layer: LSSL, times: NDArray[np.float64], at: float) -> NDArray[np.float64]:
    """From rest at times[0]; the input of each step is taken ``at`` this part of it."""
    dt = np.diff(times)
    u = torch.as_tensor(input_of_time(times[:-1] + at * dt))[None, :, None]
    return layer(u.expand(-1, -1, layer.d_model), torch.as_tensor(dt)[None])[1][0].detach().numpy()


@pytest.mark.parametrize("irregular", [False, True])
@pytest.mark.parametrize(
    ("method", "at", "order"), [("bilinear", 0.5, 2), ("backward-euler", 1, 1), ("zoh", 0.5, 2)]
)
@pytest.mark.parametrize("options", [{}, {"measure": "fourier"}, FIXED], ids=["trained", "fourier", "fixed"])
@pytest.mark.usefixtures("float64")
def test_converges_to_the_continuous_system(
    options: dict[str, object], method: str, at: float, order: int, irregular: bool
) -> None:
    """The error against solve_ivp falls as the step to the power of the order, within 20 %."""
    layer = reads_state(LSSL(1, 6, method=method, **options))
    A, B = (value[0].detach().numpy() for value in layer.transition())
    exact = solve_ivp(
        lambda t, x: A @ x + B * input_of_time(t), (0, 2), np.zeros(len(B)), "DOP853", rtol=1e-10, atol=1e-12
    ).y[:, -1]
    errors = []
    for samples in (200, 400, 800) if method != "zoh" or not irregular else (25, 50, 100):
        times = random_grid(samples, 2.0, 0) if irregular else np.linspace(0, 2, samples + 1)
        errors.append(np.abs(state_at_the_end(layer, times, at) - exact).max())
    found = math.log2(errors[0] / errors[-1]) / 2
    assert abs(found - order) < (0.4 if irregular else 0.2), errors


def legendre_coefficients(polynomial: Callable[..., NDArray[np.float64]], count: int) -> NDArray[np.float64]:
    """Of a polynomial on [0, 1] in the orthonormal basis sqrt(2n+1) P_n(2v - 1), by Gauss quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    basis = np.polynomial.legendre.legvander(nodes, count - 1) * np.sqrt(2 * np.arange(count) + 1)
    return basis.T @ (weights / 2 * polynomial((nodes + 1) / 2))


@TRAINED
@pytest.mark.usefixtures("float64")
def test_legs_state_of_a_polynomial_is_its_legendre_coefficients(options: dict[str, object]) -> None:
    """LegS with the time log t, which is HiPPO's x' = (A x + B u) / t, remembers [0, t] evenly.

    Second order in the step: sixteen times the samples, 200 times the accuracy at least. The degree is 4, so
    that the states from 5 on must vanish.
    """
    layer = reads_state(LSSL(1, 8, method="bilinear", **options))
    p = np.polynomial.Polynomial([1.0, -2.0, 0.5, 3.0, -1.5])
    expected = legendre_coefficients(lambda v: p(2 * v), 8)
    errors = []
    for samples in (50, 800):
        clock = np.linspace(math.log(0.1), math.log(2.0), samples + 1)
        start = torch.as_tensor(legendre_coefficients(lambda v: p(0.1 * v), 8)).view(1, 1, 8)
        u = torch.as_tensor(p(np.exp((clock[1:] + clock[:-1]) / 2)))[None, :, None]
        state = layer(u, torch.as_tensor(np.diff(clock))[None], start)[1]
        errors.append(np.abs(state[0, 0].detach().numpy() - expected).max())
    assert errors[1] < 1e-4 and errors[1] < errors[0] / 200
    assert np.abs(expected[5:]).max() < 1e-12 < np.abs(expected[:5]).min()


@TRAINED
def test_gate_of_a_recurrent_network(options: dict[str, object]) -> None:
    """Lemma 3.1: A = -1, B = 1 by backward Euler with the step exp(z) is a gate sigmoid(z). To 1e-12."""
    layer = reads_state(LSSL(1, 1, method="backward-euler", **options).double())
    A, B = layer.transition()
    assert A.item() == -1 and B.item() == 1
    random = np.random.default_rng(0)
    z, u = random.normal(scale=3, size=30), random.normal(size=30)
    y = layer(torch.as_tensor(u)[None, :, None], torch.as_tensor(np.exp(z))[None])[0][0, :, 0]
    x = 0.0
    for k in range(30):
        gate = 1 / (1 + np.exp(-z[k]))
        x = (1 - gate) * x + gate * u[k]
        assert y[k].item() == pytest.approx(x, abs=1e-12)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.usefixtures("float64")
def test_reproduces_any_finite_impulse_response(shared: bool) -> None:
    """Section 3: two channels of N states are two given filters of N taps, by the bilinear transform.

    A_bar is the shift S for A = 2 (S - I)(S + I)^-1 = 4 (1/2 - (S + I)^-1) and a step of 1, which lies in the
    class, within the bounds of LagT: D = 1/2, T = -(S + I), P Q = 4. C then holds the taps. To 1e-10.
    """
    taps = np.random.default_rng(0).normal(size=(2, 9))
    layer = LSSL(2, 9, measure="lagt", shared=shared)
    S = np.eye(9, k=-1)
    with torch.no_grad():
        layer.A_log_P.fill_(math.log(2))
        layer.A_log_Q.fill_(math.log(2))
        layer.A_T[0], layer.A_T[1] = -1, -1
        layer.log_dt.zero_()
        layer.D.zero_()
        A = layer.transition()[0][0].numpy()
        np.testing.assert_allclose(A, 2 * (S - np.eye(9)) @ np.linalg.inv(S + np.eye(9)), atol=1e-12)
        # B_bar = (I - A / 2)^-1 B is the first unit vector.
        layer.B[:] = torch.as_tensor((np.eye(9) - A / 2)[:, 0])
        layer.C[0, 0] = torch.as_tensor(taps)
    u = signal(30)[..., :2]
    scanned, _ = layer(u)
    layer._convolves = lambda device: True
    for y in (scanned, layer(u)[0], layer(u, torch.ones(BATCH, 30))[0]):
        for h in range(2):
            close(y[..., h], torch.as_tensor(lfilter(taps[h], 1.0, u[..., h].numpy(), axis=1)))
