r"""Ridge regressions for all horizons from sums over windows, the penalty by generalised cross-validation.

The windows come in any number and are forgotten: what stays are their sums. Symbols and shapes: N windows,
d inputs, H horizons::

    A    (d, d)    F^T F
    FY   (d, H)    F^T Y
    YY   (H,)      column sums of Y * Y

With the eigenvectors of A, in units of its diagonal, every penalty costs a product; the one chosen for each
horizon has the smallest :math:`\mathrm{RSS} / (1 - \mathrm{df} / N')^2` (Golub, Heath, Wahba,
Technometrics 1979). N' is N divided by the number of windows that overlap.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

PENALTIES = np.logspace(-6, 4, 21)


class Sums(NamedTuple):
    """Sums over windows of inputs and targets."""

    A: FloatArray
    FY: FloatArray
    YY: FloatArray
    windows: float

    @classmethod
    def zero(cls, width: int, horizon: int) -> Sums:
        """No windows yet."""
        return cls(np.zeros((width, width)), np.zeros((width, horizon)), np.zeros(horizon), 0.0)

    def add(self, F: FloatArray, Y: FloatArray) -> Sums:
        """Take windows F (N, d) with targets Y (N, H) in; the arrays are changed in place."""
        self.A[...] += F.T @ F
        self.FY[...] += F.T @ Y
        self.YY[...] += np.einsum("nh,nh->h", Y, Y)
        return self._replace(windows=self.windows + len(F))

    def plus(self, other: Sums) -> Sums:
        """Sums over the windows of both."""
        return Sums(self.A + other.A, self.FY + other.FY, self.YY + other.YY, self.windows + other.windows)

    def around(self, base: FloatArray) -> Sums:
        """Sums for the targets Y - F G, with G (d, H) given."""
        moved = self.A @ base
        YY = self.YY - 2 * (base * self.FY).sum(axis=0) + (base * moved).sum(axis=0)
        return Sums(self.A, self.FY - moved, YY, self.windows)


class Spectrum(NamedTuple):
    """Eigenvectors V (k, k) and eigenvalues (k,) of some columns of A, in units (k,) of its diagonal."""

    columns: IntArray
    unit: FloatArray
    V: FloatArray
    values: FloatArray

    @classmethod
    def of(cls, sums: Sums, columns: IntArray) -> Spectrum:
        """Decompose the columns of A; a column that is always 0 keeps the coefficient 0."""
        part = sums.A[np.ix_(columns, columns)]
        diagonal = np.diag(part)
        unit = np.sqrt(np.where(diagonal > 1e-12 * max(diagonal.max(initial=0.0), 1e-300), diagonal, np.inf))
        values, V = np.linalg.eigh(part / unit[:, None] / unit)
        return cls(columns, unit, V, np.maximum(values, 0.0))

    def solve(self, sums: Sums, overlap: float) -> FloatArray:
        """Coefficients (d, H), for each horizon with the penalty of the smallest criterion."""
        rotated = self.V.T @ (sums.FY[self.columns] / self.unit[:, None])
        windows = sums.windows / overlap
        inverse = 1 / (self.values + PENALTIES[:, None])
        share = self.values * inverse
        rss = np.maximum(sums.YY - (inverse * (2 - share)) @ rotated**2, 1e-12 * sums.YY + 1e-300)
        free = np.maximum(1 - share.sum(axis=1) / max(windows, 1e-9), 0.0)[:, None]
        score = np.divide(rss, free**2, out=np.full_like(rss, np.inf), where=free > 0)
        shrink = np.where(np.isfinite(score.min(axis=0)), inverse[np.argmin(score, axis=0)].T, 0.0)
        coef = np.zeros_like(sums.FY)
        coef[self.columns] = (self.V @ (shrink * rotated)) / self.unit[:, None]
        return coef
