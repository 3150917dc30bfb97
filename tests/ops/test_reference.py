"""The reference of the diagonal scan against SciPy: what every other backend is measured by."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.signal import cont2discrete, lfilter
from systems import RULES, Problem, by_reference, make_problem


def discretize(A: complex, B: complex, s: float, method: str | float) -> tuple[complex, complex, complex]:
    """Transition and the coefficients of the current and of the previous input of one mode, by SciPy."""
    if method == "foh":
        # exp of [[A, B, 0], [0, 0, 1/s], [0, 0, 0]] s holds the response to a constant and to a rising line.
        block = expm(np.array([[A * s, B * s, 0], [0, 0, 1], [0, 0, 0]]))
        return block[0, 0], block[0, 2], block[0, 1] - block[0, 2]
    if method == "zoh":
        block = expm(np.array([[A * s, B * s], [0, 0]]))
        return block[0, 0], block[0, 1], 0
    alpha = {"bilinear": 0.5, "backward-euler": 1.0}.get(method, method)
    one = np.ones((1, 1))
    a_bar, b_bar, *_ = cont2discrete((A * one, B * one, one, 0 * one), s, "gbt", alpha)
    return a_bar[0, 0], b_bar[0, 0], 0


def brute_force(p: Problem, method: str | float, liquid: bool, reverse: bool) -> tuple[np.ndarray, ...]:
    """Outputs, final states and final inputs; both directions are two loops, the second from rest."""
    y, x, last = one_direction(p, method, liquid, reverse)
    if p.C_reverse is not None:
        y = y + one_direction(p._replace(C=p.C_reverse, state=None), method, liquid, not reverse)[0]
    if p.D is not None:
        y = y + p.D.numpy()[:, None] * p.u.numpy()[:, None]
    return y, x, last


def one_direction(p: Problem, method: str | float, liquid: bool, reverse: bool) -> tuple[np.ndarray, ...]:
    """Outputs, final states and final inputs by a loop over single numbers.

    Samples that take no time are left out before the loop, so that nothing here has to know what to do
    with them; what they would have as output is the output before them.
    """
    u, A, B, C, step = (t.numpy() for t in p[:5])
    batch, length, channels = u.shape
    dt = np.ones((batch, length)) if p.dt is None else p.dt.numpy()
    y = np.full((batch, len(C), length, channels), np.nan)
    last_x, last_u = np.empty((batch, *A.shape), A.dtype), np.empty((batch, channels))
    for b in range(batch):
        gaps = list(dt[b])
        if reverse:
            real = max((k for k in range(length) if dt[b, k] > 0), default=0)
            gaps = [*dt[b, 1 : real + 1], dt[b, 0], *[0.0] * (length - real - 1)]
        for h in range(channels):
            x = np.zeros(A.shape[1], complex) if p.state is None else p.state.x.numpy()[b, h].copy()
            before = 0.0 if p.state is None else p.state.u.numpy()[b, h]
            for k in reversed(range(length)) if reverse else range(length):
                if gaps[k] > 0:
                    for n in range(A.shape[1]):
                        a, now, past = discretize(A[h, n], B[h, n], step[h] * gaps[k], method)
                        if liquid:
                            bound = -A[h, n].real / abs(B[h, n])
                            a = a + now * np.clip(u[b, k, h], -bound, bound)
                            a = a / max(1, abs(a))
                        x[n] = a * x[n] + now * u[b, k, h] + past * before
                    before = u[b, k, h]
                y[b, :, k, h] = (C[:, h] @ x).real
            last_x[b, h], last_u[b, h] = x, before
    return y, last_x, last_u


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("gaps", ["regular", "distinct", "padded", "gap of zero", "tiny"])
@pytest.mark.parametrize(("method", "liquid"), RULES)
def test_reference_is_a_loop_with_scipy(method: str | float, liquid: bool, gaps: str, reverse: bool) -> None:
    problem = make_problem(
        length=7, channels=2, modes=2, readouts=2, gaps=gaps, state=True, both=gaps != "tiny", seed=3
    )
    expected = brute_force(problem, method, liquid, reverse)
    with by_reference():
        y, state = problem.run(method=method, liquid=liquid, reverse=reverse)
    for found, value in zip((y, *state), expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-10, atol=1e-10 * np.abs(value).max())


def test_reference_is_a_linear_filter_on_a_regular_grid() -> None:
    problem = make_problem(length=40, channels=2, modes=3, readouts=2)
    u, A, B, C, step = (t.numpy() for t in problem[:5])
    expected = np.zeros((2, 2, 40, 2))
    for h in range(2):
        for n in range(3):
            a = np.exp(step[h] * A[h, n])
            b = (a - 1) / A[h, n] * B[h, n]
            x = lfilter([b], [1, -a], u[:, :, h].astype(complex))
            expected[..., h] += (C[:, h, n, None] * x[:, None]).real
    with by_reference():
        y, _ = problem.run()
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
