"""What fit can be told: weights, validation, going on, callbacks."""

from __future__ import annotations

import os
import pickle
import signal

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import log_loss
from torch.nn import functional as F

from tsssm import Panel, SSMClassifier, SSMRegressor
from tsssm.encoding import PanelEncoder
from tsssm.estimators._splits import grouped_split, stratified_split


@pytest.fixture
def exact(tiny):
    """A network without chance in training, of which every step sees all series."""
    return {**tiny, "dropout": 0.0, "batch_size": 100}


# Validation


def test_the_validation_loss_is_weighted(labelled, exact):
    X, y = labelled
    rng = np.random.default_rng(0)
    weight = rng.uniform(0.1, 5.0, size=24)
    class_weight = {"high": 1.0, "low": 2.0, "mid": 3.0}
    settings = {**exact, "early_stopping": True, "label_smoothing": 0.0, "class_weight": class_weight}
    clf = SSMClassifier(**settings)
    clf.fit(X[::2], y[::2], X_val=X[1::2], y_val=y[1::2], sample_weight_val=weight[1::2])
    weight = weight * np.array([class_weight[label] for label in y])
    proba = clf.predict_proba(X[1::2])
    expected = log_loss(y[1::2], proba, sample_weight=weight[1::2], labels=clf.classes_)
    assert -clf.best_validation_score_ == pytest.approx(expected, rel=1e-5)  # float32
    assert clf.best_validation_score_ == max(clf.validation_scores_)
    plain = SSMClassifier(**settings).fit(X[::2], y[::2], X_val=X[1::2], y_val=y[1::2])
    assert plain.validation_scores_ != clf.validation_scores_
    # Weights of the validation series say nothing about how to train.
    assert plain.loss_curve_ == clf.loss_curve_


def test_weights_of_series_held_out_weigh_the_validation_loss(labelled, exact):
    X, y = labelled
    settings = {**exact, "early_stopping": True, "label_smoothing": 0.0, "validation_fraction": 0.25}
    weight = np.random.default_rng(0).uniform(0.1, 5.0, size=24)
    clf = SSMClassifier(**settings).fit(X, y, sample_weight=weight)
    held_out = held_out_rows(clf, y)
    proba = clf.predict_proba(X[held_out])
    expected = log_loss(y[held_out], proba, sample_weight=weight[held_out], labels=clf.classes_)
    assert -clf.best_validation_score_ == pytest.approx(expected, rel=1e-5)


def held_out_rows(clf, y, groups=None):
    """Rows that a classifier without weights of zero holds out."""
    from tsssm.estimators._checks import seed_of

    codes = np.unique(y, return_inverse=True)[1]
    seed, rows, fraction = seed_of(clf.random_state), np.arange(len(y)), clf.validation_fraction
    if groups is None:
        return stratified_split(rows, codes, fraction, seed, classes=True)[1]
    return grouped_split(rows, groups, codes, fraction, seed, classes=True)[1]


@pytest.mark.parametrize("grouped", [False, True])
def test_nothing_is_learned_from_what_is_held_out(labelled, exact, grouped):
    X, y = labelled
    groups = np.arange(24) % 8 if grouped else None
    settings = {**exact, "early_stopping": True, "validation_fraction": 0.25}
    clf = SSMClassifier(**settings).fit(X, y, groups=groups)
    held_out = held_out_rows(clf, y, groups)
    assert 0 < len(held_out) < 12
    training = np.setdiff1d(np.arange(24), held_out)
    np.testing.assert_array_equal(clf.encoder_.mean, PanelEncoder().fit(Panel.from_numpy(X[training])).mean)
    # The loss on what is held out decides when to stop; until then it changes nothing.
    other = X.copy()
    other[held_out] = 100 - 30 * other[held_out]
    spoilt = SSMClassifier(**settings).fit(other, y, groups=groups)
    assert spoilt.loss_curve_ == clf.loss_curve_ and spoilt.validation_scores_ != clf.validation_scores_


def test_targets_that_are_held_out_do_not_set_the_scale(labelled, exact):
    X, _ = labelled
    y = np.random.default_rng(0).normal(size=24)
    settings = {**exact, "early_stopping": True, "max_epochs": 1}
    plain = SSMRegressor(**settings).fit(X[:20], y[:20], X_val=X[20:], y_val=y[20:])
    shifted = SSMRegressor(**settings).fit(X[:20], y[:20], X_val=X[20:], y_val=1000 + y[20:])
    np.testing.assert_array_equal(plain.predict(X), shifted.predict(X))


def test_series_to_judge_by_are_all_that_is_judged_by(labelled, exact):
    X, y = labelled
    settings = {**exact, "early_stopping": True, "max_epochs": 5}
    given = SSMClassifier(**settings).fit(X, y, X_val=X[:6], y_val=y[:6])
    whole = SSMClassifier(**{**settings, "early_stopping": False}).fit(X, y)
    assert given.loss_curve_ == whole.loss_curve_  # all of X is trained on
    assert len(given.validation_scores_) == 5


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fraction", [0.1, 0.3])
def test_the_grouped_split_is_near_its_share_and_keeps_every_class(seed, fraction):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 40, size=400)
    codes = rng.choice(3, p=[0.6, 0.3, 0.1], size=400)
    codes[groups == 7] = 3  # a class that one group alone has
    rows = rng.permutation(400)[:350]
    training, held_out = grouped_split(rows, groups, codes, fraction, seed, classes=True)
    assert sorted([*training, *held_out]) == sorted(rows)
    assert not set(groups[training]) & set(groups[held_out])
    assert set(codes[training]) == set(codes[rows])
    assert abs(len(held_out) / 350 - fraction) < 0.04
    again = grouped_split(rows, groups, codes, fraction, seed, classes=True)[1]
    np.testing.assert_array_equal(again, held_out)


def test_the_grouped_split_of_numbers_covers_their_range():
    rng = np.random.default_rng(0)
    target = rng.normal(size=300)
    groups = np.argsort(np.argsort(target)) // 6  # every group has a level of its own
    for seed in range(5):
        held_out = grouped_split(np.arange(300), groups, target, 0.2, seed, classes=False)[1]
        assert abs(target[held_out].mean()) < 0.25 and 40 <= len(held_out) <= 80


def test_one_large_group_can_be_held_out_but_not_all():
    groups, codes = np.array([0] * 10 + [1] * 10), np.tile([0, 1], 10)
    training, held_out = grouped_split(np.arange(20), groups, codes, 0.1, 0, classes=True)
    assert len(training) == len(held_out) == 10
    with pytest.raises(ValueError, match="cannot hold out a group.*1 groups"):
        grouped_split(np.arange(20), np.zeros(20), codes, 0.1, 0, classes=True)
    with pytest.raises(ValueError, match="2 groups holds all series of some class"):
        grouped_split(np.arange(20), codes, codes, 0.1, 0, classes=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"X_val": 1}, "X_val and y_val must be given together"),
        ({"y_val": 1}, "X_val and y_val must be given together"),
        ({"sample_weight_val": np.ones(24)}, "sample_weight_val was given"),
        ({"X_val": 1, "y_val": 1, "groups": np.ones(24)}, "groups must be None"),
        ({"groups": np.ones(23)}, "groups must have one entry for each of 24 series; got 23"),
        ({"groups": [None] * 3 + [1.0] * 21}, "groups has 3 missing entries, the first at position 0"),
    ],
)
def test_contradicting_arguments_are_refused(labelled, tiny, arguments, message):
    X, y = labelled
    given = {**arguments, **{n: v for n, v in (("X_val", X), ("y_val", y)) if n in arguments}}
    with pytest.raises(ValueError, match=message):
        SSMClassifier(**tiny, early_stopping=True).fit(X, y, **given)


def test_series_to_judge_by_must_be_like_the_others(labelled, tiny):
    X, y = labelled
    clf = SSMClassifier(**tiny, early_stopping=True)
    with pytest.raises(ValueError, match="early_stopping=True; got False"):
        SSMClassifier(**tiny).fit(X, y, X_val=X, y_val=y)
    with pytest.raises(ValueError, match="In X_val, y_val .*: X has 1 channel"):
        clf.fit(X, y, X_val=X[:, :1], y_val=y)
    with pytest.raises(ValueError, match=r"In X_val, y_val .*not among the classes .*\['unheard'\]"):
        clf.fit(X, y, X_val=X[:1], y_val=["unheard"])
    with pytest.raises(ValueError, match="2 column"):
        SSMRegressor(**tiny, early_stopping=True).fit(X, np.arange(24.0), X_val=X, y_val=np.ones((24, 2)))


# Going on


def test_a_warm_start_goes_on_with_the_weights(labelled, exact):
    X, y = labelled
    clf = SSMClassifier(**exact, warm_start=True).fit(X, y)
    before = {name: tensor.detach().clone() for name, tensor in clf.net_.named_parameters()}
    curve = list(clf.loss_curve_)
    # Steps too small to move anything.
    clf.set_params(learning_rate=1e-12, ssm_learning_rate=0.0, weight_decay=0.0).fit(X, y)
    for name, tensor in clf.net_.named_parameters():
        torch.testing.assert_close(tensor, before[name], rtol=1e-6, atol=1e-9)
    assert clf.n_iter_ == 6 and clf.loss_curve_[:3] == curve and len(clf.loss_curve_) == 6


def test_a_warm_start_learns_more(labelled, exact):
    X, y = labelled
    clf = SSMClassifier(**{**exact, "max_epochs": 10, "learning_rate": 0.02}, warm_start=True)
    losses = [log_loss(y, clf.fit(X, y).predict_proba(X)) for _ in range(3)]
    assert losses[2] < losses[1] < losses[0]
    cold = clone(clf).set_params(warm_start=False).fit(X, y)
    np.testing.assert_array_equal(cold.fit(X, y).predict_proba(X), clone(cold).fit(X, y).predict_proba(X))
    assert cold.n_iter_ == 10


def test_without_warm_start_parameters_forget_the_fit(labelled, tiny):
    X, y = labelled
    clf = SSMClassifier(**tiny).fit(X, y).set_params(max_epochs=2)
    assert not hasattr(clf, "net_")


@pytest.mark.filterwarnings("ignore::tsssm.DataWarning")  # of other levels
def test_a_warm_start_keeps_scales_and_may_see_fewer_classes(labelled, tiny):
    X, y = labelled
    clf = SSMClassifier(**tiny, warm_start=True).fit(X, y)
    mean = clf.encoder_.mean.copy()
    clf.fit(X[:16] + 50.0, y[:16])
    np.testing.assert_array_equal(clf.encoder_.mean, mean)
    assert clf.classes_.tolist() == ["high", "low", "mid"]
    reg = SSMRegressor(**tiny, warm_start=True).fit(X, np.arange(24.0))
    scale = float(reg._targets.std[0])
    assert float(reg.fit(X, 100 * np.arange(24.0))._targets.std[0]) == scale


def test_a_warm_start_that_cannot_be_leaves_the_estimator_as_it_was(labelled, tiny):
    X, y = labelled
    clf = SSMClassifier(**tiny, warm_start=True).fit(X, y)
    before = clf.predict_proba(X)
    clf.n_layers = 2
    with pytest.raises(ValueError, match="n_layers"):
        clf.fit(X, y)
    clf.n_layers = 1
    with pytest.raises(ValueError, match="not among the classes"):
        clf.fit(X, ["new"] * 24)
    with pytest.raises(ValueError, match="channel"):
        clf.fit(X[:, :1], y)
    np.testing.assert_array_equal(clf.predict_proba(X), before)
    assert clf.n_iter_ == 3


def test_partial_fit_is_steps_of_adamw_whose_moments_go_on(labelled, exact):
    X, y = labelled
    clf = SSMClassifier(**exact, norm="layer", label_smoothing=0.0)
    net = clone(clf).set_params(learning_rate=1e-30, ssm_learning_rate=0.0, max_steps=1)
    net = net.set_params(weight_decay=0.0).fit(X, y).net_.train()  # as initialised
    for _ in range(3):
        clf.partial_fit(X, y, classes=np.unique(y))
    batch = clf.encoder_.encode(Panel.from_numpy(X)).batch(torch.arange(24))
    target = torch.as_tensor(np.searchsorted(clf.classes_, y))
    optimizer = torch.optim.AdamW(net.parameter_groups(4e-3, 1e-3, 0.01))
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(net(batch.u, batch.dt), target).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    for (name, expected), found in zip(net.named_parameters(), clf.net_.parameters(), strict=True):
        # float32: Adam divides by the root of squares, which rounding of a small gradient moves.
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-5, msg=name)
    assert clf.n_iter_ == 3 and len(clf.loss_curve_) == 3


def test_partial_fit_learns_from_portions(labelled, tiny):
    X, y = labelled
    order = np.random.default_rng(0).permutation(24)
    settings = {**tiny, "learning_rate": 0.02}
    clf, reg = SSMClassifier(**settings), SSMRegressor(**settings)
    level = X.mean(axis=(1, 2))
    for _ in range(12):
        for rows in np.split(order, 3):
            clf.partial_fit(X[rows], y[rows], classes=["high", "low", "mid"])
            reg.partial_fit(X[rows], level[rows])
    assert clf.score(X, y) > 0.9 and reg.score(X, level) > 0.9
    assert clf.n_iter_ == 36
    restored = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(
        restored.partial_fit(X, y).predict_proba(X), clf.partial_fit(X, y).predict_proba(X)
    )


def test_partial_fit_goes_on_after_fit_and_fit_starts_afresh(labelled, tiny):
    X, y = labelled
    clf = SSMClassifier(**tiny).fit(X, y)
    once = clf.predict_proba(X)
    assert not np.array_equal(clf.partial_fit(X, y).predict_proba(X), once)
    assert clf.n_iter_ == 4
    np.testing.assert_array_equal(clf.fit(X, y).predict_proba(X), once)


def test_bad_portions_leave_the_estimator_as_it_was(labelled, tiny):
    X, y = labelled
    clf = SSMClassifier(**tiny)
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        clf.partial_fit(X, y)
    with pytest.raises(ValueError, match=r"not among the classes .*\['mid'\]"):
        clf.partial_fit(X, y, classes=["high", "low"])
    assert not clf.__sklearn_is_fitted__()
    clf.partial_fit(X[:16], y[:16], classes=np.unique(y))
    before = clf.predict_proba(X)
    with pytest.raises(ValueError, match=r"not among the classes .*\['unheard'\]"):
        clf.partial_fit(X, ["unheard"] * 24)
    with pytest.raises(ValueError, match="classes must be those of the first call"):
        clf.partial_fit(X, y, classes=["high", "low"])
    with pytest.raises(ValueError, match="channel"):
        clf.partial_fit(X[:, :1], y)
    np.testing.assert_array_equal(clf.predict_proba(X), before)
    with pytest.raises(ValueError, match="early_stopping=False"):
        SSMRegressor(**tiny, early_stopping=True).partial_fit(X, np.arange(24.0))
    with pytest.raises(ValueError, match="class_weight='balanced'"):
        SSMClassifier(**tiny, class_weight="balanced").partial_fit(X, y, classes=np.unique(y))


# Watching


def test_callbacks_and_loggers_of_lightning(labelled, tiny, tmp_path):
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import EarlyStopping
    from lightning.pytorch.loggers import CSVLogger

    class Epochs(pl.Callback):
        seen: list[int] = []

        def on_train_epoch_end(self, trainer, module):
            Epochs.seen.append(trainer.current_epoch)

    X, y = labelled
    stopper = EarlyStopping("val_loss", min_delta=100.0, patience=1)  # nothing is ever that much better
    clf = SSMClassifier(
        **{**tiny, "max_epochs": 20, "early_stopping": True},
        callbacks=[Epochs(), stopper],
        trainer_kwargs={"logger": CSVLogger(tmp_path)},
    )
    assert [clone(clf).fit(X, y).n_iter_, clf.fit(X, y).n_iter_] == [2, 2]
    assert Epochs.seen == [0, 1, 0, 1] and stopper.stopped_epoch == 0
    metrics = next(tmp_path.rglob("metrics.csv")).read_text()
    assert "train_loss" in metrics and "val_loss" in metrics


def test_a_progress_bar_is_shown_if_asked(labelled, tiny, capfd):
    X, y = labelled
    SSMClassifier(**tiny, verbose=0).fit(X, y)
    assert capfd.readouterr() == ("", "")
    SSMClassifier(**tiny, verbose=1).fit(X, y)
    shown = "".join(capfd.readouterr())
    assert "Epoch" in shown and "train_loss" in shown


@pytest.fixture
def at_a_terminal():
    """Ctrl-C interrupts, also where a shell has started the tests in the background and thus ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_keeps_the_best_weights(labelled, tiny, at_a_terminal):
    import lightning.pytorch as pl

    class PressCtrlC(pl.Callback):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch == 8:
                os.kill(os.getpid(), signal.SIGINT)

    X, y = labelled
    handler = signal.getsignal(signal.SIGINT)
    assert handler is signal.default_int_handler
    settings = {**tiny, "max_epochs": 100, "early_stopping": True, "learning_rate": 0.05}
    clf = SSMClassifier(**settings, label_smoothing=0.0, callbacks=[PressCtrlC()])
    with pytest.warns(UserWarning, match="interrupted in epoch 9.*best epoch"):
        clf.fit(X[::2], y[::2], X_val=X[1::2], y_val=np.roll(y[1::2], 4))  # learning makes it worse
    assert len(clf.validation_scores_) == 8
    assert clf.best_validation_score_ == max(clf.validation_scores_) > clf.validation_scores_[-1]
    loss = log_loss(np.roll(y[1::2], 4), clf.predict_proba(X[1::2]), labels=clf.classes_)
    assert -clf.best_validation_score_ == pytest.approx(loss, rel=1e-5)  # float32
    assert signal.getsignal(signal.SIGINT) is handler
