r"""Prediction intervals from errors on series that were left out of what predicted them.

Symbols and shapes: k left-out series in G groups of N_g series, m targets::

    scores  (k, m)  |y - prediction|, over the standard deviation that the model says if it says one
    share   (k,)    1 / ((G + 1) N_g), whose sum is S = G / (G + 1)

The interval around a prediction reaches as far as the quantile of the scores, each counted by its share:
split conformal prediction (Lei, G'Sell, Rinaldo, Tibshirani, Wasserman, JASA 2018, section 2.2) with the
scores of cross-validation (Barber, Candes, Ramdas, Tibshirani, Annals of Statistics 2021, section 1.3), and
groups that count alike (Dunn, Wasserman, Ramdas, JASA 2023, "pooling CDFs").

The new series is one score more, of a size that nobody knows, so it is counted as beyond all others. It is
one of a group whose other series, k / G in all, are taken to be like those seen: what is beyond is G / k of
1 / (G + 1), which is S / k. With one series a group this is the rule of conformal prediction, with many the
quantile itself. To count the whole group as beyond (Lee, Barber, Willett, *Distribution-free inference with
hierarchical data*, 2023) promises more and covers too much, the more the fewer groups there are.
Where new series, or new groups, are like those of training, about ``coverage`` of their targets lie inside.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from tsssm.estimators._base import of_one_fit
from tsssm.estimators._checks import FloatArray
from tsssm.persistence import Fields

_NONE = (
    "Intervals need predictions of series that were left out of a fit, and this model has none: fit with "
    "n_members of at least 2, the default for up to 2,000 series with bidirectional=True."
)


class IntervalTargets:
    """Mixin in front of `NumberTargets`: ``predict_interval``."""

    _scores: FloatArray | None
    _score_share: FloatArray | None

    def _judge(self, error: FloatArray, groups: npt.NDArray[Any] | None) -> None:
        """Keep the scores (k, m) of left-out series in groups (k,)."""
        codes = np.arange(len(error)) if groups is None else np.unique(groups, return_inverse=True)[1]
        sizes = np.bincount(codes.reshape(-1))
        self._scores = np.abs(error)
        self._score_share = 1 / ((len(sizes) + 1) * sizes[codes])

    def _judge_outputs(self, outputs: FloatArray, y: FloatArray, groups: npt.NDArray[Any] | None) -> None:
        """Keep the scores of outputs (k, n_outputs) of networks for targets y (k, m)."""
        z = outputs.reshape(len(outputs), y.shape[1], -1)
        error = y - self._centre(z)  # type: ignore[attr-defined]
        if self.loss == "gaussian":  # type: ignore[attr-defined]
            error = error / self._standard_deviation(z)  # type: ignore[attr-defined]
        self._judge(error, groups)

    def _forget_scores(self) -> None:
        self._scores = self._score_share = None

    @of_one_fit
    def predict_interval(self, X: Any, coverage: float = 0.9) -> FloatArray:
        """Return intervals that cover a share of the targets of new series.

        Parameters
        ----------
        X : as in ``fit``
            n series.
        coverage : float, default=0.9
            The share, in (0, 1).

        Returns
        -------
        array of shape (n, 2) or (n, n_outputs, 2), float64
            Lower and upper ends; the second where y had two dimensions in ``fit``.

        Raises
        ------
        NotFittedError, TypeError
            Before ``fit``, and for X that is not as documented.
        ValueError
            For X or ``coverage`` that are not as documented, and where too few series were left out for it.

        Notes
        -----
        The intervals are as wide as the errors were on training series that a part of the model was fitted
        without (conformal prediction by cross-validation). Pass ``groups`` to ``fit`` where series belong
        together, such as those of one patient: then the intervals are those for new patients. A share c needs
        c / (1 - c) series or groups, 9 for 0.9. With ``loss="gaussian"`` an interval is wider where the
        predicted standard deviation is larger; otherwise all have the same width. The coverage holds for each
        target separately.
        """
        self.check_is_fitted()  # type: ignore[attr-defined]
        real = isinstance(coverage, Real) and not isinstance(coverage, bool)
        if not real or not 0 < float(coverage) < 1:
            raise ValueError(f"coverage must be a number in (0, 1); got {coverage!r}.")
        reach = self._reach(float(coverage))
        centre, spread = self._centre_and_spread(X)
        ends = np.stack([centre - reach * spread, centre + reach * spread], axis=-1)
        return ends if self._y_ndim == 2 else ends[:, 0]  # type: ignore[attr-defined]

    def _centre_and_spread(self, X: Any) -> tuple[FloatArray, FloatArray]:
        """Predictions (n, m), and the size of their errors (n, m) as far as the model knows it."""
        raise NotImplementedError

    def _reach(self, coverage: float) -> FloatArray:
        """How far intervals reach (m,), in units of the scores."""
        scores, share = self.__dict__.get("_scores"), self.__dict__.get("_score_share")
        if scores is None or share is None:
            raise ValueError(_NONE)
        if share.sum() < coverage * (1 - 1e-12):
            groups = round(share.sum() / (1 - share.sum()))
            raise ValueError(
                f"coverage={coverage:g} needs {math.ceil(coverage / (1 - coverage) - 1e-9)} left-out series, "
                f"or groups of them, and fit had {groups}; coverage may be at most {share.sum():.3g}."
            )
        share = share / share.sum() * (1 - share.sum() / len(share))
        order = np.argsort(scores, axis=0)
        reached = np.cumsum(share[order], axis=0) >= coverage * (1 - 1e-12)
        return np.take_along_axis(scores, order, axis=0)[reached.argmax(axis=0), np.arange(scores.shape[1])]

    def _restore(self, fields: Fields) -> None:
        super()._restore(fields)  # type: ignore[misc]
        self._forget_scores()
        # Files of earlier versions have no scores.
        if not fields.has("_scores") or fields.is_none("_scores"):
            fields.ignore("_score_share")
            return
        self._scores = fields.array("_scores", (None, self._n_targets), np.float64, 0.0)  # type: ignore[attr-defined]
        self._score_share = fields.array("_score_share", (len(self._scores),), np.float64, 0.0, 0.5)
        if not 0 < self._score_share.sum() < 1:
            raise fields.refuse("_score_share", "with a sum below 1", self._score_share)
