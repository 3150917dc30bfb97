"""Labelled series, and which of them are held out for validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tsssm.estimators._alignment import aligned
from tsssm.estimators._checks import (
    FloatArray,
    IntArray,
    check_one_each,
    check_there,
    checked_groups,
    checked_weights,
)
from tsssm.panel import Panel

# Numbers are stratified by as many ranges of equally many series.
_RANGES = 5
# Parts of the groups that are left out in turn, to judge by.
_GROUP_FOLDS = 10


@dataclass(frozen=True)
class Labelled:
    """Series with their targets (n,) or (n, n_columns), weights (n,), and groups (n,) if there are any."""

    panel: Panel
    y: npt.NDArray[Any]
    weight: FloatArray
    groups: npt.NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: IntArray) -> Labelled:
        groups = None if self.groups is None else self.groups[rows]
        return Labelled(self.panel[rows], self.y[rows], self.weight[rows], groups)

    def weighted(self, factor: FloatArray) -> Labelled:
        """Return the series whose weight, times ``factor`` (n,), is positive.

        Raises
        ------
        ValueError
            If there are none.
        """
        weight = self.weight * factor
        rows = np.flatnonzero(weight > 0)
        if rows.size == 0:
            raise ValueError("The weights of all series are zero; at least one must be positive.")
        return Labelled(self.panel, self.y, weight, self.groups)[rows]


def labelled(
    estimator: Any,
    X: Any,
    y: Any,
    sample_weight: npt.ArrayLike | None,
    groups: npt.ArrayLike | None,
    *,
    reset: bool,
    classes: Any = None,
) -> Labelled:
    """Return checked series and what belongs to them, without those of weight 0.

    With ``reset``, the estimator learns what later series and targets must be like.
    """
    check_there(y, type(estimator).__name__)
    panel = estimator._panel(X, reset=reset)
    y = aligned(y, panel, X, "y")
    sample_weight = aligned(sample_weight, panel, X, "sample_weight")
    groups = aligned(groups, panel, X, "groups")
    check_one_each(y, panel)
    y = estimator._check_targets(y, classes, reset=reset)
    data = Labelled(panel, y, checked_weights(sample_weight, panel), checked_groups(groups, panel))
    return data.weighted(np.ones(len(panel)))


def split(
    data: Labelled, strata: npt.NDArray[Any], fraction: float, seed: int, *, classes: bool
) -> tuple[Labelled, Labelled]:
    """Split series into a training and a validation part, by their strata (n,), and by whole groups if any.

    Of strata that are ``classes``, each stays in the training part.

    Raises
    ------
    ValueError
        If there are too few series or groups.
    """
    training, held_out = split_rows(data, strata, fraction, seed, classes=classes)
    return data[training], data[held_out]


def split_rows(
    data: Labelled, strata: npt.NDArray[Any], fraction: float, seed: int, *, classes: bool
) -> tuple[IntArray, IntArray]:
    """As `split`, the numbers of the series of both parts."""
    rows = np.arange(len(data))
    if data.groups is None:
        return stratified_split(rows, strata, fraction, seed, classes=classes)
    return grouped_split(rows, data.groups, strata, fraction, seed, classes=classes)


def stratified_split(
    rows: IntArray, strata: npt.NDArray[Any], fraction: float, seed: int, *, classes: bool
) -> tuple[IntArray, IntArray]:
    """Split rows into a training and a validation part that both cover the strata evenly.

    The rows are put in order of their stratum, at random within it, and every (1 / fraction)-th is held out;
    so classes, or small and large targets, keep their shares. Of ``classes``, one row each stays in training.

    Raises
    ------
    ValueError
        If there are too few rows.
    """
    rng = np.random.RandomState(seed)
    order = rows[rng.permutation(len(rows))]
    order = order[np.argsort(strata[order], kind="stable")]
    if classes:
        order = np.delete(order, np.unique(strata[order], return_index=True)[1])
    count = max(1, round(fraction * len(rows)))
    if count >= len(rows) or len(order) < count:
        raise ValueError(
            f"early_stopping needs more series: validation_fraction={fraction} of {len(rows)} series leaves "
            f"no series {'of some class ' if classes else ''}to train on."
        )
    picks = np.floor((np.arange(count) + rng.uniform()) * len(order) / count).astype(np.int64)
    held_out = order[picks]
    return np.setdiff1d(rows, held_out), np.sort(held_out)


def grouped_split(
    rows: IntArray,
    groups: npt.NDArray[Any],
    strata: npt.NDArray[Any],
    fraction: float,
    seed: int,
    *,
    classes: bool,
) -> tuple[IntArray, IntArray]:
    """Split rows into a training and a validation part that share no group.

    The groups come up in random order, and one is held out if that brings the number of held-out rows of each
    stratum closer to its share. Of ``classes``, one group each stays in training.

    Raises
    ------
    ValueError
        If no group can be held out.
    """
    rng = np.random.RandomState(seed)
    if not classes:
        rank = np.argsort(np.argsort(strata[rows], kind="stable"), kind="stable")
        strata_of_rows = rank * min(_RANGES, len(rows)) // len(rows)
    else:
        strata_of_rows = np.unique(strata[rows], return_inverse=True)[1]
    group_of_rows = np.unique(groups[rows], return_inverse=True)[1]
    counts = np.zeros((group_of_rows.max() + 1, strata_of_rows.max() + 1))
    np.add.at(counts, (group_of_rows, strata_of_rows), 1)
    total = counts.sum(axis=0)
    order = rng.permutation(len(counts))
    allowed = [group for group in order if _leaves_enough(counts[group], total, classes)]
    if not allowed:
        raise ValueError(
            f"early_stopping cannot hold out a group: each of the {len(counts)} groups holds all series of "
            f"{'some class' if classes else 'X'}."
        )

    def distance(held: npt.NDArray[np.float64]) -> float:
        return float(((held - fraction * total) ** 2 / total).sum())

    # At least one group, whatever its size: the one that comes closest.
    first = min(allowed, key=lambda group: distance(counts[group]))
    chosen, held = [], np.zeros_like(total)
    for group in allowed:
        more = held + counts[group]
        if distance(more) < distance(held) and _leaves_enough(more, total, classes):
            chosen.append(group)
            held = more
    is_held = np.isin(group_of_rows, chosen or [first])
    return rows[~is_held], rows[is_held]


def _leaves_enough(held: npt.NDArray[np.float64], total: npt.NDArray[np.float64], classes: bool) -> bool:
    return bool((held < total).all() if classes else held.sum() < total.sum())


def folds(
    data: Labelled, strata: npt.NDArray[Any], count: int, seed: int, *, classes: bool
) -> IntArray | None:
    """Return the number of a fold, of at most ``count``, for each series; None if there are not two of them.

    Whole groups, if there are any, share a fold, and all folds have about as many series. Otherwise all folds
    cover the strata evenly. Of strata that are ``classes``, a series that is the only one of its class is in
    none, which is -1.
    """
    rng = np.random.RandomState(seed)
    fold = np.full(len(data), -1)
    if data.groups is not None:
        group_of_rows = np.unique(data.groups, return_inverse=True)[1]
        sizes = np.bincount(group_of_rows)
        count = min(count, len(sizes))
        fold_of_group, filled = np.empty(len(sizes), dtype=np.int64), np.zeros(count)
        # Large groups first, in random order among their like.
        order = rng.permutation(len(sizes))
        for group in order[np.argsort(-sizes[order], kind="stable")]:
            fold_of_group[group] = np.argmin(filled)
            filled[fold_of_group[group]] += sizes[group]
        fold = fold_of_group[group_of_rows]
    else:
        order = rng.permutation(len(data))
        order = order[np.argsort(strata[order], kind="stable")]
        if classes:
            _, kind, sizes = np.unique(strata, return_inverse=True, return_counts=True)
            order = order[sizes[kind][order] > 1]
        count = min(count, len(order))
        fold[order] = np.arange(len(order)) % max(1, count)
    return fold if count > 1 else None


def group_folds(data: Labelled, signs: npt.NDArray[np.bool_] | None) -> IntArray | None:
    """Return the number of a fold of whole groups for each series; None without groups, or if there is one.

    Of classes, whose members ``signs`` (n, m) tell, none may be missing, nor any be alone, where a fold is
    left out: if one would, there are no folds.
    """
    if data.groups is None:
        return None
    fold = folds(data, np.zeros(len(data)), _GROUP_FOLDS, 0, classes=False)
    if fold is None or signs is None:
        return fold
    for number in np.unique(fold):
        left = signs[fold != number]
        if (left.any(axis=0) != signs.any(axis=0)).any() or (left.all(axis=0) != signs.all(axis=0)).any():
            return None
    return fold
