"""Krylov vectors against matrix powers, the other kernels against the sums that define them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from tsssm.discretize import discretize_dense
from tsssm.hippo import MEASURES, conjugate_half, nplr, transition
from tsssm.layers import S4
from tsssm.ops import cauchy, dplr_kernel, krylov, power_sums, vandermonde


@pytest.mark.parametrize("length", [1, 2, 3, 8, 33])
@pytest.mark.parametrize("measure", ["legs", "legt"])
def test_powers(measure: str, length: int) -> None:
    A, B = (torch.as_tensor(value) for value in transition(measure, 6))
    step = torch.tensor([0.01, 0.1], dtype=torch.float64)
    A_bar, B_bar, _ = discretize_dense(A, B, step, "bilinear")
    found = krylov(A_bar, B_bar, length)
    assert found.shape == (2, 6, length)
    for h in range(2):
        for i in range(length):
            expected = np.linalg.matrix_power(A_bar[h].numpy(), i) @ B_bar[h].numpy()
            np.testing.assert_allclose(found[h, :, i], expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def test_gradcheck() -> None:
    random = torch.Generator().manual_seed(0)
    A_bar = torch.randn(3, 3, generator=random, dtype=torch.float64) / 3
    B_bar = torch.randn(3, generator=random, dtype=torch.float64)
    assert gradcheck(lambda a, b: krylov(a, b, 6), (A_bar.requires_grad_(), B_bar.requires_grad_()))


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="length must be at least 1; got 0"):
        krylov(torch.eye(2), torch.ones(2), 0)
    for A_bar, B_bar in [
        (torch.ones(2, 3), torch.ones(2)),
        (torch.eye(3), torch.ones(2)),
        (torch.ones(2),) * 2,
    ]:
        with pytest.raises(ValueError, match="A_bar must be"):
            krylov(A_bar, B_bar, 4)


def complex_normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.complex128)


@pytest.mark.parametrize("length", [1, 2, 3, 10, 16, 17, 100])
def test_vandermonde_is_the_sum_of_exponentials(length: int) -> None:
    weights = complex_normal(2, 1, 3, 4)
    exponents = torch.complex(-torch.rand(3, 4, dtype=torch.float64), 3 * complex_normal(3, 4, seed=1).real)
    found = vandermonde(weights, exponents, length)
    index = np.arange(length)
    terms = weights.numpy()[..., None] * np.exp(exponents.numpy()[..., None] * index)
    assert found.shape == (2, 1, 3, length)
    np.testing.assert_allclose(found, terms.sum(-2).real, rtol=0, atol=1e-12)


def test_vandermonde_keeps_the_phase_over_a_long_kernel() -> None:
    """In complex64 within a few roundings of one term, although the last phase is some 10,000 turns."""
    length, modes = 65_536, 16
    random = torch.Generator().manual_seed(0)
    frequencies = torch.rand(modes, generator=random)
    exponents = torch.complex(torch.full((modes,), -1e-6), frequencies)
    weights = complex_normal(modes).to(torch.complex64)
    z, w = (value.to(torch.complex128).numpy() for value in (exponents, weights))
    expected = (w[:, None] * np.exp(z[:, None] * np.arange(length))).sum(0).real
    found = vandermonde(weights, exponents, length)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=4e-7 * np.abs(w).sum())


@pytest.mark.parametrize("length", [1, 2, 3, 24, 25, 26])
def test_power_sums_are_the_sums_of_powers(length: int) -> None:
    """Bases of modulus zero to above one."""
    random = torch.Generator().manual_seed(length)
    weights, bases = (torch.randn(2, 3, 4, dtype=torch.complex128, generator=random) for _ in range(2))
    bases[0, 0] = 0
    expected = (weights.numpy()[..., None] * bases.numpy()[..., None] ** np.arange(length)).sum(-2).real
    np.testing.assert_allclose(power_sums(weights, bases, length).numpy(), expected, rtol=1e-11, atol=1e-11)
    assert power_sums(weights.to(torch.complex64), bases, length).dtype == torch.float32


def test_power_sums_gradcheck() -> None:
    """At a base of zero too, where powers above the first have no slope."""
    weights, bases = (
        torch.randn(2, 3, dtype=torch.complex128),
        0.9 * torch.randn(2, 3, dtype=torch.complex128),
    )
    bases[0, 0] = 0
    torch.autograd.gradcheck(
        lambda w, b: power_sums(w, b, 7), (weights.requires_grad_(), bases.requires_grad_())
    )


def test_vandermonde_forms_no_array_of_all_modes_and_lags() -> None:
    length, modes = 10_000, 32
    weights, exponents = complex_normal(modes), -complex_normal(modes, seed=1).abs() + 0j
    sizes: list[int] = []

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = func(*args, **(kwargs or {}))
            sizes.append(result.numel())
            return result

    with Sizes():
        vandermonde(weights, exponents, length)
    assert length <= max(sizes) < 2 * length < modes * length


@pytest.mark.parametrize("at", [1, 5, 9])
def test_vandermonde_gradcheck(at: int) -> None:
    weights, exponents = complex_normal(2, 3), complex_normal(2, 3, seed=1) / 5
    assert gradcheck(
        lambda w, z: vandermonde(w, z, at), (weights.requires_grad_(), exponents.requires_grad_())
    )


def roots_of_unity(length: int, alpha: float, step: float) -> tuple[Tensor, Tensor]:
    """Numerator and denominator of the generating function of the bilinear transform and its relatives."""
    z = torch.exp(-2j * np.pi * torch.arange(length, dtype=torch.float64) / length)
    return 1 - z, step * (alpha + (1 - alpha) * z)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.complex128, 1e-12), (torch.complex64, 2e-5)], ids=["double", "single"]
)
@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_cauchy_is_the_sum_of_fractions(dtype: torch.dtype, tolerance: float, alpha: float) -> None:
    Lambda = torch.as_tensor(conjugate_half(nplr("legs", 16)).Lambda) * torch.tensor([[1.0], [0.3]])
    weights = complex_normal(2, 3, 8)
    a, b = roots_of_unity(64, alpha, 0.1)
    found = cauchy(weights.to(dtype), Lambda.to(dtype), a.to(dtype), b.to(dtype)).numpy()
    assert found.shape == (2, 3, 64)
    w, poles = weights.numpy()[..., None], Lambda.numpy()[:, None, :, None]
    expected = (w / (a.numpy() - b.numpy() * poles) + w.conj() / (a.numpy() - b.numpy() * poles.conj())).sum(
        2
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def test_cauchy_is_finite_at_the_root_minus_one() -> None:
    """There b is 0 in the bilinear transform, and the ratio a / b no number."""
    weights, Lambda = complex_normal(1, 3), -1 + complex_normal(3, seed=1)
    found = cauchy(weights, Lambda, torch.full((1,), 2 + 0j, dtype=torch.complex128), Lambda.new_zeros(1))
    np.testing.assert_allclose(found[0, 0], weights.real.sum(), rtol=1e-14)


def test_cauchy_gradcheck() -> None:
    weights, Lambda = complex_normal(2, 2, 3), -2 + complex_normal(2, 3, seed=1)
    a, b = roots_of_unity(6, 0.5, 0.7)
    operands = [value.clone().requires_grad_() for value in (weights, Lambda, a, b)]
    assert gradcheck(cauchy, operands)


def dplr_system(measure: str, modes: int, shared: bool) -> tuple[Tensor, ...]:
    """Lambda, P, Q, B, C and step of three channels with two readouts."""
    half = conjugate_half(nplr(measure, 2 * modes))
    rows = 1 if shared else 3
    scales = torch.linspace(1, 1.3, rows, dtype=torch.float64)[:, None]
    Lambda = scales * (torch.as_tensor(half.Lambda) - 0.01)
    P = torch.as_tensor(half.P)[:, None] * scales
    Q = 2 * P + 0.05 * complex_normal(*P.shape, seed=2)
    B = scales * torch.as_tensor(half.B)
    step = torch.tensor([1e-3, 1e-2, 1e-1], dtype=torch.float64)
    return Lambda, P, Q, B, complex_normal(2, 3, modes, seed=3), step


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("alpha", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("measure", MEASURES)
def test_dplr_kernel_is_the_impulse_response(measure: str, alpha: float, shared: bool) -> None:
    modes = 4
    system = dplr_system(measure, modes, shared)
    for length in (1, 2, 5, 64):
        found = dplr_kernel(*system, length, alpha=alpha)
        assert found.shape == (2, length, 3)
        Lambda, P, Q, B, C, step = (value.numpy() for value in system)
        for h in range(3):
            row = 0 if shared else h
            # Over the modes and their conjugates; Re(Q^* x) is half of the sum of both.
            full = [np.concatenate([F[:, row], F[:, row].conj()], 1) for F in (P, Q)]
            A = np.diag(np.concatenate([Lambda[row], Lambda[row].conj()])) - full[0].T @ full[1].conj() / 2
            x = step[h] * np.concatenate([B[row], B[row].conj()])
            left, right = (np.eye(2 * modes) + c * step[h] * A for c in (-alpha, 1 - alpha))
            x = np.linalg.solve(left, x)
            for k in range(length):
                np.testing.assert_allclose(
                    found[:, k, h], (C[:, h] @ x[:modes]).real, rtol=0, atol=1e-10 * np.abs(C).max()
                )
                x = np.linalg.solve(left, right @ x)


@pytest.mark.parametrize("measure", ["legs", "legt", "lagt", "fourier"])
@pytest.mark.parametrize("length", [1, 2, 8, 100])
def test_short_dplr_kernels_in_float32(measure: str, length: int) -> None:
    """Of a slow system, a mode of which keeps all but a millionth of its state a step."""
    torch.manual_seed(0)
    layer = S4(16, 64, measure=measure)
    system = (*layer._system(), layer.readout()[:, 0], layer._steps())
    wide = [part.to(torch.complex128 if part.is_complex() else torch.float64) for part in system]
    found, expected = dplr_kernel(*system, length), dplr_kernel(*wide, length)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 1e-6 * expected.abs().max()


@pytest.mark.parametrize("measure", ["legs", "legt"])
@pytest.mark.parametrize("length", [1, 6, 7])
def test_dplr_kernel_gradcheck(measure: str, length: int) -> None:
    operands = [value.clone().requires_grad_() for value in dplr_system(measure, 2, False)]
    assert gradcheck(lambda *system: dplr_kernel(*system, length, alpha=0.6), operands)


def test_wrong_arguments_of_the_sums_are_named() -> None:
    z = complex_normal(2, 3)
    for call in (
        lambda: vandermonde(z, z, 0),
        lambda: power_sums(z, z, 0),
        lambda: dplr_kernel(*dplr_system("legs", 2, False), 0),
    ):
        with pytest.raises(ValueError, match="length must be at least 1; got 0"):
            call()
    with pytest.raises(ValueError, match=r"exponents must be torch.complex128; got torch.float64 \(2, 3\)"):
        vandermonde(z, z.real, 4)
    with pytest.raises(ValueError, match=r"weights must be complex64 or complex128; got torch.float64"):
        vandermonde(z.real, z, 4)
    with pytest.raises(ValueError, match=r"weights and exponents must be .*got \(2, 3\) and \(2, 2\)"):
        vandermonde(z, z[:, :2], 4)
    with pytest.raises(ValueError, match=r"weights must be \(..., K, N\) .*got \(2, 3\) and \(2,\)"):
        cauchy(z, z[:, 0], z[0], z[0])
    with pytest.raises(ValueError, match=r"a and b must be .*got \(3,\) and \(2,\)"):
        cauchy(z, z[0], z[0], z[0, :2])
    with pytest.raises(ValueError, match=r"a must be torch.complex128; got torch.complex64"):
        cauchy(z, z[0], z[0].to(torch.complex64), z[0])
    Lambda, P, Q, B, C, step = dplr_system("legs", 2, False)
    with pytest.raises(ValueError, match=r"^Q must be torch.complex128 \(1, 3, 2\).*got .*\(1, 3, 1\)"):
        dplr_kernel(Lambda, P, Q[..., :1], B, C, step, 4)
    with pytest.raises(ValueError, match=r"^step must be \(H,\); got \(\)"):
        dplr_kernel(Lambda, P, Q, B, C, step[0], 4)
    with pytest.raises(ValueError, match=r"^step must be torch.float64 \(3,\).*got torch.float32"):
        dplr_kernel(Lambda, P, Q, B, C, step.float(), 4)
    with pytest.raises(ValueError, match="alpha"):
        dplr_kernel(Lambda, P, Q, B, C, step, 4, alpha=1.5)
