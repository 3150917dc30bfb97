"""Events from labels along time, against counts and searches by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from tsssm.events import Viterbi, drop_short_runs, event_scores, match_times, runs


def test_runs_have_bounds_class_and_mean_probability() -> None:
    labels = np.array(["a", "a", "b", "b", "b", "a"])
    proba = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7], [1.0, 0.0]])
    table = runs(labels, times=np.arange(6) * 0.5, proba=proba, classes=["a", "b"])
    assert table["class"].tolist() == ["a", "b", "a"]
    np.testing.assert_allclose(table[["start", "end"]], [[0, 0.5], [1, 2], [2.5, 2.5]])
    np.testing.assert_allclose(table["probability"], [0.8, 0.7, 1.0])
    assert table["series"].tolist() == [0, 0, 0]


def test_runs_of_several_series_and_gaps() -> None:
    table = runs([[1, 1, 2], [2, None, 2, 2]])
    assert table[["series", "start", "end", "class"]].to_numpy().tolist() == [
        [0, 0, 1, 1],
        [0, 2, 2, 2],
        [1, 0, 0, 2],
        [1, 2, 3, 2],
    ]
    assert len(runs(np.array([[0, 0], [1, 1]]), times=[3.0, 4.0])) == 2
    assert len(runs([[None, None]])) == 0
    with pytest.raises(ValueError, match="proba needs classes"):
        runs([1], proba=[[1.0]])
    with pytest.raises(ValueError, match="times must have"):
        runs([1, 2], times=[1.0])


def test_short_runs_go_to_the_longer_neighbour() -> None:
    labels = np.array(list("aaaabbccccc"))
    assert "".join(drop_short_runs(labels, 3)) == "aaaaccccccc"
    assert "".join(drop_short_runs(labels, 2)) == "aaaabbccccc"
    assert "".join(drop_short_runs(labels, 100)) == "c" * 11
    assert "".join(drop_short_runs(labels, 0.3, times=np.arange(11) * 0.1)) == "aaaaccccccc"
    several = drop_short_runs([[1, 1, 1, 2], [2]], 2)
    assert [one.tolist() for one in several] == [[1, 1, 1, 1], [2]]


def test_viterbi_is_the_best_of_all_sequences() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(["a", "b", "c"], size=200, p=[0.6, 0.3, 0.1])
    model = Viterbi(weight=0.7).fit([labels[:100], labels[100:]], ["a", "b", "c"])
    counts = np.ones((3, 3))
    for part in (labels[:100], labels[100:]):
        for first, second in itertools.pairwise(part):
            counts["abc".index(first), "abc".index(second)] += 1
    np.testing.assert_allclose(model.transitions_, counts / counts.sum(axis=1, keepdims=True))
    proba = rng.dirichlet(np.ones(3), size=6)

    def score(path: tuple[int, ...]) -> float:
        seen = sum(0.7 * np.log(proba[k, c] / model.shares_[c]) for k, c in enumerate(path))
        return (
            seen
            + np.log(model.shares_[path[0]])
            + sum(np.log(model.transitions_[p]) for p in itertools.pairwise(path))
        )

    best = max(itertools.product(range(3), repeat=6), key=score)
    assert model.decode(proba).tolist() == ["abc"[c] for c in best]
    assert model.decode([proba, proba[:0]])[1].size == 0


def test_viterbi_chooses_by_what_is_right() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(rng.permutation(np.repeat([0, 1], 20)), 50)
    chance = np.clip(0.5 + 0.15 * (2 * truth - 1) + rng.normal(scale=0.3, size=len(truth)), 0.01, 0.99)
    proba = np.stack([1 - chance, chance], axis=1)
    model = Viterbi().fit(truth, [0, 1])
    plain = np.mean(proba.argmax(axis=1) == truth)
    chosen = model.choose(proba, np.where(np.arange(len(truth)) % 7, truth, np.nan).astype(object))
    assert np.mean(chosen.decode(proba) == truth) > plain + 0.1
    with pytest.raises(ValueError, match="not among the classes"):
        Viterbi().fit(["a"], ["b"])
    with pytest.raises(ValueError, match="must be positive"):
        Viterbi(weight=0).fit([0], [0])


def test_times_match_one_to_one_and_nearest_first() -> None:
    i, j = match_times([1.0, 2.0, 10.0], [2.1, 1.6, 30.0], 0.5)
    assert i.tolist() == [1] and j.tolist() == [0]  # 1.6 is 0.6 from 1 and nearer to 2, which is taken
    i, j = match_times([1.0, 2.0], [1.5], 0.5)
    assert len(i) == 1
    assert match_times([], [1.0], 1.0)[0].size == 0


def test_scores_count_by_class_and_series() -> None:
    true = pd.DataFrame({"series": [0, 0, 1], "class": ["V", "V", "S"], "start": [1.0, 5.0, 2.0]})
    found = pd.DataFrame(
        {"series": [0, 1, 1, 1], "class": ["V", "V", "S", "S"], "start": [1.1, 5.0, 2.0, 9.0]}
    )
    table = event_scores(true, found, 0.15)
    assert table.loc["V", ["n_true", "n_predicted", "n_matched"]].tolist() == [2, 2, 1]
    assert table.loc["V", "sensitivity"] == table.loc["V", "ppv"] == table.loc["V", "f1"] == 0.5
    assert table.loc["S", "ppv"] == 0.5 and table.loc["S", "f1"] == pytest.approx(2 / 3)
    assert table.loc["V", "error_mean"] == pytest.approx(0.1)
    assert np.isnan(event_scores(true, found, 0.15, classes=["F"]).loc["F", "f1"])
    with pytest.raises(ValueError, match="lacks \\['end'\\]"):
        event_scores(true, found, 0.15, by="end")
    with pytest.raises(ValueError, match="tolerance"):
        event_scores(true, found, -1)
