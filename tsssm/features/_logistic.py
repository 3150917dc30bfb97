r"""Logistic regression on many features, its penalty chosen by the approximate leave-one-out error.

Symbols and shapes: n series, d features, r directions, weights w, probabilities p, penalty alpha::

    Z     (n, r)   the features in the directions in which they vary most
    H     (r, r)   Z^T diag(w p (1 - p)) Z + alpha I, the Hessian, after the intercept is eliminated
    h     (n,)     z_i^T H^{-1} z_i, and what the intercept adds

One step of Newton's method from the fit to all series to that without series i has

.. math:: \eta_i^{(-i)} \approx \eta_i - \frac{w_i (y_i - p_i) h_i}{1 - w_i p_i (1 - p_i) h_i}

(Rad, Maleki, *A scalable estimate of the out-of-sample prediction error via approximate leave-one-out
cross-validation*, J. R. Statist. Soc. B 82 (2020), arXiv 1801.10243, theorem 1).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.linalg
from scipy.special import expit

from tsssm.features._ridge import Ridge

FloatArray = npt.NDArray[np.float64]

#: Penalties tried, in units of the mean squared length of a series' features: from the strongest on.
PENALTIES = np.logspace(1.0, -2.0, 10)
# What varies in more directions than this, varies little in the others.
_DIRECTIONS = 1536
_STEPS, _TOLERANCE = 25, 1e-6


def fit_logistic(features: npt.NDArray[np.float32], signs: FloatArray, weight: FloatArray) -> Ridge:
    """Fit on features (n, d), all finite and of comparable scales, signs (n, m) and weights (n,), positive.

    Each column of signs, 1 or -1, has a regression of its own. The outputs are half of the log odds, so that
    those of the sign that is asked for and of the other one are a logit each, and ``alpha`` is the mean of
    the penalties of the columns.
    """
    share = weight / weight.sum()
    mean = share @ features.astype(np.float64)
    Z, directions = _directions(features - mean)
    unit = max(float(np.einsum("nr,nr->", Z, Z)) / len(Z), np.finfo(np.float64).tiny)
    fits = [_fit_one(Z, (column + 1) / 2, weight, unit) for column in signs.T]
    coef = directions @ np.stack([fit[0] for fit in fits], axis=1) / 2
    intercept = np.array([fit[1] for fit in fits]) / 2 - mean @ coef
    left_out = np.stack([fit[3] for fit in fits], axis=1) / 2
    return Ridge(coef, intercept, float(np.mean([fit[2] for fit in fits])), left_out)


def _directions(X: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Coordinates Z (n, r) of centred features (n, d), and directions (d, r): Z = X @ directions."""
    n, d = X.shape
    if d <= min(n, _DIRECTIONS):
        return X, np.eye(d)
    size = min(n, d)
    gram = X @ X.T if n <= d else X.T @ X
    which = (max(0, size - _DIRECTIONS), size - 1)
    spectrum, basis = scipy.linalg.eigh(gram, subset_by_index=which)
    kept = spectrum > max(spectrum[-1], 0.0) * size * np.finfo(np.float64).eps
    spectrum, basis = spectrum[kept], basis[:, kept]
    if n > d:
        return X @ basis, basis
    root = np.sqrt(spectrum)
    return basis * root, X.T @ (basis / root)


def _fit_one(
    Z: FloatArray, y: FloatArray, weight: FloatArray, unit: float
) -> tuple[FloatArray, float, float, FloatArray]:
    """Coefficients (r,), intercept, penalty, and log odds (n,) of each series from a fit without it."""
    # With a series more of each class, so that the odds are finite where there is but one.
    total = weight.sum()
    prior = (weight @ y + 0.5) / (total + 1.0)
    beta, intercept = np.zeros(Z.shape[1]), float(np.log(prior / (1 - prior)))
    best: tuple[float, FloatArray, float, float, FloatArray] | None = None
    for penalty in PENALTIES * unit:
        beta, intercept, left_out = _newton(Z, y, weight, penalty, beta, intercept)
        loss = float(weight @ np.logaddexp(0.0, np.where(y > 0.5, -left_out, left_out)))
        if best is None or loss < best[0]:
            best = loss, beta, intercept, float(penalty), left_out
        elif loss > 1.05 * best[0]:
            break  # weaker penalties only take longer
    assert best is not None
    return best[1:]


def _newton(
    Z: FloatArray, y: FloatArray, weight: FloatArray, penalty: float, beta: FloatArray, intercept: float
) -> tuple[FloatArray, float, FloatArray]:
    """Coefficients and intercept of one penalty, from those of another, and the left-out log odds."""

    def loss(beta: FloatArray, intercept: float) -> float:
        odds = Z @ beta + intercept
        return float(weight @ np.logaddexp(0.0, np.where(y > 0.5, -odds, odds)) + penalty * beta @ beta / 2)

    current = loss(beta, intercept)
    for _ in range(_STEPS):
        odds, p, curve, total, centre, factor = _hessian(Z, weight, penalty, beta, intercept)
        rest = weight * (y - p)
        gradient, at_once = Z.T @ rest - penalty * beta, rest.sum()
        step = scipy.linalg.cho_solve(factor, gradient - centre * at_once)
        lift = at_once / total - centre @ step
        length = 1.0
        while (tried := loss(beta + length * step, intercept + length * lift)) > current and length > 1e-6:
            length /= 2
        if tried > current:
            break
        beta, intercept = beta + length * step, intercept + length * lift
        gained, current = current - tried, tried
        if gained <= _TOLERANCE * max(current, np.finfo(np.float64).tiny):
            break
    odds, p, curve, total, centre, factor = _hessian(Z, weight, penalty, beta, intercept)
    half = scipy.linalg.solve_triangular(factor[0], (Z - centre).T, lower=True, check_finite=False)
    leverage = np.einsum("rn,rn->n", half, half) + 1 / total
    # A series that decides on some direction alone cannot be told without it.
    left = np.maximum(1 - curve * leverage, 1e-3)
    return beta, intercept, odds - weight * (y - p) * leverage / left


def _hessian(
    Z: FloatArray, weight: FloatArray, penalty: float, beta: FloatArray, intercept: float
) -> tuple[FloatArray, FloatArray, FloatArray, float, FloatArray, tuple[FloatArray, bool]]:
    """Log odds, probabilities, curvatures (n,), their sum, weighted mean (r,), Cholesky factor of H."""
    odds = Z @ beta + intercept
    p = expit(odds)
    curve = np.maximum(weight * p * (1 - p), 1e-12)
    total = float(curve.sum())
    centre = curve @ Z / total
    root = np.sqrt(curve)[:, None] * (Z - centre)
    H = root.T @ root
    H[np.diag_indices_from(H)] += penalty
    return odds, p, curve, total, centre, scipy.linalg.cho_factor(H, lower=True)
