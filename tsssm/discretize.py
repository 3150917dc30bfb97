r"""Discretisation of :math:`\dot x = A x + B u` over steps of any shape, in PyTorch.

Every rule turns the continuous system into

    x_k = A_bar x_{k-1} + B_bar u_k                        (all rules but first-order hold)
    x_k = A_bar x_{k-1} + B_prev u_{k-1} + B_bar u_k       (first-order hold)

=========  ==========================  =====================================================================
symbol     shape                       meaning
=========  ==========================  =====================================================================
``A``      (...) or (..., N, N)        state matrix, diagonal or dense
``B``      (...) or (..., N)           input vector
``step``   any                         elapsed time, Delta * delta >= 0, in the unit of time of A
``z``      broadcast of step and A     step * A
=========  ==========================  =====================================================================

====================  ===============================================================================
method                A_bar and B_bar
====================  ===============================================================================
``"zoh"``             zero-order hold, u constant over the step: exp(z) and step phi1(z) B
``"foh"``             first-order hold, u linear over the step: exp(z), B_bar = step phi2(z) B, and
                      B_prev = step (phi1(z) - phi2(z)) B
alpha in [0, 1]       generalised bilinear transform (GBT): (I - alpha z)^-1 (I + (1 - alpha) z) and
                      (I - alpha z)^-1 step B
``"euler"``           GBT with alpha = 0
``"bilinear"``        GBT with alpha = 1/2
``"backward-euler"``  GBT with alpha = 1
====================  ===============================================================================

with phi1(z) = (e^z - 1) / z and phi2(z) = (e^z - 1 - z) / z^2, so that A may be singular. At a step of zero
all rules give exactly A_bar = I and B_bar = B_prev = 0, with finite gradients: a padded sample leaves the
state as it is.

References
----------
Phi functions: Hochbruck, Ostermann, *Exponential integrators*, Acta Numerica 2010, Section 2. GBT: LSSL,
arXiv 2110.13985, Section 2. Block matrices: Van Loan, *Computing integrals involving the matrix exponential*,
IEEE Transactions on Automatic Control 1978.
"""

from __future__ import annotations

from collections.abc import Callable
from math import factorial
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["METHODS", "Discrete", "discretize_dense", "discretize_diagonal", "gbt_alpha", "phi1", "phi2"]

_GBT_ALPHA = {"euler": 0.0, "bilinear": 0.5, "backward-euler": 1.0}

#: Names of the rules; a float alpha in [0, 1] is accepted beside them.
METHODS = ("zoh", "foh", *_GBT_ALPHA)

# Below this modulus the closed forms cancel and the Taylor series takes over. At 1 they lose about two
# bits in the value and four in the derivative of phi2, and the series needs few terms.
_SERIES_RADIUS = 1.0
# So many terms that the remainder at the radius is below rounding, in the first two derivatives as well.
_SERIES_TERMS = {torch.float32: 12, torch.complex64: 12, torch.float64: 20, torch.complex128: 20}


class Discrete(NamedTuple):
    """A discretised system: x_k = A_bar x_{k-1} + B_prev u_{k-1} + B_bar u_k.

    Attributes
    ----------
    A_bar : Tensor
        State matrix of the recurrence: the factors of a diagonal system, or (..., N, N).
    B_bar : Tensor
        Coefficient of the current input u_k: elementwise for a diagonal system, or (..., N).
    B_prev : Tensor or None
        Coefficient of the previous input u_{k-1}; None for every rule but first-order hold.
    """

    A_bar: Tensor
    B_bar: Tensor
    B_prev: Tensor | None = None


def phi1(z: Tensor) -> Tensor:
    r"""Return :math:`\varphi_1(z) = (e^z - 1) / z = \int_0^1 e^{(1-s)z} ds` elementwise, 1 at z = 0.

    Accurate to a few units in the last place (of the modulus, where complex) for all z with Re z <= 0, also
    near the zeros at the multiples of 2 pi i. So is the gradient, except close to zeros of its own.

    Parameters
    ----------
    z : Tensor of any shape, float32, float64, complex64 or complex128
        Argument with Re z <= 0. Larger ones are computed with less accuracy until exp overflows.

    Returns
    -------
    Tensor
        Of the shape and dtype of `z`.

    Raises
    ------
    ValueError
        If `z` has another dtype.
    """
    return _phi(z, 1, lambda z: _expm1(z) / z)


def phi2(z: Tensor) -> Tensor:
    r"""Return :math:`\varphi_2(z) = (e^z - 1 - z) / z^2 = \int_0^1 s e^{(1-s)z} ds` elementwise, 1/2 at 0.

    The derivative of phi1 is phi1 - phi2. Accuracy as for `phi1`.

    Parameters
    ----------
    z : Tensor of any shape, float32, float64, complex64 or complex128
        As for `phi1`.

    Returns
    -------
    Tensor
        Of the shape and dtype of `z`.

    Raises
    ------
    ValueError
        If `z` has another dtype.
    """
    return _phi(z, 2, lambda z: (_expm1(z) / z - 1) / z)


def gbt_alpha(method: str | float) -> float | None:
    """The alpha of a rule that is a generalised bilinear transform; None for the holds.

    Raises
    ------
    ValueError
        If ``method`` is neither one of `METHODS` nor a number in [0, 1].
    """
    if isinstance(method, str) and method in METHODS:
        return _GBT_ALPHA.get(method)
    if isinstance(method, Real) and not isinstance(method, bool) and 0 <= method <= 1:
        return float(method)
    raise ValueError(
        f"method must be one of {', '.join(map(repr, METHODS))} or a float alpha in [0, 1], got {method!r}"
    )


def discretize_diagonal(A: Tensor, B: Tensor, step: Tensor, method: str | float) -> Discrete:
    """Discretise a system with a diagonal state matrix; everything is elementwise and broadcasts.

    Parameters
    ----------
    A : Tensor of any shape, real or complex
        Diagonal of the state matrix (the eigenvalues Lambda), Re A <= 0.
    B : Tensor that broadcasts with A and step
        Input vector.
    step : Tensor that broadcasts with A, real
        Elapsed time, >= 0 (not checked, which would cost a transfer on a GPU). For instance ``A`` of shape
        (H, N, 1) and ``step`` of shape (batch, H, 1, L).
    method : {"zoh", "foh", "bilinear", "backward-euler", "euler"} or float
        The rule; a number in [0, 1] is the alpha of the generalised bilinear transform.

    Returns
    -------
    Discrete
        ``A_bar`` of the shape broadcast from step and A, ``B_bar`` (and ``B_prev``, "foh" only) of the shape
        broadcast from step, A and B.

    Raises
    ------
    TypeError
        If `A`, `B` or `step` is not a tensor.
    ValueError
        If `method` is unknown or outside [0, 1], a dtype is not supported, or the shapes do not broadcast.
    """
    alpha = _check(A, B, step, method)
    _broadcast(A=A.shape, B=B.shape, step=step.shape)
    z = step * A
    if alpha is not None:
        inverse = 1 / (1 - alpha * z)
        return Discrete((1 + (1 - alpha) * z) * inverse, step * B * inverse)
    if method == "zoh":
        return Discrete(torch.exp(z), step * phi1(z) * B)
    B_bar = phi2(z)
    return Discrete(torch.exp(z), step * B_bar * B, step * (phi1(z) - B_bar) * B)


def discretize_dense(A: Tensor, B: Tensor, step: Tensor, method: str | float) -> Discrete:
    """Discretise a system with a dense state matrix.

    The holds take the exponential of a block matrix, which needs no inverse of A; the generalised bilinear
    transform solves one linear system.

    Parameters
    ----------
    A : Tensor of shape (..., N, N), real or complex
        State matrices.
    B : Tensor of shape (..., N)
        Input vectors.
    step : Tensor of any shape, real
        Elapsed time, >= 0 (not checked). Its shape broadcasts with the leading dimensions of A and B: one A
        of shape (N, N) gives ``A_bar`` of the shape of step followed by (N, N).
    method : {"zoh", "foh", "bilinear", "backward-euler", "euler"} or float
        The rule; a number in [0, 1] is the alpha of the generalised bilinear transform.

    Returns
    -------
    Discrete
        ``A_bar (..., N, N)``, ``B_bar (..., N)`` and, for "foh", ``B_prev (..., N)``. The leading dimensions
        are those of step, A and B broadcast.

    Raises
    ------
    TypeError
        If `A`, `B` or `step` is not a tensor.
    ValueError
        If `method` is unknown or outside [0, 1], a dtype is not supported, A is not square, B does not fit A,
        or the leading dimensions do not broadcast.
    """
    alpha = _check(A, B, step, method)
    if A.ndim < 2 or A.shape[-1] != A.shape[-2]:
        raise ValueError(f"A must have shape (..., N, N), got {tuple(A.shape)}")
    N = A.shape[-1]
    if B.ndim < 1 or B.shape[-1] != N:
        raise ValueError(
            f"B must have shape (..., {N}) to fit A of shape {tuple(A.shape)}, got {tuple(B.shape)}"
        )
    batch = _broadcast(A=A.shape[:-2], B=B.shape[:-1], step=step.shape)
    z, z_B = step[..., None, None] * A, step[..., None] * B
    dtype = torch.promote_types(z.dtype, z_B.dtype)
    z, z_B = z.to(dtype).expand(*batch, N, N), z_B.to(dtype).expand(*batch, N)

    if alpha is not None:
        eye = torch.eye(N, dtype=dtype, device=z.device)
        right = torch.cat([eye + (1 - alpha) * z, z_B[..., None]], dim=-1)
        solution = torch.linalg.solve(eye - alpha * z, right)
        return Discrete(solution[..., :N], solution[..., N])

    # The first row of exp [[z, z_B, 0], [0, 0, 1], [0, 0, 0]] is [exp(z), phi1(z) z_B, phi2(z) z_B].
    # Zero-order hold does without the last row and column.
    inputs = 1 if method == "zoh" else 2
    block = pad(torch.cat([z, z_B[..., None]], dim=-1), (0, inputs - 1, 0, inputs))
    if method == "foh":
        block = block + pad(torch.ones(1, 1, dtype=dtype, device=z.device), (N + 1, 0, N, 1))
    exponential = torch.linalg.matrix_exp(block)
    A_bar, held = exponential[..., :N, :N], exponential[..., :N, N]
    if method == "zoh":
        return Discrete(A_bar, held)
    B_bar = exponential[..., :N, N + 1]
    return Discrete(A_bar, B_bar, held - B_bar)


def _expm1(z: Tensor) -> Tensor:
    """e^z - 1 for Re z <= 0 such that its autograd derivative, e^z, is accurate as well.

    torch.expm1 differentiates as expm1(z) + 1, which loses the digits of a small e^z; where e^z is small, the
    plain difference is exact enough.
    """
    return torch.where(z.real < -1, torch.exp(z) - 1, torch.expm1(z))


def _phi(z: Tensor, order: int, closed_form: Callable[[Tensor], Tensor]) -> Tensor:
    """sum_k z^k / (k + order)! near zero, else `closed_form`; autograd sees only safe arguments in either."""
    if z.dtype not in _SERIES_TERMS:
        raise ValueError(f"z must be float32, float64, complex64 or complex128, got {z.dtype}")
    terms = _SERIES_TERMS[z.dtype]
    near = z.detach().abs() < _SERIES_RADIUS
    z_near = torch.where(near, z, 0)
    series = torch.full_like(z_near, 1 / factorial(terms - 1 + order))
    for k in reversed(range(terms - 1)):
        series = series * z_near + 1 / factorial(k + order)
    return torch.where(near, series, closed_form(torch.where(near, 1, z)))


def _check(A: Tensor, B: Tensor, step: Tensor, method: str | float) -> float | None:
    """Check types and dtypes; return the alpha of the method, None for the holds."""
    for name, value in (("A", A), ("B", B), ("step", step)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
        if value.dtype not in _SERIES_TERMS:
            raise ValueError(f"{name} must be float32, float64, complex64 or complex128, got {value.dtype}")
    if step.is_complex():
        raise ValueError(f"step must be float32 or float64, got {step.dtype}")
    return gbt_alpha(method)


def _broadcast(**shapes: torch.Size) -> torch.Size:
    try:
        return torch.broadcast_shapes(*shapes.values())
    except RuntimeError as error:
        named = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
        raise ValueError(
            f"the (leading) shapes of {' and '.join(shapes)} must broadcast, got {named}"
        ) from error
