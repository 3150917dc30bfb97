"""Convolution kernels of time-invariant systems."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tsssm.discretize import discretize_dense
from tsssm.ops.operands import REAL, Expected, check_eigenvalues

# Lags up to which the Cauchy sums are computed in double precision.
_SHORT = 128


def krylov(A_bar: Tensor, B_bar: Tensor, length: int) -> Tensor:
    r"""The vectors :math:`\bar A^i \bar B` for i = 0 .. length - 1, by repeated squaring.

    With a readout they are the convolution kernel :math:`(C \bar A^i \bar B)_i` (LSSL, arXiv 2110.13985,
    eq. 6), and without one the states that an impulse leaves behind.

    Parameters
    ----------
    A_bar : Tensor (..., N, N)
    B_bar : Tensor (..., N)
    length : int
        At least 1.

    Returns
    -------
    Tensor (..., N, length)

    Raises
    ------
    ValueError
        If ``length`` is below 1, or ``A_bar`` is not (..., N, N) with the N of ``B_bar``.
    """
    _check_length(length)
    if A_bar.ndim < 2 or B_bar.ndim < 1 or A_bar.shape[-2:] != (B_bar.shape[-1], B_bar.shape[-1]):
        got = f"{tuple(A_bar.shape)} and {tuple(B_bar.shape)}"
        raise ValueError(f"A_bar must be (..., N, N) and B_bar (..., N); got {got}.")
    vectors, power = B_bar[..., None], A_bar
    while vectors.shape[-1] < length:
        missing = length - vectors.shape[-1]
        vectors = torch.cat([vectors, power @ vectors[..., :missing]], dim=-1)
        power = power @ power
    return vectors


def vandermonde(weights: Tensor, exponents: Tensor, length: int) -> Tensor:
    r"""Sums of exponentials on the integers, the kernel of a diagonal system.

    .. math:: K_l = \mathrm{Re} \sum_n w_n \exp(z_n l), \qquad l = 0, \ldots, \mathrm{length} - 1

    (S4D, arXiv 2206.11893, section 3). With l = i S + j and S near the square root of the length, it is the
    matrix product of the tables :math:`w_n \exp(z_n S i)` and :math:`\exp(z_n j)`: no (..., N, length) array
    is formed. Memory beside the result is O(N sqrt(length)) for each system, kept for the gradient.

    Parameters
    ----------
    weights, exponents : Tensor (..., N), complex64 or complex128
        Of the same dtype; leading dimensions broadcast.
    length : int
        At least 1.

    Returns
    -------
    Tensor (..., length), real

    Raises
    ------
    ValueError
        If ``length`` is below 1, a dtype is not complex or differs, or the numbers of terms do.

    Notes
    -----
    The phase :math:`\mathrm{Im}\,z_n l` is a large number of which the fraction of a turn counts, so it is
    formed in float64 for complex64 as well.
    """
    _check_length(length)
    _check_complex(weights=weights, exponents=exponents)
    if weights.shape[-1] != exponents.shape[-1]:
        got = f"{tuple(weights.shape)} and {tuple(exponents.shape)}"
        raise ValueError(f"weights and exponents must be (..., N) with the same N; got {got}.")
    stride, rows = _strides(length)
    index = torch.arange(max(stride, rows), dtype=torch.float64, device=exponents.device)
    z = exponents.to(torch.complex128)[..., None, :]
    coarse, fine = torch.exp(z * (stride * index[:rows, None])), torch.exp(z * index[:stride, None])
    return _sums(weights, coarse, fine, length)


def power_sums(weights: Tensor, bases: Tensor, length: int) -> Tensor:
    r"""Sums of powers, as `vandermonde` with :math:`e^{z_n} = b_n`, for bases without a logarithm too.

    .. math:: K_l = \mathrm{Re} \sum_n w_n b_n^l, \qquad l = 0, \ldots, \mathrm{length} - 1,

    with :math:`0^0 = 1`. The powers are products, by repeated squaring.

    Parameters
    ----------
    weights : Tensor (..., N), complex64 or complex128
    bases : Tensor (..., N), complex128
        In this precision because a power has the relative error of its base times the exponent.
    length : int
        At least 1.

    Returns
    -------
    Tensor (..., length), real

    Raises
    ------
    ValueError
        If ``length`` is below 1, a dtype is another one, or the numbers of terms differ.
    """
    _check_length(length)
    _check_complex(weights=weights)
    if bases.dtype != torch.complex128 or weights.shape[-1] != bases.shape[-1]:
        got = f"{bases.dtype} {tuple(bases.shape)}"
        raise ValueError(f"bases must be complex128 (..., {weights.shape[-1]}), as weights are; got {got}.")
    stride, rows = _strides(length)
    fine = _powers(bases, stride + 1)
    return _sums(weights, _powers(fine[..., -1, :], rows), fine[..., :-1, :], length)


def _strides(length: int) -> tuple[int, int]:
    """S near the square root of a length, and how many times S it takes."""
    stride = math.isqrt(length - 1) + 1
    return stride, -(-length // stride)


def _powers(bases: Tensor, count: int) -> Tensor:
    """The powers 0 to count - 1 of numbers (..., N), as (..., count, N)."""
    powers, factor = torch.ones_like(bases)[..., None, :], bases[..., None, :]
    while powers.shape[-2] < count:
        powers = torch.cat([powers, factor * powers[..., : count - powers.shape[-2], :]], dim=-2)
        factor = factor * factor
    return powers


def _sums(weights: Tensor, coarse: Tensor, fine: Tensor, length: int) -> Tensor:
    """Re of the sums over n of w_n coarse_in fine_jn, for all l = i S + j below a length."""
    coarse, fine = coarse.to(weights.dtype) * weights[..., None, :], fine.to(weights.dtype)
    # The real part of the complex product, in half of its work.
    left = torch.cat([coarse.real, -coarse.imag], dim=-1)
    right = torch.cat([fine.real, fine.imag], dim=-1)
    return (left @ right.mT).flatten(-2)[..., :length]


def cauchy(weights: Tensor, Lambda: Tensor, a: Tensor, b: Tensor) -> Tensor:
    r"""Sums of simple fractions with poles in conjugate pairs, several over the same poles.

    .. math::
        S_{kl} = \sum_n \frac{w_{kn}}{a_l - b_l \lambda_n} + \frac{\bar w_{kn}}{a_l - b_l \bar\lambda_n}

    (S4, arXiv 2111.00396, section 3.2, there with b = 1). The two coefficients in place of their ratio keep
    it free of poles where b is zero, which for the generating function of the bilinear transform is at the
    root of unity -1. The fractions of a pair are added with real coefficients,

    .. math::
        \frac{2\,\mathrm{Re}(w)\,a - 2\,\mathrm{Re}(w \bar\lambda)\,b}
             {a^2 - 2\,\mathrm{Re}(\lambda)\,a b + |\lambda|^2 b^2},

    so that the sum over n is a product with a real matrix. Memory: two complex arrays (..., N, L), whatever
    K is, of which one is kept for the gradient.

    Parameters
    ----------
    weights : Tensor (..., K, N), complex64 or complex128
    Lambda : Tensor (..., N), complex
        One of each pair of poles.
    a, b : Tensor (..., L), complex

    Returns
    -------
    Tensor (..., K, L), complex
        Leading dimensions broadcast.

    Raises
    ------
    ValueError
        If a dtype is not complex or differs, or the numbers of poles or of points do.
    """
    _check_complex(weights=weights, Lambda=Lambda, a=a, b=b)
    if weights.ndim < 2 or Lambda.ndim < 1 or weights.shape[-1] != Lambda.shape[-1]:
        got = f"{tuple(weights.shape)} and {tuple(Lambda.shape)}"
        raise ValueError(f"weights must be (..., K, N) and Lambda (..., N) with the same N; got {got}.")
    if a.ndim < 1 or b.ndim < 1 or a.shape[-1] != b.shape[-1]:
        got = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise ValueError(f"a and b must be (..., L) with the same L; got {got}.")
    with_a = 2 * weights.real
    with_b = -2 * (weights * Lambda.conj()[..., None, :]).real
    # Both polynomials in a and b are products with real matrices, which spares most passes over (..., N, L).
    powers = torch.stack(torch.broadcast_tensors(a * a, a * b, b * b), dim=-2)
    real = Lambda.real
    coefficients = torch.stack([torch.ones_like(real), -2 * real, real**2 + Lambda.imag**2], dim=-1)
    denominator = torch.view_as_complex((coefficients @ _interleaved(powers)).unflatten(-1, (-1, 2)))
    sums = torch.cat([with_a, with_b], dim=-2) @ _interleaved(denominator.reciprocal())
    by_a, by_b = torch.view_as_complex(sums.unflatten(-1, (-1, 2))).tensor_split(2, dim=-2)
    return a[..., None, :] * by_a + b[..., None, :] * by_b


def dplr_kernel(
    Lambda: Tensor,
    P: Tensor,
    Q: Tensor,
    B: Tensor,
    C: Tensor,
    step: Tensor,
    length: int,
    *,
    alpha: float = 0.5,
) -> Tensor:
    r"""Convolution kernels of diagonal plus low-rank systems on a regular grid, without the states.

    The kernel of the system that `dplr_scan` runs, in its notation, truncated to ``length``: by its
    generating function at the roots of unity z, which the Woodbury identity reduces to Cauchy sums (S4,
    arXiv 2111.00396, section 3.2 and algorithm 1, there for alpha = 1/2 and rank 1),

    .. math::
        \sum_{l < L} K_l z^l = C (I - \bar A^L) \left(a - b A\right)^{-1} s B, \qquad
        a = 1 - z, \quad b = s\,(\alpha + (1 - \alpha) z),

    and an inverse Fourier transform. The truncation :math:`C \bar A^L` is taken from the dense matrix by
    repeated squaring, in float64, because squaring doubles the relative error each time.

    Parameters
    ----------
    Lambda, P, Q, B, C, step, alpha
        As in `dplr_scan`, with C (M, H, N).
    length : int
        At least 1.

    Returns
    -------
    Tensor (M, length, H), real
        Kernels as `causal_conv` takes them.

    Raises
    ------
    ValueError
        If ``length`` is below 1, shapes or dtypes disagree, or alpha is outside [0, 1].

    Notes
    -----
    O(H N (N^2 log L + L)) operations; memory as `cauchy` with L / 2 + 1 points, and (H, 2N, 2N) float64 for
    each squaring. Errors are relative to the largest of K and C A_bar^L, as the transform spreads them over
    all lags: for a system that alpha < 1/2 makes grow, only the end of the kernel is accurate. Modes that
    keep nearly all over the length cancel: kernels of up to 128 lags, which cost little, are therefore
    computed in double precision whatever the operands are.
    """
    _check_length(length)
    real, modes = check_eigenvalues("Lambda", Lambda)
    if step.ndim != 1:
        raise ValueError(f"step must be (H,); got {tuple(step.shape)}.")
    channels, rank = step.shape[0], P.shape[0]
    shared = 1 if Lambda.shape[0] == 1 else channels
    expected: Expected = {
        "Lambda": (Lambda, (shared, modes), Lambda.dtype),
        "P": (P, (rank, shared, modes), Lambda.dtype),
        "Q": (Q, (rank, shared, modes), Lambda.dtype),
        "B": (B, (shared, modes), Lambda.dtype),
        "C": (C, (*C.shape[:1], channels, modes), Lambda.dtype),
        "step": (step, (channels,), real),
    }
    for name, (tensor, shape, dtype) in expected.items():
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            got = f"{tensor.dtype} {tuple(tensor.shape)}"
            raise ValueError(f"{name} must be {dtype} {shape} for step {tuple(step.shape)}; got {got}.")
    if length <= _SHORT and real == torch.float32:
        Lambda, P, Q, B, C = (operand.to(torch.complex128) for operand in (Lambda, P, Q, B, C))
        return dplr_kernel(Lambda, P, Q, B, C, step.double(), length, alpha=alpha).to(real)
    readouts = C.shape[0]
    closed = C - _after(Lambda, P, Q, C, step, length, alpha).to(C.dtype)
    a, b = _generating_coefficients(step, length, alpha)
    a, b = a.to(Lambda.dtype), b.to(Lambda.dtype)
    # The matrix [C; Q^*] (a - b Lambda)^-1 [B, P], each entry a Cauchy sum. The real part of a product with a
    # mode is half of the sum over the mode and its conjugate.
    left = torch.cat([closed, Q.conj().expand(rank, channels, modes)])
    right = torch.cat([B[None], P])
    weights = 0.5 * left[:, None] * right[None]
    sums = cauchy(weights.flatten(0, 1).transpose(0, 1), Lambda, a, b)
    table = sums.unflatten(1, (readouts + rank, 1 + rank)).movedim(0, 2)  # (M + rank, 1 + rank, H, L)
    # Gaussian elimination of the rank equations (1 + b Q^* R P) w = Q^* R B; their matrix has a positive
    # definite real part for a stable system and alpha >= 1/2, and needs no pivoting.
    rows = [list(row.unbind()) for row in table.unbind()]
    for r in reversed(range(rank)):
        pivot = rows[readouts + r]
        inverse = b / (1 + b * pivot[1 + r])
        rows = [
            [row[k] - row[1 + r] * inverse * pivot[k] for k in range(1 + r)] for row in rows[: readouts + r]
        ]
    spectrum = step[:, None] * torch.stack([row[0] for row in rows])
    return torch.fft.irfft(spectrum, n=length).transpose(1, 2)


def _interleaved(z: Tensor) -> Tensor:
    """Real and imaginary parts in turn, (..., L) complex to (..., 2 L) real."""
    return torch.view_as_real(z).flatten(-2)


def _check_length(length: int) -> None:
    if length < 1:
        raise ValueError(f"length must be at least 1; got {length}.")


def _check_complex(**tensors: Tensor) -> None:
    """Raise ValueError unless all are of one complex dtype."""
    first = next(iter(tensors.values())).dtype
    for name, tensor in tensors.items():
        if tensor.dtype not in REAL or tensor.dtype != first:
            expected = first if first in REAL else "complex64 or complex128"
            raise ValueError(f"{name} must be {expected}; got {tensor.dtype} {tuple(tensor.shape)}.")


def _generating_coefficients(step: Tensor, length: int, alpha: float) -> tuple[Tensor, Tensor]:
    """1 - z (L / 2 + 1,) and s (alpha + (1 - alpha) z) (H, L / 2 + 1) at the roots of unity z, complex128."""
    turn = torch.arange(length // 2 + 1, dtype=torch.float64, device=step.device) * (2 * math.pi / length)
    # 1 - cos loses the digits of small angles.
    a = torch.complex(2 * torch.sin(turn / 2) ** 2, torch.sin(turn))
    return a, step.double()[:, None] * (1 - (1 - alpha) * a)


def _after(
    Lambda: Tensor, P: Tensor, Q: Tensor, C: Tensor, step: Tensor, length: int, alpha: float
) -> Tensor:
    """The readouts C A_bar^L (M, H, N) as complex128 numbers over one of each pair."""
    modes = Lambda.shape[-1]
    decay, frequency = torch.diag_embed(Lambda.real.double()), torch.diag_embed(Lambda.imag.double())
    A = torch.cat([torch.cat([decay, -frequency], -1), torch.cat([frequency, decay], -1)], -2)
    A = A - torch.einsum("rhn,rhm->hnm", *(torch.cat([F.real, F.imag], -1).double() for F in (P, Q)))
    power = discretize_dense(A, A.new_zeros(2 * modes), step.double(), alpha).A_bar
    rows = torch.cat([C.real, -C.imag], -1).double()
    remaining = length
    while True:
        if remaining % 2:
            rows = torch.einsum("mhn,hnk->mhk", rows, power)
        remaining //= 2
        if not remaining:
            break
        power = power @ power
    return torch.complex(rows[..., :modes], -rows[..., modes:])
