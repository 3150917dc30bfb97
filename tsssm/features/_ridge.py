r"""Ridge regression on many features, its penalty chosen by the exact leave-one-out error.

Symbols and shapes: n series, d features, m targets, weights w; s is the unit vector along sqrt(w)::

    X    (n, d)    sqrt(w) times the standardised features: weighted mean 0, variance 1
    Y    (n, m)    sqrt(w) times the centred targets
    K    (n, n)    X X^T

The coefficients are :math:`X^T c` with :math:`c = (K + \alpha I)^{-1} Y`. The intercept, which is not
penalised, adds :math:`s s^T` to the hat matrix, so that with :math:`G = (K + \alpha I)^{-1}` the residual of
a series that is left out is :math:`c_i / (G_{ii} - s_i^2 / \alpha)` (Rifkin, Lippert, *Notes on regularized
least squares*, MIT 2007, section 3, with K s = 0). Mean and scale of the features are those of all series.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.linalg

FloatArray = npt.NDArray[np.float64]

#: Penalties tried.
ALPHAS = np.logspace(-3, 3, 10)
_COLUMNS = 1024
_LEAST_ROWS, _VALUES = 1024, 2**20


class Ridge(NamedTuple):
    """A fitted ridge regression.

    Attributes
    ----------
    coef : array (d, m)
    intercept : array (m,)
    alpha : float
        The penalty with the smallest leave-one-out error.
    left_out : array (n, m)
        Prediction for every series by a fit without it.
    """

    coef: FloatArray
    intercept: FloatArray
    alpha: float
    left_out: FloatArray


def predict_ridge(features: npt.NDArray[np.float32], coef: FloatArray, intercept: FloatArray) -> FloatArray:
    """Return predictions (n, m) from features (n, d), coefficients (d, m) and intercept (m,)."""
    columns = _columns(features.shape[1])
    return sum((features[:, c].astype(np.float64) @ coef[c] for c in columns), intercept[None])


def fit_ridge(
    features: npt.NDArray[np.float32],
    targets: FloatArray,
    weight: FloatArray,
    alphas: FloatArray = ALPHAS,
    *,
    standardise: bool = True,
) -> Ridge:
    """Fit on features (n, d), all finite, targets (n, m) and weights (n,), all positive.

    Without ``standardise`` features count by their scales, only constant ones do not count.

    Beside the features it takes memory for a few matrices of the smaller of n and d squared.
    """
    n, d = features.shape
    root = np.sqrt(weight)
    share = weight / weight.sum()
    centre = share @ targets
    Y = root[:, None] * (targets - centre)
    if n <= d:
        standard = _Standard(features, *_moments(features, share, standardise), root)
        alpha, dual, error = _dual(standard, Y, share, alphas)
        coef = np.concatenate([standard.columns(c).T @ dual / standard.scale[c, None] for c in _columns(d)])
    else:
        standard = _Standard(features, *_moments_by_rows(features, share, standardise), root)
        alpha, coef, error = _primal(standard, Y, share, alphas)
    return Ridge(coef, centre - standard.mean @ coef, alpha, targets - error / root[:, None])


class _Standard(NamedTuple):
    """The standardised features times the roots of the weights, made piece by piece."""

    features: npt.NDArray[np.float32]
    mean: FloatArray
    scale: FloatArray
    root: FloatArray

    def columns(self, c: slice) -> FloatArray:
        return (self.features[:, c] - self.mean[c]) / self.scale[c] * self.root[:, None]

    def rows(self, r: slice) -> FloatArray:
        return (self.features[r] - self.mean) / self.scale * self.root[r, None]


def _standard(
    features: npt.NDArray[np.float32],
    mean: FloatArray,
    scale: FloatArray,
    root: FloatArray,
    standardise: bool,
) -> _Standard:
    return _Standard(features, mean, scale if standardise else np.where(np.isinf(scale), scale, 1.0), root)


def _columns(d: int) -> list[slice]:
    return [slice(start, start + _COLUMNS) for start in range(0, d, _COLUMNS)]


def _rows(n: int, d: int) -> list[slice]:
    """Pieces of rows: enough for a product of matrices to be worth its sum, few enough to be small."""
    count = max(_LEAST_ROWS, _VALUES // d)
    return [slice(start, start + count) for start in range(0, n, count)]


def _moments(
    features: npt.NDArray[np.float32], share: FloatArray, standardise: bool
) -> tuple[FloatArray, FloatArray]:
    """Weighted mean and standard deviation (d,) of the features, 1 for a constant one."""
    mean, scale = np.empty(features.shape[1]), np.empty(features.shape[1])
    for c in _columns(features.shape[1]):
        part = features[:, c].astype(np.float64)
        mean[c] = share @ part
        scale[c] = np.sqrt(share @ (part - mean[c]) ** 2)
    return mean, _or_infinite(scale, mean, standardise)


def _moments_by_rows(
    features: npt.NDArray[np.float32], share: FloatArray, standardise: bool
) -> tuple[FloatArray, FloatArray]:
    """As `_moments`, where there are more rows than columns."""
    pieces = _rows(*features.shape)
    mean = sum((share[r] @ features[r].astype(np.float64) for r in pieces), np.zeros(features.shape[1]))
    scale = np.sqrt(sum((share[r] @ (features[r] - mean) ** 2 for r in pieces), np.zeros_like(mean)))
    return mean, _or_infinite(scale, mean, standardise)


def _or_infinite(scale: FloatArray, mean: FloatArray, standardise: bool) -> FloatArray:
    """Divisors of the features, infinite for those that are constant but for rounding: they become zero."""
    varies = scale > 10 * np.finfo(np.float32).eps * np.abs(mean)
    return np.where(varies & (scale > 0), scale if standardise else 1.0, np.inf)


def _dual(
    standard: _Standard, Y: FloatArray, share: FloatArray, alphas: FloatArray
) -> tuple[float, FloatArray, FloatArray]:
    """Penalty, coefficients c (n, m) and left-out residuals (n, m), by the eigenvectors of K."""
    n, d = standard.features.shape
    K = np.zeros((n, n))
    # In float64, column block by column block: in float32 the error of K would exceed the smallest penalties.
    for c in _columns(d):
        part = standard.columns(c)
        K += part @ part.T
    spectrum, basis = _eigh(K)
    spectrum = np.maximum(spectrum, 0.0)
    rotated = basis.T @ Y
    squares = basis**2
    best: tuple[float, float, FloatArray, FloatArray] | None = None
    for alpha in alphas:
        shrunk = 1 / (spectrum + alpha)
        dual = basis @ (shrunk[:, None] * rotated)
        error = _left_out(dual, squares @ shrunk - share / alpha, alpha)
        loss = float(np.mean(error**2))
        if best is None or loss < best[0]:
            best = loss, float(alpha), dual, error
    assert best is not None
    return best[1:]


def _primal(
    standard: _Standard, Y: FloatArray, share: FloatArray, alphas: FloatArray
) -> tuple[float, FloatArray, FloatArray]:
    """Penalty, coefficients of the features (d, m) and left-out residuals (n, m), by those of X^T X.

    With X^T X = V diag(l) V^T, the eigenvectors of K are X V / sqrt(l), and 0 is the eigenvalue of what they
    leave out. Rows of X are made, used and forgotten piece by piece, once for X^T X and once for residuals.
    """
    n, d = standard.features.shape
    gram, XY = np.zeros((d, d)), np.zeros((d, Y.shape[1]))
    for r in _rows(n, d):
        X = standard.rows(r)
        gram += X.T @ X
        XY += X.T @ Y[r]
    spectrum, V = _eigh(gram)
    positive = spectrum > spectrum[-1] * d * np.finfo(np.float64).eps
    spectrum, V = spectrum[positive], V[:, positive]
    V /= np.sqrt(spectrum)
    rotated = V.T @ XY
    shrunk = 1 / (spectrum + alphas[:, None])
    errors = np.empty((len(alphas), *Y.shape))
    for r in _rows(n, d):
        basis = standard.rows(r) @ V
        rest_Y = Y[r] - basis @ rotated
        squares = basis**2
        rest = 1 - squares.sum(axis=1)
        for one, alpha, error in zip(shrunk, alphas, errors, strict=True):
            dual = basis @ (one[:, None] * rotated) + rest_Y / alpha
            error[r] = _left_out(dual, squares @ one + (rest - share[r]) / alpha, alpha)
    best = int(np.argmin([np.mean(error**2) for error in errors]))
    coef = V @ ((spectrum * shrunk[best])[:, None] * rotated) / standard.scale[:, None]
    return float(alphas[best]), coef, errors[best]


def _left_out(dual: FloatArray, leverage: FloatArray, alpha: float) -> FloatArray:
    """Residuals (n, m) of series that are left out."""
    # A series that alone decides on some direction cannot be predicted without it.
    return dual / np.maximum(leverage, np.finfo(np.float64).eps / alpha)[:, None]


def _eigh(matrix: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Eigenvalues, increasing, and eigenvectors of a symmetric matrix.

    The fast divide-and-conquer method may fail to converge; then by implicit QR, which is slower and surer.
    """
    try:
        return np.linalg.eigh(matrix)
    except np.linalg.LinAlgError:
        return scipy.linalg.eigh(matrix, driver="ev")
