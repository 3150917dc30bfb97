"""What y may be along time, and that answers come in the form of the question."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback
from scipy.stats import norm
from sklearn.base import clone
from sklearn.metrics import f1_score
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)

import tsssm
from tsssm import Panel, SSMSequenceClassifier, SSMSequenceRegressor
from tsssm.inspection import channel_importance

TINY: dict[str, Any] = {"n_layers": 1, "d_model": 4, "d_state": 4, "max_steps": 2, "random_state": 0}
X = np.random.default_rng(0).normal(size=(4, 2, 12))
LABELS = np.where(X[:, 0] > 0, "up", "down")
NUMBERS = (X[:, 0] + X[:, 1]).astype(np.float32)
CLF = SSMSequenceClassifier(**TINY)
REG = SSMSequenceRegressor(**TINY)
RAGGED = [X[0], X[1, :, :7], X[2, :, :9], X[3]]
RAGGED_LABELS = [LABELS[0], LABELS[1, :7], LABELS[2, :9], LABELS[3]]


def weights_of(model: Any) -> list[torch.Tensor]:
    return list(model.net_.state_dict().values())


def same(one: Any, other: Any) -> bool:
    return all(a.equal(b) for a, b in zip(weights_of(one), weights_of(other), strict=True))


def multiindex(values: np.ndarray, names: list[str]) -> pd.DataFrame:
    """A frame (series, time) of values (n, k, length), a sample every 0.5."""
    n, k, length = values.shape
    index = pd.MultiIndex.from_product([[f"p{i}" for i in range(n)], np.arange(length) / 2])
    return pd.DataFrame(values.transpose(0, 2, 1).reshape(-1, k), index=index, columns=names)


FRAME = multiindex(X, ["a", "b"])
PANEL = Panel.from_multiindex(FRAME)


def test_one_label_a_sample_in_every_container() -> None:
    expected = clone(CLF).fit(X, LABELS)
    objects = np.empty(4, dtype=object)
    objects[:] = list(LABELS)
    for y in (LABELS.tolist(), list(LABELS), objects, pd.DataFrame(LABELS), LABELS.astype(object)):
        assert same(clone(CLF).fit(X, y), expected)
    numbers = clone(REG).fit(X, NUMBERS)
    values = NUMBERS.reshape(-1, 1)
    for y in (torch.as_tensor(NUMBERS), NUMBERS[:, None], Panel(values, np.arange(0, 49, 12)), list(NUMBERS)):
        assert same(clone(REG).fit(X, y), numbers)


def test_labels_at_the_times_of_samples_are_those_of_samples() -> None:
    expected = clone(CLF).fit(PANEL, LABELS)
    times = np.arange(12) / 2
    series = multiindex(LABELS[:, None], ["label"])["label"]
    frames = [pd.Series(row, index=times) for row in LABELS]
    for y in ([(times, row) for row in LABELS], series, frames, series.iloc[::-1].sort_index(), series[::1]):
        assert same(clone(CLF).fit(PANEL, y), expected)
        assert same(clone(CLF).fit(FRAME, y), expected)
    shuffled = pd.concat([series.loc[[p]] for p in ("p2", "p0", "p3", "p1")])  # by name, not by order
    assert same(clone(CLF).fit(FRAME, shuffled), expected)


def test_dates_count_from_the_first_sample_of_their_series() -> None:
    start = pd.to_datetime(["2026-01-05 07:00", "2026-03-01 00:00", "2025-12-31 23:59", "2026-01-05 07:00"])
    dated = [
        pd.DataFrame(x.T, index=first + pd.to_timedelta(np.arange(12) / 2, unit="s"))
        for x, first in zip(X, start, strict=True)
    ]
    plain = Panel.from_numpy(X, times=np.arange(12) / 2, time_unit="s")
    later = [(np.array([1.2, 4.0]), np.array(["up", "down"]))] * 4
    expected = clone(CLF).fit(plain, later)
    stamps = [
        pd.Series(["up", "down"], index=first + pd.to_timedelta([1.2, 4.0], unit="s")) for first in start
    ]
    assert same(clone(CLF).fit(dated, stamps), expected)
    assert same(clone(CLF).fit(pd.concat(dated, keys=range(4)), pd.concat(stamps, keys=range(4))), expected)
    differences = [pd.Series(["up", "down"], index=pd.to_timedelta([1.2, 4.0], unit="s"))] * 4
    assert same(clone(CLF).fit(plain, differences), expected)
    minutes = Panel.from_numpy(X, times=np.arange(12) / 120, time_unit="min")
    in_minutes = expected.predict_proba(minutes, times=differences[0].index)
    in_seconds = expected.predict_proba(plain, times=[1.2, 4])
    np.testing.assert_allclose(np.stack(in_minutes), np.stack(in_seconds), atol=1e-6)


def test_what_is_missing_is_no_label() -> None:
    sparse = np.where(np.arange(12) % 3 == 0, LABELS, None)
    pairs = [(np.arange(0, 12, 3), row[::3]) for row in LABELS]
    expected = clone(CLF).fit(X, pairs)
    nothing = np.where(np.arange(12) % 3 == 0, LABELS, "?")
    assert same(clone(CLF).fit(X, sparse), expected)
    assert same(clone(CLF).set_params(ignore_label="?").fit(X, nothing), expected)
    weight = np.broadcast_to((np.arange(12) % 3 == 0).astype(float), LABELS.shape)
    assert same(clone(CLF).fit(X, LABELS, sample_weight=weight), expected)
    assert clone(CLF).fit(X, sparse).score(X, sparse) == expected.score(X, pairs)
    alone = clone(CLF).fit(X, [*LABELS[:3], np.full(12, None)])  # a series without any
    assert same(clone(CLF).fit(X, LABELS, sample_weight=[1, 1, 1, 0]), alone)


def test_some_of_several_targets_may_be_missing() -> None:
    both = np.stack([NUMBERS, 100 + 5 * X[:, 1]], axis=1)
    both[:, 0, ::2] = np.nan
    both[:, 1, 1::2] = np.nan
    reg = clone(REG).set_params(max_steps=400, learning_rate=0.02).fit(X, both)
    assert reg.score(X, both) > 0.8
    assert reg.predict(X).shape == (4, 2, 12)


@pytest.mark.parametrize("lookahead", [0, None])
def test_answers_have_the_form_of_the_question(lookahead: float | None) -> None:
    clf = clone(CLF).set_params(lookahead=lookahead).fit(X, LABELS)
    labels, proba = clf.predict(X), clf.predict_proba(X)
    assert labels.shape == (4, 12) and proba.shape == (4, 12, 2)
    np.testing.assert_allclose(proba.sum(axis=2), 1)
    np.testing.assert_array_equal(labels, clf.classes_[proba.argmax(axis=2)])
    several = clf.predict(list(X))
    assert several.shape == (4,) and several.dtype == object
    np.testing.assert_array_equal(np.stack(several), labels)
    ragged = clf.predict_proba(RAGGED)
    assert [one.shape for one in ragged] == [(12, 2), (7, 2), (9, 2), (12, 2)]
    assert clf.predict(X, times=[0, 3.5]).shape == (4, 2)
    assert clf.predict(X, times=np.tile([0, 3.5, 11], (4, 1))).shape == (4, 3)
    assert [len(one) for one in clf.predict(RAGGED, times=[[0, 1], [], [8.0], [11]])] == [2, 0, 1, 1]
    np.testing.assert_allclose(clf.predict_proba(X, times=[3.5]), proba[:, 3:4], atol=1e-6)
    framed = clone(CLF).fit(FRAME, pd.Series(LABELS.ravel(), index=FRAME.index))
    answer = framed.predict_proba(FRAME)
    assert answer.index.equals(FRAME.index) and list(answer.columns) == ["down", "up"]
    assert framed.predict(FRAME).index.equals(FRAME.index)
    frames = [FRAME.loc[p] for p in ("p0", "p1", "p2", "p3")]
    assert all(one.index.equals(x.index) for one, x in zip(framed.predict(frames), frames, strict=True))


def test_several_columns_and_spreads() -> None:
    pair = np.stack([LABELS, LABELS[:, ::-1]], axis=1)
    clf = clone(CLF).fit(X, pair)
    assert clf.predict(X).shape == (4, 2, 12)
    assert [proba.shape for proba in clf.predict_proba(X)] == [(4, 12, 2)] * 2
    assert 0 <= clf.score(X, pair) <= 1
    targets = multiindex(np.stack([NUMBERS, -NUMBERS], axis=1), ["hr", "rr"])
    reg = clone(REG).set_params(loss="gaussian").fit(FRAME, targets)
    mean, std = reg.predict(FRAME, return_std=True)
    assert list(mean.columns) == ["hr", "rr"] and (std > 0).all(axis=None)
    assert reg.predict(PANEL)[0].shape == (2, 12)


def test_one_class_is_predicted_everywhere() -> None:
    with pytest.warns(UserWarning, match="single label"):
        clf = clone(CLF).fit(X, np.full((4, 12), "up"))
    assert (clf.predict(X) == "up").all()
    assert clf.predict_proba(RAGGED)[1].shape == (7, 1)


def test_tools_of_scikit_learn() -> None:
    panel = Panel.from_arrays(RAGGED)
    scores = cross_val_score(CLF, RAGGED, RAGGED_LABELS, cv=2)
    assert np.isfinite(scores).all()
    groups = [0, 0, 1, 1]
    found = cross_validate(CLF, panel, RAGGED_LABELS, cv=GroupKFold(2), groups=groups, error_score="raise")
    assert len(found["test_score"]) == 2
    predicted = cross_val_predict(CLF, panel, RAGGED_LABELS, cv=GroupKFold(2), groups=groups)
    assert [len(one) for one in predicted] == [12, 7, 9, 12]
    assert cross_val_predict(REG, X, NUMBERS, cv=2).shape == (4, 12)
    search = GridSearchCV(CLF, {"lookahead": [0, None]}, cv=2, error_score="raise").fit(panel, RAGGED_LABELS)
    assert search.predict(panel)[1].shape == (7,)
    numbers = Panel(NUMBERS.reshape(-1, 1), np.arange(0, 49, 12))
    assert np.isfinite(cross_val_score(REG, X, numbers, cv=2)).all()


def macro_f1(model: Any, panel: Any, y: Any) -> float:
    """A scorer over all labels of all series."""
    return float(
        f1_score(np.concatenate(list(y)), np.concatenate(list(model.predict(panel))), average="macro")
    )


@pytest.mark.parametrize("container", ["list", "panel"])
def test_searches_score_by_a_function_of_all_labels(container: str) -> None:
    panel: Any = RAGGED if container == "list" else Panel.from_arrays(RAGGED)
    search = RandomizedSearchCV(
        CLF, {"dropout": [0.0, 0.5]}, n_iter=2, cv=GroupKFold(2), scoring=macro_f1, error_score="raise"
    ).fit(panel, RAGGED_LABELS, groups=[0, 0, 1, 1])
    assert 0 <= search.best_score_ <= 1
    assert search.score(panel, RAGGED_LABELS) == macro_f1(search.best_estimator_, panel, RAGGED_LABELS)
    found = cross_validate(CLF, panel, RAGGED_LABELS, cv=2, scoring={"f1": macro_f1}, error_score="raise")
    assert len(found["test_f1"]) == 2


def test_probabilities_are_those_of_the_data() -> None:
    """Of new series, also where crops with the rare class are drawn more often."""
    rng = np.random.default_rng(0)
    signals = rng.normal(size=(80, 1, 60))
    truth = 1 / (1 + np.exp(2 - 1.5 * signals[:, 0]))
    y = (rng.uniform(size=truth.shape) < truth).astype(int)
    options = {"lookahead": 0, "n_layers": 1, "d_model": 8, "d_state": 4, "crop_length": 20, "warm_up": 2}
    clf = SSMSequenceClassifier(**options, rare_classes=0.5, max_steps=300, random_state=0)
    proba = clf.fit(signals[:40], y[:40]).predict_proba(signals[40:])[..., 1]
    assert abs(proba.mean() - truth[40:].mean()) < 0.04
    assert np.abs(proba - truth[40:]).mean() < 0.04


class Stop(Callback):
    """Ends training by an error at an epoch."""

    def __init__(self, epoch: int | None) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        if trainer.current_epoch == self.epoch:
            raise RuntimeError("power failure")


def test_a_fit_that_was_killed_goes_on_to_the_very_same_model(tmp_path: Any) -> None:
    options = {"crop_length": 6, "warm_up": 1, "rare_classes": 0.3, "max_steps": None, "max_epochs": 4}
    base = clone(CLF).set_params(lookahead=0, **options)
    whole = clone(base).set_params(callbacks=[Stop(None)]).fit(X, LABELS)
    with pytest.raises(RuntimeError, match="power failure"):
        clone(base).set_params(callbacks=[Stop(2)], checkpoint_dir=tmp_path).fit(X, LABELS)
    assert len(list(tmp_path.glob("*.ckpt"))) == 1
    resumed = clone(base).set_params(callbacks=[Stop(None)], checkpoint_dir=tmp_path).fit(X, LABELS)
    assert same(resumed, whole) and resumed.loss_curve_ == whole.loss_curve_


def test_channels_have_an_importance() -> None:
    own = SSMSequenceClassifier(lookahead=0, n_layers=1, d_model=8, max_steps=60, random_state=0)
    clf = own.fit(X, X[:, 1] > 0)
    for panel, y in ((X, X[:, 1] > 0), (list(X), list(X[:, 1] > 0))):
        found = channel_importance(clf, panel, y, n_repeats=2, random_state=0)
        assert found.importances_mean.argmax() == 1


def test_a_fit_repeats_and_goes_on(tmp_path: Any) -> None:
    first, second = clone(CLF).fit(X, LABELS), clone(CLF).fit(X, LABELS)
    assert same(first, second)
    saved = clone(CLF).set_params(checkpoint_dir=tmp_path).fit(X, LABELS)
    assert same(saved, first) and not list(tmp_path.glob("*.ckpt"))
    warm = clone(CLF).set_params(warm_start=True).fit(X, LABELS)
    assert same(warm, first)
    assert warm.fit(X, LABELS).n_iter_ == 2 * first.n_iter_ and not same(warm, first)
    stopped = (
        clone(CLF)
        .set_params(early_stopping=True, validation_fraction=0.5)
        .fit(X, LABELS, groups=[0, 0, 1, 1])
    )
    assert stopped.validation_scores_
    given = clone(CLF).set_params(early_stopping=True).fit(X[:3], LABELS[:3], X_val=X[3:], y_val=LABELS[3:])
    assert given.best_validation_score_ is not None


def test_quantiles_along_time_in_the_form_of_the_question() -> None:
    both = np.stack([NUMBERS, -NUMBERS], axis=1)
    one = SSMSequenceRegressor(**TINY, loss="quantile", quantiles=(0.25, 0.5, 0.75)).fit(X, NUMBERS)
    two = SSMSequenceRegressor(**TINY, loss="quantile").fit(X, both)
    values = one.predict_quantiles(X)
    assert values.shape == (4, 12, 3) and (np.diff(values) >= 0).all()
    np.testing.assert_array_equal(values[:, :, 1], one.predict(X))
    np.testing.assert_array_equal(one.predict_quantiles(X, [0.75, 0.25]), values[:, :, [2, 0]])
    assert two.predict_quantiles(X).shape == (4, 2, 12, 3)
    np.testing.assert_array_equal(two.predict_quantiles(X)[..., 1], two.predict(X))
    ragged = two.predict_quantiles(RAGGED)
    assert [part.shape for part in ragged] == [(2, 12, 3), (2, 7, 3), (2, 9, 3), (2, 12, 3)]
    asked = one.predict_quantiles(PANEL, times=[[1.0, 2.0]] * 4)
    assert asked.shape == (4,) and asked[0].shape == (2, 3)
    frame = SSMSequenceRegressor(**TINY, loss="quantile").fit(FRAME, FRAME)
    found = frame.predict_quantiles(FRAME, [0.1, 0.9])
    assert list(found.columns) == [("a", 0.1), ("a", 0.9), ("b", 0.1), ("b", 0.9)]
    arrays = frame.predict_quantiles(PANEL, [0.1, 0.9])
    np.testing.assert_array_equal(found["b"], np.concatenate([part[1] for part in arrays]))


def test_quantiles_of_a_normal_distribution() -> None:
    reg = SSMSequenceRegressor(**TINY, loss="gaussian").fit(X, NUMBERS)
    mean, std = reg.predict(X, return_std=True)
    for level in (0.1, 0.5, 0.8):
        np.testing.assert_allclose(reg.predict_quantiles(X, [level])[..., 0], norm.ppf(level, mean, std))


def test_quantiles_hold_their_share_of_labels_of_new_series() -> None:
    rng = np.random.default_rng(0)
    signals = rng.normal(size=(40, 1, 60))
    noisy = signals[:, 0] * 2 + rng.normal(size=(40, 60))
    options = {"lookahead": 0, "n_layers": 1, "d_model": 8, "d_state": 4, "max_steps": 200, "random_state": 0}
    reg = SSMSequenceRegressor(**options, loss="quantile").fit(signals[:20], noisy[:20])
    low, _, high = reg.predict_quantiles(signals[20:]).transpose(2, 0, 1)
    assert 0.7 < np.mean((low <= noisy[20:]) & (noisy[20:] <= high)) < 0.9


def test_a_part_at_a_time(tmp_path: Any) -> None:
    """`partial_fit` goes on from what was learned, from a model file too, and learns as `fit` does."""
    rng = np.random.default_rng(0)
    signals = rng.normal(size=(32, 1, 40))
    above = np.where(signals[:, 0] > 0, "up", "down")
    options = {"lookahead": 0, "n_layers": 1, "d_model": 8, "d_state": 4, "batch_size": 4, "random_state": 0}
    clf = SSMSequenceClassifier(**options)
    for _ in range(12):
        clf.partial_fit(signals[:12], above[:12], classes=["down", "never", "up"])
        clf.partial_fit(signals[12:24], above[12:24])
    assert clf.n_iter_ == 24 and list(clf.classes_) == ["down", "never", "up"]
    assert clf.score(signals[24:], above[24:]) > 0.9
    clf.save(tmp_path / "model.safetensors")
    other = tsssm.load(tmp_path / "model.safetensors")
    assert same(other.partial_fit(signals[:12], above[:12]), clf.partial_fit(signals[:12], above[:12]))
    reg = SSMSequenceRegressor(**options)
    for _ in range(12):
        reg.partial_fit(signals[:24], [(np.arange(5.0, 35), row[5:35]) for row in signals[:24, 0]])
    assert reg.score(signals[24:], signals[24:, 0]) > 0.8
    weighed = clone(CLF).partial_fit(X, LABELS, ["down", "up"], sample_weight=np.ones((4, 12)))
    assert same(weighed, clone(CLF).partial_fit(X, LABELS, ["down", "up"]))
