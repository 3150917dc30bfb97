"""Discretisation against SciPy, and the phi functions against 60-digit decimal arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from scipy.signal import cont2discrete
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from tsssm.discretize import METHODS, Discrete, discretize_dense, discretize_diagonal, phi1, phi2
from tsssm.hippo import diagonal, transition

REAL_OF = {
    torch.float32: torch.float32,
    torch.float64: torch.float64,
    torch.complex64: torch.float32,
    torch.complex128: torch.float64,
}
ALL_METHODS = (*METHODS, 0.3)
SCIPY_METHOD = {"zoh": ("zoh", None), "euler": ("euler", None), "bilinear": ("bilinear", None)}
SCIPY_METHOD |= {
    "backward-euler": ("backward_diff", None),
    0.3: ("gbt", 0.3),
    0.0: ("gbt", 0.0),
    1: ("gbt", 1.0),
}


# ---------------------------------------------------------------------------------------------- phi functions


def exact_phi(z: complex) -> tuple[tuple[complex, complex], tuple[complex, complex]]:
    """phi1 and phi2 at z, and their derivatives, by the Taylor series at z / 2^k and the doubling formulas.

    All in decimal arithmetic of 60 digits: phi1(2z) = (e^z + 1) phi1(z) / 2 and
    phi2(2z) = (phi1(z)^2 + 2 phi2(z)) / 4, none of which the implementation uses.
    """

    def multiply(a: tuple[Decimal, Decimal], b: tuple[Decimal, Decimal]) -> tuple[Decimal, Decimal]:
        return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]

    def combine(*terms: tuple[Decimal, tuple[Decimal, Decimal]]) -> tuple[Decimal, Decimal]:
        return sum(w * v[0] for w, v in terms), sum(w * v[1] for w, v in terms)

    def to_complex(a: tuple[Decimal, Decimal]) -> complex:
        return complex(float(a[0]), float(a[1]))

    with localcontext() as context:
        context.prec = 60
        doublings = max(0, math.ceil(math.log2(abs(z) + 1e-300)) + 3)
        scale, one, half = Decimal(2) ** doublings, Decimal(1), Decimal("0.5")
        small = (Decimal(z.real) / scale, Decimal(z.imag) / scale)
        power, exp, p1, p2 = (one, Decimal(0)), (Decimal(0),) * 2, (Decimal(0),) * 2, (Decimal(0),) * 2
        d1, d2 = (Decimal(0),) * 2, (Decimal(0),) * 2
        for k in range(50):
            exp = combine((one, exp), (one / math.factorial(k), power))
            p1 = combine((one, p1), (one / math.factorial(k + 1), power))
            p2 = combine((one, p2), (one / math.factorial(k + 2), power))
            d1 = combine((one, d1), (Decimal(k + 1) / math.factorial(k + 2), power))
            d2 = combine((one, d2), (Decimal(k + 1) / math.factorial(k + 3), power))
            power = multiply(power, small)
        for _ in range(doublings):
            # Derivatives of the doubling formulas with respect to the doubled argument.
            d2 = combine((Decimal("0.25"), multiply(p1, d1)), (Decimal("0.25"), d2))
            plus_one = combine((one, exp), (one, (one, Decimal(0))))
            d1 = combine((Decimal("0.25"), multiply(exp, p1)), (Decimal("0.25"), multiply(plus_one, d1)))
            p2 = combine((Decimal("0.25"), multiply(p1, p1)), (half, p2))
            p1 = combine((half, multiply(plus_one, p1)))
            exp = multiply(exp, exp)
        return (to_complex(p1), to_complex(p2)), (to_complex(d1), to_complex(d2))


def arguments(dtype: torch.dtype) -> Tensor:
    """Re z <= 0 and |z| from 0 to 1e4 in all directions, the switch to the series, the zeros of phi1."""
    moduli = np.concatenate([np.logspace(-12, 4, 33), [0.999, 0.9999999, 1.0, 1.0000001, 1.001]])
    if not dtype.is_complex:
        return torch.tensor(np.concatenate([[0.0], -moduli]), dtype=dtype)
    angles = np.deg2rad([90, 91, 105, 135, 170, 180, 225, 269, 270])
    rays = (moduli[:, None] * (np.minimum(np.cos(angles), 0) + 1j * np.sin(angles))).ravel()
    zeros = [complex(-damping, 2 * math.pi * k) for damping in (0, 1e-6, 1e-2) for k in (1, -2, 5)]
    decayed = [complex(x, y) for x in (-16, -12, -5, -1) for y in (1e3, -30)]
    return torch.tensor(np.concatenate([[0], rays, zeros, decayed]), dtype=dtype)


@pytest.mark.parametrize("dtype", REAL_OF)
@pytest.mark.parametrize("index, phi", [(0, phi1), (1, phi2)])
def test_phi_is_accurate_to_a_few_units_in_the_last_place(
    dtype: torch.dtype, index: int, phi: Callable[[Tensor], Tensor]
) -> None:
    z = arguments(dtype)
    exact = np.array([exact_phi(complex(value))[0][index] for value in z.tolist()])
    error = np.abs(phi(z).numpy().astype(complex) - exact) / np.abs(exact)
    assert error.max() < 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", REAL_OF)
@pytest.mark.parametrize("index, phi", [(0, phi1), (1, phi2)])
def test_the_derivative_of_phi_is_accurate(
    dtype: torch.dtype, index: int, phi: Callable[[Tensor], Tensor]
) -> None:
    z = arguments(dtype).requires_grad_()
    value = phi(z)
    (gradient,) = torch.autograd.grad(value, z, torch.ones_like(value))
    derivative = gradient.conj().resolve_conj().numpy().astype(complex)
    exact = np.array([exact_phi(complex(point))[1][index] for point in z.tolist()])
    scale = np.abs(exact)
    if index == 1:  # far out, phi2' = (e^z + 1) / z^2 + ... comes close to zero on the imaginary axis
        modulus = np.maximum(np.abs(z.detach().numpy().astype(complex)), 1)
        scale = np.maximum(scale, modulus**-2)
    assert (np.abs(derivative - exact) / scale).max() < 16 * torch.finfo(dtype).eps


def test_phi_at_zero_is_exact() -> None:
    for dtype in REAL_OF:
        zero = torch.zeros(1, dtype=dtype)
        assert phi1(zero).item() == 1
        assert phi2(zero).item() == 0.5


def test_phi1_prime_is_phi1_minus_phi2() -> None:
    z = arguments(torch.complex128).requires_grad_()
    value = phi1(z)
    (gradient,) = torch.autograd.grad(value, z, torch.ones_like(value))
    torch.testing.assert_close(gradient.conj(), phi1(z) - phi2(z), rtol=0, atol=4e-16)


@pytest.mark.parametrize("phi", (phi1, phi2))
def test_phi_gradcheck_in_both_branches_and_at_zero(phi: Callable[[Tensor], Tensor]) -> None:
    z = torch.tensor([0, -1e-9 + 1e-9j, -0.3 + 0.2j, -1 + 1j, -0.5 + 9j, -8, 6.2j], dtype=torch.complex128)
    assert gradcheck(phi, z.requires_grad_())
    assert gradgradcheck(phi, z)
    real = torch.tensor([0.0, -1e-9, -0.4, -2.0, -30.0], dtype=torch.float64, requires_grad=True)
    assert gradcheck(phi, real)
    assert gradgradcheck(phi, real)


def test_phi_of_extreme_arguments_is_finite() -> None:
    z = torch.tensor([-1e30, -1e-40, 0.0], dtype=torch.float32, requires_grad=True)
    for phi in (phi1, phi2):
        (gradient,) = torch.autograd.grad(phi(z).sum(), z)
        assert phi(z).isfinite().all() and gradient.isfinite().all()


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16, torch.int64))
def test_phi_refuses_other_dtypes(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=f"z must be float32, float64, complex64 or complex128, got {dtype}"):
        phi1(torch.zeros(2, dtype=dtype))


# ----------------------------------------------------------------------------------------- small-step trap


@pytest.mark.parametrize("modulus", (1e-6, 1e-9))
def test_small_steps_keep_their_digits_where_the_plain_difference_loses_them(modulus: float) -> None:
    A = torch.tensor([-0.5 + 3.0j, -0.5 + 0.1j, -0.5 + 100.0j], dtype=torch.complex64)
    B = torch.ones_like(A)
    step = modulus / A.abs()
    z = step.double() * A.to(torch.complex128)
    exact = step.double() * (1 + z / 2 + z**2 / 6)  # the next term is below 1e-19 of this

    B_bar = discretize_diagonal(A, B, step, "zoh").B_bar
    assert B_bar.dtype == torch.complex64
    assert ((B_bar - exact).abs() / exact.abs()).max() < 1e-6

    plain = (torch.exp(step * A) - 1) / A
    assert ((plain - exact).abs() / exact.abs()).max() > 1e-2


# ------------------------------------------------------------------------------------------ against SciPy


def scipy_discrete(A: np.ndarray, B: np.ndarray, step: float, method: str | float) -> Discrete:
    N = A.shape[0]
    system = (A, B[:, None], np.eye(N), np.zeros((N, 1)))
    if method == "foh":
        # SciPy's state is x_k - B_bar u_k. With C = I and D = 0 its D is therefore B_bar and its B is
        # B_prev + A_bar B_bar.
        A_bar, B_shifted, _, B_bar, _ = cont2discrete(system, step, method="foh")
        return Discrete(A_bar, B_bar[:, 0], (B_shifted - A_bar @ B_bar)[:, 0])
    name, alpha = SCIPY_METHOD[method]
    A_bar, B_bar, *_ = cont2discrete(system, step, method=name, alpha=alpha)
    return Discrete(A_bar, B_bar[:, 0])


def assert_discrete_close(actual: Discrete, expected: Discrete, tolerance: float) -> None:
    for name, left, right in zip(Discrete._fields, actual, expected, strict=True):
        assert (left is None) == (right is None), name
        if left is not None:
            right = torch.as_tensor(right, dtype=left.dtype)
            torch.testing.assert_close(
                left, right, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
            )


@pytest.mark.parametrize("method", ("foh", *SCIPY_METHOD))
@pytest.mark.parametrize("measure", ("legs", "legt", "lagt"))
@pytest.mark.parametrize("step", (1e-3, 0.1, 1.3))
def test_dense_equals_scipy(method: str | float, measure: str, step: float) -> None:
    A, B = transition(measure, 8)
    expected = scipy_discrete(A, B, step, method)
    actual = discretize_dense(
        torch.tensor(A), torch.tensor(B), torch.tensor(step, dtype=torch.float64), method
    )
    assert_discrete_close(actual, expected, 1e-10)


@pytest.mark.parametrize("method", ("foh", *SCIPY_METHOD))
@pytest.mark.parametrize("step", (1e-3, 0.1, 1.3))
def test_diagonal_equals_scipy(method: str | float, step: float) -> None:
    # SciPy on the real form of the conjugate pair: (Re x, Im x).
    Lambda, B = diagonal("inv", 8)
    B = B * (0.3 - 0.7j)
    actual = discretize_diagonal(
        torch.tensor(Lambda), torch.tensor(B), torch.tensor(step, dtype=torch.float64), method
    )
    for n, (eigenvalue, b) in enumerate(zip(Lambda, B, strict=True)):
        real_form = np.array([[eigenvalue.real, -eigenvalue.imag], [eigenvalue.imag, eigenvalue.real]])
        expected = scipy_discrete(real_form, np.array([b.real, b.imag]), step, method)
        as_complex = Discrete(
            *(
                part if part is None else complex(*(part[:, 0] if part.ndim == 2 else part))
                for part in expected
            )
        )
        assert_discrete_close(Discrete(*(p if p is None else p[n] for p in actual)), as_complex, 1e-10)


@pytest.mark.parametrize("method", ALL_METHODS)
@pytest.mark.parametrize("dtype, tolerance", [(torch.complex128, 1e-12), (torch.complex64, 1e-5)])
def test_diagonal_equals_dense_on_a_diagonal_matrix(
    method: str | float, dtype: torch.dtype, tolerance: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    A = torch.complex(-torch.rand(5, generator=generator), 4 * torch.randn(5, generator=generator)).to(dtype)
    A[0] = 0  # a singular system
    B = torch.randn(5, dtype=dtype, generator=generator)
    step = torch.rand(3, 2, generator=generator).to(REAL_OF[dtype])
    dense = discretize_dense(torch.diag(A), B, step, method)
    elementwise = discretize_diagonal(A, B, step[..., None], method)
    assert_discrete_close(
        dense._replace(A_bar=dense.A_bar.diagonal(dim1=-2, dim2=-1)), elementwise, tolerance
    )


def test_zoh_is_the_matrix_exponential_and_needs_no_inverse() -> None:
    A = torch.tensor([[0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)  # a double integrator
    B = torch.tensor([0.0, 1.0], dtype=torch.float64)
    step = torch.tensor([0.5, 2.0], dtype=torch.float64)
    A_bar, B_bar, B_prev = discretize_dense(A, B, step, "zoh")
    for k, s in enumerate(step.tolist()):
        torch.testing.assert_close(A_bar[k].numpy(), expm(s * A.numpy()), rtol=1e-14, atol=1e-14)
        torch.testing.assert_close(B_bar[k].numpy(), np.array([s**2 / 2, s]), rtol=1e-14, atol=1e-14)
    assert B_prev is None


def test_backward_euler_of_a_leaky_integrator_is_a_gate() -> None:
    # LSSL, Lemma 3.1: A = -1, B = 1 and step = exp(v) give x_k = (1 - sigmoid(v)) x_{k-1} + sigmoid(v) u_k.
    v = torch.linspace(-20, 20, 9, dtype=torch.float64)
    minus_one, one = torch.tensor(-1.0, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    A_bar, B_bar, _ = discretize_diagonal(minus_one, one, v.exp(), "backward-euler")
    torch.testing.assert_close(A_bar, torch.sigmoid(-v), rtol=1e-14, atol=0)
    torch.testing.assert_close(B_bar, torch.sigmoid(v), rtol=1e-14, atol=0)


def test_foh_is_exact_for_a_ramp() -> None:
    # x' = a x + t from x(0) = 0 has the solution (e^{at} - 1 - at) / a^2.
    a, step = -0.7, torch.tensor([0.2, 0.5, 0.0, 1.1], dtype=torch.float64)
    A_bar, B_bar, B_prev = discretize_diagonal(
        torch.tensor(a, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64), step, "foh"
    )
    assert B_prev is not None
    x, t = torch.tensor(0.0, dtype=torch.float64), 0.0
    for k, s in enumerate(step.tolist()):
        x = A_bar[k] * x + B_prev[k] * t + B_bar[k] * (t + s)
        t += s
        assert x.item() == pytest.approx((math.exp(a * t) - 1 - a * t) / a**2, rel=1e-12)


# ------------------------------------------------------------------------------------ steps, shapes, dtypes


@pytest.mark.parametrize("dtype", REAL_OF)
def test_two_zero_order_holds_of_the_same_input_are_one(dtype: torch.dtype) -> None:
    tolerance = 1e-12 if REAL_OF[dtype] == torch.float64 else 2e-6
    A = torch.tensor([-0.5, -3.0, -1e-4], dtype=dtype) + (4j if dtype.is_complex else 0)
    A = A.to(dtype)
    B = torch.tensor([1.0, -2.0, 0.5], dtype=dtype)
    first, second = (torch.tensor(s, dtype=REAL_OF[dtype]) for s in (0.3, 0.9))
    x, u = torch.tensor([0.2, 1.0, -1.0], dtype=dtype), 1.7
    one, two, both = (discretize_diagonal(A, B, s, "zoh") for s in (first, second, first + second))
    stepwise = two.A_bar * (one.A_bar * x + one.B_bar * u) + two.B_bar * u
    torch.testing.assert_close(stepwise, both.A_bar * x + both.B_bar * u, rtol=tolerance, atol=tolerance)

    one, two, both = (discretize_dense(torch.diag(A), B, s, "zoh") for s in (first, second, first + second))
    stepwise = two.A_bar @ (one.A_bar @ x + one.B_bar * u) + two.B_bar * u
    torch.testing.assert_close(stepwise, both.A_bar @ x + both.B_bar * u, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("method", ALL_METHODS)
@pytest.mark.parametrize("dtype", REAL_OF)
def test_a_step_of_zero_leaves_the_state_exactly_and_has_finite_gradients(
    method: str | float, dtype: torch.dtype
) -> None:
    A = torch.tensor([-0.5, -3.0, 0.0], dtype=dtype).requires_grad_()
    B = torch.tensor([1.0, -2.0, 0.5], dtype=dtype).requires_grad_()
    step = torch.zeros(2, 1, dtype=REAL_OF[dtype], requires_grad=True)
    diagonal_system = discretize_diagonal(A, B, step, method)
    dense_system = discretize_dense(torch.diag(A), B, step[:, 0], method)
    torch.testing.assert_close(diagonal_system.A_bar, torch.ones(2, 3, dtype=dtype), rtol=0, atol=0)
    torch.testing.assert_close(dense_system.A_bar, torch.eye(3, dtype=dtype).expand(2, 3, 3), rtol=0, atol=0)
    for system in (diagonal_system, dense_system):
        for part in (system.B_bar, system.B_prev):
            assert part is None or (part == 0).all()
        total = sum(part.sum() for part in system if part is not None).real
        gradients = torch.autograd.grad(total, (A, B, step), retain_graph=True)
        assert all(gradient.isfinite().all() for gradient in gradients)
        # d/dstep of sum(A_bar) is sum(A), of the sum of the input coefficients sum(B).
        assert gradients[2].sum().item() == pytest.approx(2 * (-3.5 - 0.5), rel=1e-6)


@pytest.mark.parametrize("method", ALL_METHODS)
def test_shapes_broadcast(method: str | float) -> None:
    batch, H, N, L = 2, 3, 4, 5
    generator = torch.Generator().manual_seed(0)
    A = -torch.rand(H, N, 1, dtype=torch.float64, generator=generator) + 0j
    B = torch.rand(N, 1, dtype=torch.float64, generator=generator) + 0j
    step = torch.rand(batch, H, 1, L, dtype=torch.float64, generator=generator)
    system = discretize_diagonal(A, B, step, method)
    assert all(part.shape == (batch, H, N, L) for part in system if part is not None)
    single = discretize_diagonal(A[1, 2, 0], B[2, 0], step[1, 1, 0, 3], method)
    for part, value in zip(system, single, strict=True):
        assert part is None or torch.allclose(part[1, 1, 2, 3], value, rtol=1e-14)

    A, B, step = torch.tensor(transition("legs", N)[0]), B[:, 0].real, step[:, :, 0]
    system = discretize_dense(A, B, step, method)
    assert system.A_bar.shape == (batch, H, L, N, N)
    assert all(part.shape == (batch, H, L, N) for part in system[1:] if part is not None)
    single = discretize_dense(A, B, step[1, 2, 3], method)
    for part, value in zip(system, single, strict=True):
        assert part is None or torch.allclose(part[1, 2, 3], value, rtol=1e-10)

    stacked = discretize_dense(A.expand(H, 1, N, N), B.expand(H, 1, N), step[0], method)
    assert stacked.A_bar.shape == (H, L, N, N) and stacked.B_bar.shape == (H, L, N)


@pytest.mark.parametrize("method", ALL_METHODS)
@pytest.mark.parametrize("dtype", REAL_OF)
def test_dtypes_are_kept(method: str | float, dtype: torch.dtype) -> None:
    A, B = torch.tensor([-1.0, -2.0], dtype=dtype), torch.ones(2, dtype=dtype)
    step = torch.ones(1, dtype=REAL_OF[dtype])
    for system in (
        discretize_diagonal(A, B, step, method),
        discretize_dense(torch.diag(A), B, step, method),
    ):
        assert all(part.dtype == dtype for part in system if part is not None)


def test_real_a_with_complex_b_gives_a_complex_system() -> None:
    A, B = -torch.eye(2), torch.ones(2, dtype=torch.complex64)
    for method in ALL_METHODS:
        assert discretize_dense(A, B, torch.tensor(1.0), method).B_bar.dtype == torch.complex64
        assert discretize_diagonal(A, B, torch.tensor(1.0), method).B_bar.dtype == torch.complex64


@pytest.mark.parametrize("method", ALL_METHODS)
def test_gradcheck(method: str | float) -> None:
    A = torch.tensor([0, -0.4 + 0.3j, -1 + 7j], dtype=torch.complex128, requires_grad=True)
    B = torch.tensor([1 + 1j, -0.5, 2j], dtype=torch.complex128, requires_grad=True)
    step = torch.tensor([[0.0], [0.7]], dtype=torch.float64, requires_grad=True)

    def parts(system: Discrete) -> tuple[Tensor, ...]:
        return tuple(part for part in system if part is not None)

    assert gradcheck(lambda A, B, step: parts(discretize_diagonal(A, B, step, method)), (A, B, step))
    dense = torch.diag(A.detach()) + 0.1
    dense.requires_grad_()
    assert gradcheck(lambda A, B, step: parts(discretize_dense(A, B, step[:, 0], method)), (dense, B, step))


@pytest.mark.parametrize("method", ALL_METHODS)
def test_torch_compile_traces_without_a_break(method: str | float) -> None:
    A, B = torch.tensor([-0.5 + 2j, -0.1j]), torch.ones(2, dtype=torch.complex64)
    step = torch.tensor([[0.0], [0.3]])
    compiled = torch.compile(discretize_diagonal, backend="eager", fullgraph=True)
    assert_discrete_close(compiled(A, B, step, method), discretize_diagonal(A, B, step, method), 1e-6)


# ------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("call", (discretize_diagonal, discretize_dense))
@pytest.mark.parametrize("method", ("tustin", "ZOH", -0.1, 1.5, float("nan"), True, None))
def test_unknown_methods_are_refused(call: Callable[..., Discrete], method: object) -> None:
    with pytest.raises(ValueError, match=r"method must be one of 'zoh'.* or a float alpha in \[0, 1\], got"):
        call(-torch.eye(2), torch.ones(2), torch.ones(1), method)


@pytest.mark.parametrize("call", (discretize_diagonal, discretize_dense))
def test_bad_arguments_are_named(call: Callable[..., Discrete]) -> None:
    A, B, step = -torch.eye(2), torch.ones(2), torch.ones(1)
    with pytest.raises(TypeError, match="step must be a torch.Tensor, got float"):
        call(A, B, 0.1, "zoh")
    with pytest.raises(TypeError, match="A must be a torch.Tensor, got ndarray"):
        call(A.numpy(), B, step, "zoh")
    with pytest.raises(ValueError, match="step must be float32 or float64, got torch.complex64"):
        call(A, B, step + 0j, "zoh")
    with pytest.raises(ValueError, match="B must be float32.*got torch.int64"):
        call(A, B.long(), step, "zoh")
    with pytest.raises(ValueError, match="A must be float32.*got torch.bfloat16"):
        call(A.bfloat16(), B, step, "zoh")


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"A and B and step must broadcast, got A \(2,\), B \(2,\), step \(3,\)"
    ):
        discretize_diagonal(-torch.ones(2), torch.ones(2), torch.ones(3), "zoh")
    with pytest.raises(ValueError, match=r"A must have shape \(\.\.\., N, N\), got \(2, 3\)"):
        discretize_dense(torch.ones(2, 3), torch.ones(2), torch.ones(1), "zoh")
    with pytest.raises(
        ValueError, match=r"B must have shape \(\.\.\., 2\) to fit A of shape \(2, 2\), got \(3,\)"
    ):
        discretize_dense(torch.eye(2), torch.ones(3), torch.ones(1), "zoh")
    with pytest.raises(ValueError, match=r"must broadcast, got A \(4,\), B \(\), step \(3,\)"):
        discretize_dense(torch.eye(2).expand(4, 2, 2), torch.ones(2), torch.ones(3), "zoh")
