"""HiPPO systems against the papers' formulas, closed-form impulse responses and projections by quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.polynomial import Polynomial
from scipy.integrate import quad, solve_ivp
from scipy.linalg import expm
from scipy.special import eval_laguerre, eval_legendre

from tsssm.hippo import (
    DIAGONAL_INITS,
    MEASURES,
    NPLR,
    conjugate_half,
    diagonal,
    low_recurrence,
    nplr,
    transition,
)

RANK = {"legs": 1, "legt": 2, "lagt": 1, "fourier": 1}
SIZES = (2, 4, 8, 64)


def matrix_from_paper(measure: str, N: int) -> tuple[np.ndarray, np.ndarray]:
    """A and B entry by entry, as the papers print them: LegS and LegT from HiPPO, LagT from S4, Fourier from
    How to train your HiPPO."""
    if measure == "fourier":
        return fourier_from_paper(N)
    A, B = np.zeros((N, N)), np.zeros(N)
    for n in range(N):
        B[n] = 1.0 if measure == "lagt" else math.sqrt(2 * n + 1)
        for k in range(N):
            scale = math.sqrt(2 * n + 1) * math.sqrt(2 * k + 1)
            if measure == "legs":
                A[n, k] = -scale if n > k else -(n + 1) if n == k else 0.0
            elif measure == "legt":
                A[n, k] = -scale * (1 if k <= n else (-1) ** (n - k))
            else:
                A[n, k] = -1.0 if n > k else -0.5 if n == k else 0.0
    return A, B


def fourier_from_paper(N: int) -> tuple[np.ndarray, np.ndarray]:
    """The states are 1 (of which the sine is never reached), then the cosine and sine of each frequency."""
    size = N + N % 2
    A, B = np.zeros((size, size)), np.zeros(size)
    for n in range(0, size, 2):
        B[n] = 2 if n == 0 else 2 * math.sqrt(2)
        A[n + 1, n], A[n, n + 1] = math.pi * n, -math.pi * n
        for k in range(0, size, 2):
            A[n, k] = -2 if n == k == 0 else -2 * math.sqrt(2) if n == 0 or k == 0 else -4
    keep = [i for i in range(size) if N % 2 == 0 or i != 1]
    return A[np.ix_(keep, keep)], B[keep]


def fourier_functions(s: np.ndarray, N: int) -> np.ndarray:
    """Basis functions (N, ...) for odd N: 1, then the cosine and sine of each frequency."""
    rows = [np.ones_like(s)]
    for m in range(1, (N + 1) // 2):
        rows += [math.sqrt(2) * np.cos(2 * math.pi * m * s), math.sqrt(2) * np.sin(2 * math.pi * m * s)]
    return np.stack(rows)


def rebuild(form: NPLR) -> np.ndarray:
    low_rank = sum(np.outer(row, row.conj()) for row in form.P)
    return form.V @ (np.diag(form.Lambda) - low_rank) @ form.V.conj().T


def legendre_coefficients(u: Polynomial, start: float, end: float, N: int) -> np.ndarray:
    """Coefficients of u on [start, end] in the orthonormal Legendre basis, by adaptive quadrature."""

    def integrand(s: float, n: int) -> float:
        return math.sqrt(2 * n + 1) * eval_legendre(n, 2 * s - 1) * u(start + s * (end - start))

    return np.array([quad(integrand, 0, 1, args=(n,), epsabs=1e-13)[0] for n in range(N)])


def test_the_table_of_measures_is_what_the_tests_cover() -> None:
    assert set(MEASURES) == set(RANK)


@pytest.mark.parametrize("measure", RANK)
@pytest.mark.parametrize("N", (1, 3, *SIZES))
def test_transition_equals_the_papers_entries(measure: str, N: int) -> None:
    A, B = transition(measure, N)
    expected_A, expected_B = matrix_from_paper(measure, N)
    assert A.dtype == B.dtype == np.float64
    np.testing.assert_allclose(A, expected_A, rtol=1e-14)
    np.testing.assert_allclose(B, expected_B, rtol=1e-14)


def test_eigenvalues_of_the_triangular_matrices() -> None:
    # Small N: the eigenvectors of LegS are so ill-conditioned that a solver loses these values soon.
    legs, _ = transition("legs", 6)
    np.testing.assert_allclose(np.sort(np.linalg.eigvals(legs).real), -np.arange(6, 0, -1.0), atol=1e-9)
    np.testing.assert_allclose(np.linalg.eigvals(legs).imag, 0, atol=1e-9)
    lagt, _ = transition("lagt", 64)
    np.testing.assert_array_equal(np.diag(lagt), -0.5)
    np.testing.assert_array_equal(np.triu(lagt, 1), 0)


def test_legt_poles_are_those_of_the_pade_approximant_of_a_delay() -> None:
    # The window rests on the [N-1/N] Pade approximant of exp(-s); its denominator is
    # sum_j (2N-1-j)! N! / ((2N-1)! j! (N-j)!) s^j.
    N = 6
    coefficients = [
        math.factorial(2 * N - 1 - j)
        * math.factorial(N)
        / (math.factorial(2 * N - 1) * math.factorial(j) * math.factorial(N - j))
        for j in range(N + 1)
    ]
    poles = Polynomial(coefficients).roots()
    eigenvalues = np.linalg.eigvals(transition("legt", N)[0])
    np.testing.assert_allclose(np.sort_complex(eigenvalues), np.sort_complex(poles), rtol=1e-8)
    assert (eigenvalues.real < 0).all()


@pytest.mark.parametrize("t", (0.0, 0.01, 0.3, 1.0, 2.5))
def test_impulse_responses_in_closed_form(t: float) -> None:
    n = np.arange(8)
    A, B = transition("legs", 8)
    warped = math.exp(-t) * np.sqrt(2 * n + 1) * eval_legendre(n, 2 * math.exp(-t) - 1)
    np.testing.assert_allclose(expm(t * A) @ B, warped, atol=1e-12)
    A, B = transition("lagt", 8)
    np.testing.assert_allclose(expm(t * A) @ B, math.exp(-t / 2) * eval_laguerre(n, t), atol=1e-12)


@pytest.mark.parametrize("end", (0.4, 1.7))
def test_legt_state_holds_the_legendre_coefficients_of_the_window(end: float) -> None:
    N = 6
    u = Polynomial([0.3, -1.0, 0.5, 2.0, -0.7])  # of degree < N, so that the projection loses nothing
    A, B = transition("legt", N)
    start = legendre_coefficients(u, -1.0, 0.0, N)
    path = solve_ivp(lambda t, x: A @ x + B * u(t), (0, end), start, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(path.y[:, -1], legendre_coefficients(u, end - 1, end, N), atol=1e-8)


def test_legt_forgets_what_was_before_the_window() -> None:
    N = 16
    u = Polynomial([0.3, -1.0, 0.5])
    A, B = transition("legt", N)
    wrong_start = np.ones(N)
    path = solve_ivp(lambda t, x: A @ x + B * u(t), (0, 3), wrong_start, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(path.y[:, -1], legendre_coefficients(u, 2.0, 3.0, N), atol=1e-6)


def test_legs_divided_by_time_holds_the_legendre_coefficients_of_the_whole_past() -> None:
    N = 6
    u = Polynomial([0.3, -1.0, 0.5, 2.0, -0.7])
    A, B = transition("legs", N)
    start = legendre_coefficients(u, 0.0, 0.5, N)
    path = solve_ivp(lambda t, x: (A @ x + B * u(t)) / t, (0.5, 2.0), start, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(path.y[:, -1], legendre_coefficients(u, 0.0, 2.0, N), atol=1e-8)


def test_fourier_impulse_responses_tend_to_the_basis_on_the_window_and_to_zero_after_it() -> None:
    errors = []
    ages = np.concatenate([np.linspace(0.05, 0.95, 19), np.linspace(1.05, 1.5, 10)])
    for N in (17, 65, 257):
        A, B = transition("fourier", N)
        Lambda, W = np.linalg.eig(A)
        weights = np.linalg.solve(W, B)
        response = (W[:5] @ (weights[:, None] * np.exp(Lambda[:, None] * ages))).real
        errors.append(np.sqrt(np.mean((response - fourier_functions(ages, 5) * (ages < 1)) ** 2)))
    # Falling like 1 / sqrt(N) or faster: the jumps at the ends of the window ring.
    assert errors[1] < errors[0] / 2 and errors[2] < errors[1] / 2
    assert errors[2] < 0.05


def test_fourier_state_holds_the_coefficients_of_the_window() -> None:
    # A periodic input is its own Fourier series, so that nothing is approximate in u(t - 1).
    N, t = 9, 3.4
    A, B = transition("fourier", N)

    def u(time: np.ndarray | float) -> np.ndarray:
        return 0.7 - np.cos(2 * np.pi * time) + 0.4 * np.sin(6 * np.pi * time)

    ages = np.arange(400) / 400  # the rectangle rule is exact for trigonometric polynomials
    start = fourier_functions(ages, N) @ u(0.0 - ages) / ages.size
    path = solve_ivp(lambda time, x: A @ x + B * u(time), (0, t), start, rtol=1e-10, atol=1e-12)
    expected = fourier_functions(ages, N) @ u(t - ages) / ages.size
    np.testing.assert_allclose(path.y[:, -1], expected, atol=1e-7)


def test_fourier_state_tends_to_the_coefficients_of_a_smooth_input() -> None:
    # From rest; u is smooth, but u(t) and u(t - 1) differ, where the Fourier series has its jump.
    def u(time: float) -> float:
        return math.exp(-(((time - 2.2) / 0.5) ** 2))

    t, errors = 2.5, []
    nodes, weights = np.polynomial.legendre.leggauss(60)
    ages = (nodes + 1) / 2
    expected = fourier_functions(ages, 5) @ (weights / 2 * np.array([u(t - age) for age in ages]))
    for N in (9, 33, 129):
        A, B = transition("fourier", N)
        path = solve_ivp(
            lambda time, x, A=A, B=B: A @ x + B * u(time),
            (0, t),
            np.zeros(N),
            method="Radau",
            jac=A,
            rtol=1e-7,
            atol=1e-9,
        )
        errors.append(np.abs(path.y[:5, -1] - expected).max())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.01


def test_only_the_unused_fourier_state_does_not_decay() -> None:
    for N in (2, 8, 64):
        A, B = transition("fourier", N)
        assert not A[1].any() and not A[:, 1].any() and B[1] == 0
        used = np.delete(np.arange(N), 1)
        assert (np.linalg.eigvals(A[np.ix_(used, used)]).real < -0.1).all()
    assert (np.linalg.eigvals(transition("fourier", 65)[0]).real < -0.1).all()


@pytest.mark.parametrize("measure", RANK)
@pytest.mark.parametrize("N", (1, 3, 65, *SIZES))
def test_nplr_rebuilds_the_system_by_a_unitary_transform(measure: str, N: int) -> None:
    A, B = matrix_from_paper(measure, N)
    form = nplr(measure, N)
    assert [part.dtype for part in form] == [np.complex128] * 4
    assert [part.shape for part in form] == [(N,), (RANK[measure], N), (N,), (N, N)]
    np.testing.assert_allclose(form.V.conj().T @ form.V, np.eye(N), atol=1e-12)
    np.testing.assert_allclose(rebuild(form), A, atol=1e-10)
    np.testing.assert_allclose(form.V @ form.B, B, atol=1e-12)


@pytest.mark.parametrize("measure", RANK)
@pytest.mark.parametrize("N", (3, *SIZES))
def test_nplr_comes_in_conjugate_pairs(measure: str, N: int) -> None:
    form = nplr(measure, N)
    pairs = N // 2
    upper, lower = slice(0, pairs), slice(N - pairs, N)
    np.testing.assert_array_equal(form.Lambda[lower], form.Lambda[upper].conj())
    np.testing.assert_array_equal(form.V[:, lower], form.V[:, upper].conj())
    np.testing.assert_allclose(form.P[:, lower], form.P[:, upper].conj(), atol=1e-13)
    np.testing.assert_array_equal(form.B[lower], form.B[upper])
    # Zero only for the pair of the unused state.
    unused = measure == "fourier" and N % 2 == 0
    assert (form.Lambda[upper].imag[unused:] > 0).all() and (not unused or form.Lambda[0] == 0)
    assert (np.diff(form.Lambda[upper].imag) > 0).all()
    np.testing.assert_array_equal(form.Lambda[pairs : N - pairs].imag, 0)


@pytest.mark.parametrize("measure, decay", [("legs", -0.5), ("legt", 0.0), ("lagt", 0.0), ("fourier", 0.0)])
def test_nplr_real_parts(measure: str, decay: float) -> None:
    np.testing.assert_array_equal(nplr(measure, 64).Lambda.real, decay)


@pytest.mark.parametrize("measure", RANK)
def test_the_phase_makes_b_real_and_positive(measure: str) -> None:
    B = nplr(measure, 64).B
    np.testing.assert_array_equal(B.imag, 0)
    assert (B.real > 0).all()


def test_lagt_eigenvalues_in_closed_form() -> None:
    # The skew part is -1/2 below the diagonal and +1/2 above: a skew-circulant matrix.
    N = 64
    expected = 0.5 / np.tan((2 * np.arange(1, N // 2 + 1) - 1) * np.pi / (2 * N))
    np.testing.assert_allclose(nplr("lagt", N).Lambda[: N // 2].imag, expected[::-1], rtol=1e-12)


@pytest.mark.parametrize("N", (2, 7, 64))
def test_fourier_eigenvalues_in_closed_form(N: int) -> None:
    frequencies = 2 * np.pi * np.arange(N % 2, (N + 1) // 2)
    np.testing.assert_allclose(nplr("fourier", N).Lambda[: N // 2], 1j * frequencies, rtol=1e-15)


def dense_tridiagonal(T: np.ndarray) -> np.ndarray:
    return np.diag(T[0, 1:], -1) + np.diag(T[1]) + np.diag(T[2, :-1], 1)


LOW_RECURRENCE_SIZES = (1, 2, 3, 4, 7, 64, 127, 128)


@pytest.mark.parametrize("measure", RANK)
@pytest.mark.parametrize("N", LOW_RECURRENCE_SIZES)
def test_hippo_lies_in_the_class_of_low_recurrence_width(measure: str, N: int) -> None:
    A, B = matrix_from_paper(measure, N)
    form = low_recurrence(measure, N)
    shapes = [(N,), (N,), (N,), (3, N), (N,), (N, N)]
    assert [part.dtype for part in form] == [np.float64] * 6
    assert [part.shape for part in form] == shapes
    assert form.T[0, 0] == form.T[2, -1] == 0
    T = dense_tridiagonal(form.T)
    assert np.linalg.cond(T) < 1e3
    in_class = form.P[:, None] * (np.diag(form.D) + np.linalg.inv(T)) * form.Q
    np.testing.assert_allclose(form.V @ in_class @ form.V.T, A, rtol=0, atol=1e-8)
    np.testing.assert_allclose(form.V @ form.B, B, rtol=0, atol=1e-12)
    np.testing.assert_allclose(form.V.T @ form.V, np.eye(N), rtol=0, atol=1e-12)
    if measure != "fourier":
        np.testing.assert_array_equal(form.V, np.eye(N))


def eliminate(T: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Solve T x = r for diagonals T (3, N) from the first row to the last, without exchanging rows."""
    pivots, x = T[1].copy(), r.copy()
    for i in range(1, r.size):
        factor = T[0, i] / pivots[i - 1]
        pivots[i] -= factor * T[2, i - 1]
        x[i] -= factor * x[i - 1]
    assert (pivots < 0).all()
    x[-1] /= pivots[-1]
    for i in reversed(range(r.size - 1)):
        x[i] = (x[i] - T[2, i] * x[i + 1]) / pivots[i]
    return x


@pytest.mark.parametrize("measure", RANK)
@pytest.mark.parametrize("N", LOW_RECURRENCE_SIZES)
def test_steps_of_the_class_need_no_pivoting(measure: str, N: int) -> None:
    form, random = low_recurrence(measure, N), np.random.default_rng(0)
    PQ = form.P * form.Q
    for alpha in (0.01, 0.5, 1.0) if measure == "fourier" else (0.0, 0.5, 1.0):
        for s in np.logspace(-4, 1, 11):
            matrix = (1 - alpha * s * PQ * form.D) * form.T
            matrix[1] -= alpha * s * PQ
            r = random.standard_normal(N)
            expected = np.linalg.solve(dense_tridiagonal(matrix), r)
            np.testing.assert_allclose(
                eliminate(matrix, r), expected, rtol=0, atol=1e-9 * np.abs(expected).max()
            )


@pytest.mark.parametrize("measure", RANK)
@pytest.mark.parametrize("N", (2, 8))
def test_the_half_system_reproduces_the_real_kernel(measure: str, N: int) -> None:
    A, B = matrix_from_paper(measure, N)
    C = np.random.default_rng(0).standard_normal(N)
    half = conjugate_half(nplr(measure, N))
    # x' = diag(Lambda) x - sum_r P_r 2 Re(P_r^* x) as a real system in (Re x, Im x).
    Re_P, Im_P = half.P.real, half.P.imag
    columns = np.concatenate([Re_P, Im_P], axis=1)
    a, w = np.diag(half.Lambda.real), np.diag(half.Lambda.imag)
    real_system = np.block([[a, -w], [w, a]]) - 2 * columns.T @ columns
    B_half = np.concatenate([half.B.real, half.B.imag])
    for t in (0.0, 0.1, 1.0):
        re_im = expm(t * real_system) @ B_half
        x = re_im[: N // 2] + 1j * re_im[N // 2 :]
        np.testing.assert_allclose(2 * (C @ half.V @ x).real, C @ expm(t * A) @ B, atol=1e-10)


def test_the_half_of_the_normal_part_reproduces_its_real_kernel() -> None:
    N = 16
    A, B = matrix_from_paper("legs", N)
    normal = A + np.outer(B, B) / 2
    C = np.random.default_rng(1).standard_normal(N)
    half = conjugate_half(nplr("legs", N))
    for t in (0.0, 0.1, 1.0):
        kernel = 2 * ((C @ half.V) @ (np.exp(t * half.Lambda) * half.B)).real
        np.testing.assert_allclose(kernel, C @ expm(t * normal) @ B, atol=1e-10)


def test_conjugate_half_refuses_what_it_cannot_halve() -> None:
    with pytest.raises(ValueError, match=r"form .* got V of shape \(3, 3\)"):
        conjugate_half(nplr("legs", 3))
    with pytest.raises(ValueError, match=r"form .* got V of shape \(8, 4\)"):
        conjugate_half(conjugate_half(nplr("legs", 8)))


@pytest.mark.parametrize("init", DIAGONAL_INITS)
@pytest.mark.parametrize("N", SIZES)
def test_diagonal_gives_one_of_each_pair(init: str, N: int) -> None:
    Lambda, B = diagonal(init, N)
    assert Lambda.shape == B.shape == (N // 2,)
    assert Lambda.dtype == B.dtype == np.complex128
    np.testing.assert_array_equal(Lambda.real, -0.5)
    assert (np.diff(Lambda.imag) > 0).all()
    assert (Lambda.imag[1:] > 0).all() and Lambda.imag[0] >= 0


def test_s4d_lin_and_inv_in_closed_form() -> None:
    Lambda, B = diagonal("lin", 8)
    np.testing.assert_allclose(Lambda, [-0.5 + 1j * math.pi * n for n in range(4)], rtol=1e-15)
    np.testing.assert_array_equal(B, 1)
    Lambda, B = diagonal("inv", 8)
    expected = [-0.5 + 1j * 8 / math.pi * (8 / (2 * n + 1) - 1) for n in (3, 2, 1, 0)]
    np.testing.assert_allclose(Lambda, expected, rtol=1e-14)
    np.testing.assert_array_equal(B, 1)


def test_s4d_legs_is_the_normal_part_of_legs_and_inv_is_close_to_it() -> None:
    N = 64
    A, B = matrix_from_paper("legs", N)
    eigenvalues = np.linalg.eigvals(A + np.outer(B, B) / 2)
    Lambda, _ = diagonal("legs", N)
    np.testing.assert_allclose(Lambda.imag, np.sort(eigenvalues.imag)[N // 2 :], rtol=1e-10)
    np.testing.assert_allclose(diagonal("inv", N)[0].imag[-5:], Lambda.imag[-5:], rtol=0.12)


@pytest.mark.parametrize("z", (0.1, 0.5))
def test_s4d_legs_tends_to_legs(z: float) -> None:
    # Response to the input exp(z t). Without the half of B it would tend to twice the response of LegS.
    # (At integers z the two agree to rounding for every N > z, which would show nothing.)
    errors = []
    for N in (16, 64, 256):
        A, B = matrix_from_paper("legs", N)
        exact = np.linalg.solve(z * np.eye(N) - A, B)
        Lambda, B_half = diagonal("legs", N)
        V = conjugate_half(nplr("legs", N)).V
        approximate = 2 * (V @ (B_half / (z - Lambda))).real
        errors.append(np.linalg.norm(approximate - exact) / np.linalg.norm(exact))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.01


@pytest.mark.parametrize("bad", (0, -2, 2.0, "4", True, None))
def test_d_state_is_checked(bad: object) -> None:
    for call in (lambda: transition("legs", bad), lambda: nplr("legt", bad), lambda: diagonal("inv", bad)):
        with pytest.raises(ValueError, match="d_state must be an integer of at least 1, got"):
            call()
    with pytest.raises(ValueError, match="d_state must be an integer of at least 1, got"):
        low_recurrence("fourier", bad)  # type: ignore[arg-type]


def test_names_and_odd_sizes_are_checked() -> None:
    with pytest.raises(
        ValueError, match="measure must be one of 'legs', 'legt', 'lagt', 'fourier', got 'fout'"
    ):
        transition("fout", 4)
    with pytest.raises(ValueError, match="measure must be one of 'legs', 'legt', 'lagt', 'fourier', got 'x'"):
        low_recurrence("x", 4)
    with pytest.raises(ValueError, match="measure must be one of"):
        nplr(["legs"], 4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="init must be one of 'legs', 'lin', 'inv', got 'real'"):
        diagonal("real", 4)
    for init in DIAGONAL_INITS:
        with pytest.raises(ValueError, match="d_state must be even.*got 5"):
            diagonal(init, 5)


def test_numpy_integers_are_sizes() -> None:
    assert transition("legs", np.int64(4))[0].shape == (4, 4)
