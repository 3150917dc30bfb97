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

FloatArray = npt.NDArray[np.float64]

#: Penalties tried.
ALPHAS = np.logspace(-3, 3, 10)
_COLUMNS = 1024


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


def fit_ridge(features: npt.NDArray[np.float32], targets: FloatArray, weight: FloatArray) -> Ridge:
    """Fit on features (n, d), targets (n, m) and weights (n,), all positive."""
    n, d = features.shape
    root = np.sqrt(weight)
    share = weight / weight.sum()
    centre = share @ targets
    Y = root[:, None] * (targets - centre)
    mean, scale = _moments(features, share)
    solve = _dual if n <= d else _primal
    basis, spectrum = solve(features, mean, scale, root)
    rotated = basis.T @ Y
    squares = basis**2
    # What the basis leaves out has the eigenvalue 0: nothing if n <= d, where it is complete.
    rest_Y = Y - basis @ rotated
    rest = 1 - squares.sum(axis=1)
    best: tuple[float, float, FloatArray, FloatArray] | None = None
    for alpha in ALPHAS:
        shrunk = 1 / (spectrum + alpha)
        dual = basis @ (shrunk[:, None] * rotated) + rest_Y / alpha
        leverage = squares @ shrunk + (rest - share) / alpha
        # A series that alone decides on some direction cannot be predicted without it.
        error = dual / np.maximum(leverage, np.finfo(np.float64).eps / alpha)[:, None]
        loss = float(np.mean(error**2))
        if best is None or loss < best[0]:
            best = loss, float(alpha), dual, error
    assert best is not None
    _, alpha, dual, error = best
    coef = np.concatenate(
        [_standardised(features, mean, scale, root, c).T @ dual / scale[c, None] for c in _columns(d)]
    )
    return Ridge(coef, centre - mean @ coef, alpha, targets - error / root[:, None])


def _columns(d: int) -> list[slice]:
    return [slice(start, start + _COLUMNS) for start in range(0, d, _COLUMNS)]


def _moments(features: npt.NDArray[np.float32], share: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weighted mean and standard deviation (d,) of the features, 1 for a constant one."""
    mean, scale = np.empty(features.shape[1]), np.empty(features.shape[1])
    for c in _columns(features.shape[1]):
        part = features[:, c].astype(np.float64)
        mean[c] = share @ part
        scale[c] = np.sqrt(share @ (part - mean[c]) ** 2)
    varies = scale > 10 * np.finfo(np.float32).eps * np.abs(mean)
    return mean, np.where(varies & (scale > 0), scale, np.inf)


def _standardised(
    features: npt.NDArray[np.float32], mean: FloatArray, scale: FloatArray, root: FloatArray, c: slice
) -> FloatArray:
    return (features[:, c] - mean[c]) / scale[c] * root[:, None]


def _dual(
    features: npt.NDArray[np.float32], mean: FloatArray, scale: FloatArray, root: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """All eigenvectors (n, n) and eigenvalues (n,) of K."""
    n, d = features.shape
    K = np.zeros((n, n))
    # In float64, column block by column block: in float32 the error of K would exceed the smallest penalties.
    for c in _columns(d):
        part = _standardised(features, mean, scale, root, c)
        K += part @ part.T
    spectrum, basis = np.linalg.eigh(K)
    return basis, np.maximum(spectrum, 0.0)


def _primal(
    features: npt.NDArray[np.float32], mean: FloatArray, scale: FloatArray, root: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The eigenvectors (n, d) of K with a positive eigenvalue, from those of X^T X."""
    X = _standardised(features, mean, scale, root, slice(None))
    spectrum, V = np.linalg.eigh(X.T @ X)
    positive = spectrum > spectrum[-1] * len(spectrum) * np.finfo(np.float64).eps
    spectrum = spectrum[positive]
    return X @ (V[:, positive] / np.sqrt(spectrum)), spectrum
