r"""Errors on series that were left out of what predicted them, and how far intervals reach by them.

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
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tsssm.estimators._checks import FloatArray
from tsssm.persistence import Fields, register


class Errors(NamedTuple):
    """Scores (k, m) of left-out series, and their shares (k,)."""

    scores: FloatArray
    share: FloatArray

    @classmethod
    def of(cls, error: FloatArray, groups: npt.NDArray[Any] | None) -> Errors:
        """From errors (k, m) of left-out series in groups (k,)."""
        codes = np.arange(len(error)) if groups is None else np.unique(groups, return_inverse=True)[1]
        sizes = np.bincount(codes.reshape(-1))
        return cls(np.abs(error), 1 / ((len(sizes) + 1) * sizes[codes]))

    def reach(self, coverage: float) -> FloatArray:
        """How far intervals reach (m,), in units of the scores.

        Raises
        ------
        ValueError
            If too few series, or groups, were left out.
        """
        scores, share = self
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


@register(
    "LeftOut",
    Errors,
    {
        "scores": "array (k, m): sizes of the errors of k left-out series",
        "share": "array (k,): by how much each counts, with a sum below 1",
    },
)
def _errors(fields: Fields) -> Errors:
    scores = fields.array("scores", (None, None), np.float64, 0.0)
    share = fields.array("share", (len(scores),), np.float64, 0.0, 0.5)
    if not 0 < share.sum() < 1:
        raise fields.refuse("share", "with a sum below 1", share)
    return Errors(scores, share)
