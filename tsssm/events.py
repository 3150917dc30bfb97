"""Events from labels along time: runs of a class as a table, smoothing, and scores with a tolerance.

Symbols and shapes: labels (L,) of a series, probabilities (L, C) in the order of C classes, times (L,).
Several series are lists, object arrays, or arrays with the series first, as the estimators along time answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["Viterbi", "drop_short_runs", "event_scores", "match_times", "runs"]

Array = npt.NDArray[Any]

_COLUMNS = ("series", "start", "end", "class", "probability")


def runs(labels: Any, times: Any = None, proba: Any = None, *, classes: Any = None) -> pd.DataFrame:
    """Return the runs of a class as a table.

    Parameters
    ----------
    labels : array (L,), or one per series
        Such as ``predict`` of a classifier along time returns. A missing label (NaN, None) ends a run and is
        in none.
    times : array (L,), or one per series, optional
        When the labels are; numbers of samples by default. One array for series of one length.
    proba : array (L, C), or one per series, optional
        Such as ``predict_proba`` returns.
    classes : array (C,), optional
        ``classes_`` of the classifier; needed with ``proba``.

    Returns
    -------
    DataFrame
        One row a run, in order, with the columns ``series`` (its number, 0 for a single one), ``start`` and
        ``end`` (times of its first and last label), ``class``, and ``probability`` (mean probability of its
        class; NaN without ``proba``).

    Raises
    ------
    ValueError
        If lengths disagree, or there are probabilities without ``classes``.

    Examples
    --------
    >>> from tsssm.events import runs
    >>> runs(["rest", "rest", "walk"])[["start", "end", "class"]].to_numpy().tolist()
    [[0, 1, 'rest'], [2, 2, 'walk']]
    """
    if proba is not None and classes is None:
        raise ValueError("proba needs classes, the class of each of its columns: classes_ of the classifier.")
    every = _each(labels, 1)
    stamps = _each_like(times, every, 1, "times")
    chances = _each_like(proba, every, 2, "proba")
    parts = []
    for i, own in enumerate(every):
        missing = np.asarray(pd.isna(own))
        changes = np.flatnonzero((own[1:] != own[:-1]) | (missing[1:] != missing[:-1])) + 1
        first = np.concatenate([[0], changes]).astype(int)[: len(own)]
        last = np.append(changes, len(own)).astype(int)[: len(own)] - 1
        kept = ~missing[first]
        first, last = first[kept], last[kept]
        when = np.arange(len(own)) if stamps is None else stamps[i]
        probability = np.full(len(first), np.nan)
        if chances is not None:
            column = pd.Index(np.asarray(classes)).get_indexer(own[first])
            sums = np.concatenate([np.zeros((1, chances[i].shape[1])), np.cumsum(chances[i], axis=0)])
            means = (sums[last + 1] - sums[first]) / (last + 1 - first)[:, None]
            probability = means[np.arange(len(first)), column]
        parts.append(
            pd.DataFrame(
                dict(zip(_COLUMNS, (i, when[first], when[last], own[first], probability), strict=True)),
                columns=list(_COLUMNS),
            )
        )
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def drop_short_runs(labels: Any, shortest: float, times: Any = None) -> Any:
    """Return labels without runs that are shorter than a duration, which become part of their neighbours.

    The shortest run goes first: it takes the label of its longer neighbour, until none is too short or one is
    left.

    Parameters
    ----------
    labels : array (L,), or one per series
    shortest : float
        Least duration of a run, that of one sample being the median gap; in samples without ``times``.
    times : array (L,), or one per series, optional

    Returns
    -------
    array (L,), or an object array of one per series
    """
    every = _each(labels, 1)
    stamps = _each_like(times, every, 1, "times")
    answers = np.empty(len(every), dtype=object)
    for i, own in enumerate(every):
        when = np.arange(len(own), dtype=float) if stamps is None else np.asarray(stamps[i], dtype=float)
        answers[i] = _without_short(own, when, shortest)
    return answers if _are_several(labels) else answers[0]


def _without_short(labels: Array, times: Array, shortest: float) -> Array:
    starts = [0, *(np.flatnonzero(labels[1:] != labels[:-1]) + 1).tolist()] if len(labels) else []
    if len(starts) < 2:
        return labels.copy()
    step = float(np.median(np.diff(times)))
    ends = np.append(times[1:], times[-1] + step)
    edges = [*times[starts].tolist(), float(ends[-1])]
    names = [labels[start] for start in starts]
    while len(names) > 1:
        lengths = np.diff(edges)
        k = int(lengths.argmin())
        # Durations are differences of times: equal ones are so up to rounding.
        if lengths[k] >= shortest * (1 - 1e-9):
            break
        before = lengths[k - 1] if k > 0 else -1.0
        after = lengths[k + 1] if k + 1 < len(names) else -1.0
        names[k] = names[k - 1] if before >= after else names[k + 1]
        for j in (k + 1, k):  # what is now alike is one run
            if 0 < j < len(names) and names[j] == names[j - 1]:
                del names[j], edges[j], starts[j]
    result = labels.copy()
    for start, stop, name in zip(starts, [*starts[1:], len(labels)], names, strict=True):
        result[start:stop] = name
    return result


class Viterbi:
    """The most probable sequence of labels, where classes follow each other as they do in training.

    A hidden Markov model (Rabiner, *A tutorial on hidden Markov models*, Proceedings of the IEEE 77 (1989),
    section III B): its transitions are counted in training labels, and the probabilities of a classifier,
    divided by the shares of the classes, stand for the likelihood of a sample.

    Parameters
    ----------
    weight : float, default=1
        Power of the probabilities. Neighbouring samples carry much the same information; a power below 1,
        such as one over the number of such samples, keeps them from outweighing the transitions. Choose it on
        training data, by out-of-fold probabilities (``choose``).
    pseudocount : float, default=1
        Added to the count of every pair of classes, so that no transition is impossible.

    Attributes
    ----------
    classes_ : array (C,)
    transitions_ : array (C, C)
        Probability of the class of a sample (columns) after that of the one before (rows).
    shares_ : array (C,)
        Shares of the classes.
    """

    classes_: Array
    transitions_: Array
    shares_: Array

    def __init__(self, weight: float = 1.0, pseudocount: float = 1.0) -> None:
        self.weight = weight
        self.pseudocount = pseudocount

    def fit(self, labels: Any, classes: Any) -> Viterbi:
        """Count transitions in labels (L,), or one array for each series; missing labels end a sequence.

        Raises
        ------
        ValueError
            For a weight or pseudocount that is not positive, and for labels that are not among the classes.
        """
        if not self.weight > 0 or not self.pseudocount > 0:
            raise ValueError(
                f"weight and pseudocount must be positive; got {self.weight!r} and {self.pseudocount!r}."
            )
        self.classes_ = np.asarray(classes)
        index, count = pd.Index(self.classes_), len(self.classes_)
        pairs = np.full((count, count), float(self.pseudocount))
        shares = np.full(count, float(self.pseudocount))
        for own in _each(labels, 1):
            codes = index.get_indexer(own)
            unknown = (codes < 0) & ~np.asarray(pd.isna(own))
            if unknown.any():
                raise ValueError(f"labels has {own[unknown][0]!r}, which is not among the classes.")
            known = codes >= 0
            both = known[1:] & known[:-1]
            np.add.at(pairs, (codes[:-1][both], codes[1:][both]), 1)
            np.add.at(shares, codes[known], 1)
        self.transitions_ = pairs / pairs.sum(axis=1, keepdims=True)
        self.shares_ = shares / shares.sum()
        return self

    def decode(self, proba: Any) -> Any:
        """Return the most probable labels (L,) given probabilities (L, C), or one array per series."""
        every = _each(proba, 2)
        answers = np.empty(len(every), dtype=object)
        answers[:] = [self.classes_[self._path(np.asarray(own, dtype=float))] for own in every]
        return answers if _are_several(proba, 2) else answers[0]

    def choose(
        self, proba: Any, labels: Any, weights: Iterable[float] = (0.01, 0.03, 0.1, 0.3, 1)
    ) -> Viterbi:
        """Set ``weight`` to the one with the highest macro F1 on held-out series.

        Parameters
        ----------
        proba, labels : arrays (L, C) and (L,), or one each per series
            Probabilities, by a classifier that was not fitted to these series, and true labels; missing ones
            (NaN, None) do not count.
        weights : iterable of float
            Candidates.
        """
        truth = np.concatenate(_each(labels, 1))
        there = ~np.asarray(pd.isna(truth))
        best = -1.0
        for weight in weights:
            trial = Viterbi(weight, self.pseudocount)
            trial.classes_, trial.transitions_, trial.shares_ = self.classes_, self.transitions_, self.shares_
            own = np.concatenate([trial.decode(one) for one in _each(proba, 2)])
            score = _macro_f1(truth[there], own[there], self.classes_)
            if score > best:
                best, self.weight = score, weight
        return self

    def _path(self, proba: Array) -> Array:
        if len(proba) == 0:
            return np.empty(0, dtype=int)
        tiny = np.finfo(float).tiny
        seen = self.weight * (np.log(np.maximum(proba, tiny)) - np.log(self.shares_))
        moves = np.log(self.transitions_)
        came = np.empty(proba.shape, dtype=np.int64)
        score = np.log(self.shares_) + seen[0]
        for k in range(1, len(proba)):
            through = score[:, None] + moves
            came[k] = through.argmax(axis=0)
            score = through.max(axis=0) + seen[k]
        path = np.empty(len(proba), dtype=np.int64)
        path[-1] = score.argmax()
        for k in range(len(proba) - 1, 0, -1):
            path[k - 1] = came[k, path[k]]
        return path


def _macro_f1(truth: Array, predicted: Array, classes: Array) -> float:
    scores = []
    for name in classes:
        true, own = truth == name, predicted == name
        if true.any() or own.any():
            scores.append(2 * (true & own).sum() / (true.sum() + own.sum()))
    return float(np.mean(scores))


def match_times(true: Any, predicted: Any, tolerance: float) -> tuple[Array, Array]:
    """Match times one to one, the nearest pairs first, none further apart than the tolerance.

    Returns
    -------
    array (k,), array (k,)
        Numbers of the matched times of ``true``, increasing, and of those of ``predicted`` that they match.
    """
    true, predicted = np.asarray(true, dtype=float), np.asarray(predicted, dtype=float)
    order = np.argsort(predicted, kind="stable")
    low = np.searchsorted(predicted[order], true - tolerance * (1 + 1e-9), side="left")
    high = np.searchsorted(predicted[order], true + tolerance * (1 + 1e-9), side="right")
    own = np.repeat(np.arange(len(true)), high - low)
    other = np.arange(len(own)) + np.repeat(low - (np.cumsum(high - low) - (high - low)), high - low)
    other = order[other]
    taken_true, taken_other = np.zeros(len(true), bool), np.zeros(len(predicted), bool)
    pairs = []
    for k in np.argsort(np.abs(true[own] - predicted[other]), kind="stable"):
        i, j = own[k], other[k]
        if not taken_true[i] and not taken_other[j]:
            taken_true[i] = taken_other[j] = True
            pairs.append((i, j))
    found = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def event_scores(
    true: pd.DataFrame,
    predicted: pd.DataFrame,
    tolerance: float,
    *,
    classes: Sequence[Any] | None = None,
    by: str = "start",
) -> pd.DataFrame:
    """Return how many events were found, class by class, and how exactly.

    An event is found if one of its class in its series has its ``by`` within the tolerance; each counts once
    (ANSI/AAMI EC57 counts beats so, with 0.15 s).

    Parameters
    ----------
    true, predicted : DataFrame
        With the columns ``series``, ``class`` and ``by``, as `runs` returns them.
    tolerance : float
        In the unit of the times.
    classes : sequence, optional
        Which classes to count, by default those of ``true``: leave out the one that stands for no event.
    by : {"start", "end"}, default="start"
        Which bound of the events is compared.

    Returns
    -------
    DataFrame
        One row per class: ``n_true``, ``n_predicted``, ``n_matched``, ``sensitivity`` (share of the true that
        were found), ``ppv`` (positive predictivity: share of the predicted that are true), ``f1``, and of the
        matched the mean and standard deviation of predicted minus true time, ``error_mean`` and
        ``error_std``.

    Raises
    ------
    ValueError
        If a column is missing, or the tolerance is negative.
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance must not be negative; got {tolerance!r}.")
    for name, table in (("true", true), ("predicted", predicted)):
        lacking = [column for column in ("series", "class", by) if column not in table]
        if lacking:
            raise ValueError(
                f"{name} must have the columns 'series', 'class' and {by!r}; it lacks {lacking}."
            )
    names = list(dict.fromkeys(true["class"])) if classes is None else list(classes)
    rows = []
    for name in names:
        own, other = true[true["class"] == name], predicted[predicted["class"] == name]
        errors = []
        for series in own["series"].unique():
            at = own.loc[own["series"] == series, by].to_numpy(dtype=float)
            found = other.loc[other["series"] == series, by].to_numpy(dtype=float)
            i, j = match_times(at, found, tolerance)
            errors.append(found[j] - at[i])
        error = np.concatenate(errors) if errors else np.empty(0)
        n_true, n_predicted, matched = len(own), len(other), len(error)
        rows.append(
            {
                "n_true": n_true,
                "n_predicted": n_predicted,
                "n_matched": matched,
                "sensitivity": matched / n_true if n_true else np.nan,
                "ppv": matched / n_predicted if n_predicted else np.nan,
                "f1": 2 * matched / (n_true + n_predicted) if n_true + n_predicted else np.nan,
                "error_mean": float(error.mean()) if matched else np.nan,
                "error_std": float(error.std()) if matched else np.nan,
            }
        )
    return pd.DataFrame(rows, index=pd.Index(names, name="class"))


def _are_several(values: Any, ndim: int = 1) -> bool:
    """Whether values are those of several series, each an array of ``ndim`` axes."""
    if isinstance(values, np.ndarray) and values.dtype != object:
        return values.ndim > ndim
    if isinstance(values, (pd.Series, pd.DataFrame)) or len(values) == 0:
        return False
    first = values[0]
    if isinstance(first, (str, bytes)) or not hasattr(first, "__len__"):
        return False
    return ndim == 1 or np.ndim(first) == ndim


def _each(values: Any, ndim: int) -> list[Array]:
    """Arrays of several series, or of one."""
    if not hasattr(values, "__len__"):
        raise TypeError(f"labels and probabilities must be arrays; got {type(values).__name__}.")
    if not _are_several(values, ndim):
        return [np.asarray(values)]
    return [np.asarray(one) for one in values]


def _each_like(values: Any, labels: list[Array], ndim: int, name: str) -> list[Array] | None:
    if values is None:
        return None
    every = _each(values, ndim)
    if len(every) == 1 and len(labels) > 1:
        every = every * len(labels)
    if [len(one) for one in every] != [len(one) for one in labels]:
        raise ValueError(f"{name} must have one entry for each label of every series.")
    return every
