"""HiPPO systems against the papers' formulas, closed-form impulse responses and projections by quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.polynomial import Polynomial
from scipy.integrate import quad, solve_ivp
from scipy.linalg import expm
from scipy.special import eval_laguerre, eval_legendre

from tsssm.hippo import DIAGONAL_INITS, MEASURES, NPLR, conjugate_half, diagonal, nplr, transition

RANK = {"legs": 1, "legt": 2, "lagt": 1}
SIZES = (2, 4, 8, 64)


def matrix_from_paper(measure: str, N: int) -> tuple[np.ndarray, np.ndarray]:
    """A and B entry by entry, as the papers print them: LegS and LegT from HiPPO, LagT from S4."""
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
    assert (form.Lambda[upper].imag > 0).all()
    assert (np.diff(form.Lambda[upper].imag) > 0).all()
    np.testing.assert_array_equal(form.Lambda[pairs : N - pairs].imag, 0)


@pytest.mark.parametrize("measure, decay", [("legs", -0.5), ("legt", 0.0), ("lagt", 0.0)])
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


def test_names_and_odd_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match="measure must be one of 'legs', 'legt', 'lagt', got 'fout'"):
        transition("fout", 4)
    with pytest.raises(ValueError, match="measure must be one of"):
        nplr(["legs"], 4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="init must be one of 'legs', 'lin', 'inv', got 'real'"):
        diagonal("real", 4)
    for init in DIAGONAL_INITS:
        with pytest.raises(ValueError, match="d_state must be even.*got 5"):
            diagonal(init, 5)


def test_numpy_integers_are_sizes() -> None:
    assert transition("legs", np.int64(4))[0].shape == (4, 4)
