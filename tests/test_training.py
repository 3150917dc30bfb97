from __future__ import annotations

import logging
import math
import random
import signal
import threading
import warnings

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch.nn import functional as F

from tsssm.backbone import Backbone
from tsssm.encoding import PanelEncoder
from tsssm.panel import Panel
from tsssm.training import Batches, TrainingOptions, isolated_rng, predict, train

CPU = torch.device("cpu")


def cross_entropy(outputs, target):
    return F.cross_entropy(outputs, target, reduction="none")


def encoded(lengths, seed=0):
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    panel = Panel(rng.normal(size=(offsets[-1], 1)), offsets)
    return PanelEncoder().fit(panel).encode(panel)


def batches(lengths=(6,) * 12, batch_size=4, shuffle=True, weight=None):
    data = encoded(lengths)
    target = torch.arange(len(lengths)) % 2
    generator = torch.Generator().manual_seed(0) if shuffle else None
    return Batches(data, target, weight, batch_size=batch_size, generator=generator)


def network(seed=0, **options):
    torch.manual_seed(seed)
    return Backbone(1, 2, backbone="s4d", n_layers=1, d_model=4, d_state=4, **options)


class Spy(pl.Callback):
    """Learning rates and gradient norms of every step."""

    def __init__(self):
        self.seen = {"rates": [], "norms": []}

    def __deepcopy__(self, memo):
        return self  # report to the test although the loop works with copies

    def on_train_batch_start(self, trainer, *args):
        self.seen["rates"].append([group["lr"] for group in trainer.optimizers[0].param_groups])

    def on_before_zero_grad(self, trainer, module, optimizer):
        grads = [p.grad.norm() for p in module.parameters() if p.grad is not None]
        if grads:
            self.seen["norms"].append(torch.stack(grads).norm().item())


class InterruptAt(pl.Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == self.epoch:
            raise KeyboardInterrupt


# Batches


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize(("n", "batch_size"), [(1, 8), (2, 1), (9, 8), (16, 5), (33, 8), (3, 2), (100, 7)])
def test_every_epoch_holds_every_series_once_in_even_batches(n, batch_size, ragged):
    lengths = np.random.default_rng(0).integers(1, 30, size=n) if ragged else [5] * n
    source = batches(tuple(lengths), batch_size)
    for _ in range(3):
        rows = source.rows()
        assert len(rows) == len(source)
        sizes = [len(batch) for batch in rows]
        assert max(sizes) - min(sizes) <= 1
        assert sorted(torch.cat(rows).tolist()) == list(range(n))
        if n > 1 and batch_size > 1:
            assert min(sizes) > 1


def test_shuffling_changes_with_the_epoch_and_repeats_with_the_seed():
    first, second = batches((5,) * 40), batches((5,) * 40)
    epochs = [torch.cat(first.rows()).tolist() for _ in range(3)]
    assert epochs == [torch.cat(second.rows()).tolist() for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]


def test_ragged_series_share_a_batch_with_their_like():
    lengths = tuple(np.random.default_rng(0).integers(1, 1000, size=400).tolist())
    source = batches(lengths, batch_size=16)
    rows = source.rows()
    padded = sum(len(batch) * int(source.data.lengths[batch].max()) for batch in rows)
    assert padded < 1.25 * sum(lengths)
    means = [source.data.lengths[batch].float().mean().item() for batch in rows]
    assert means != sorted(means)  # the batches themselves come in random order


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(
    "lengths", [(100,) * 200 + (200_000,), (1, 7000, *range(20, 60)), (3,) * 9 + (500,) * 3]
)
def test_a_long_series_does_not_fill_the_batches_of_short_ones(lengths, shuffle):
    source = batches(lengths, batch_size=32, shuffle=shuffle, weight=torch.rand(len(lengths)))
    epochs = [source.rows() for _ in range(3)]
    for rows in epochs:
        assert len(rows) == len(source)
        assert sorted(torch.cat(rows).tolist()) == list(range(len(lengths)))
        assert sum(len(batch) * max(lengths[i] for i in batch) for batch in rows) < 2 * sum(lengths)
        assert all(max(lengths[i] for i in batch) > 1 for batch in rows if len(batch) == 1)
    assert len({tuple(torch.cat(rows).tolist()) for rows in epochs}) == (3 if shuffle else 1)
    assert epochs[0][0].tolist() == batches(lengths, 32, shuffle).rows()[0].tolist()
    # Every series counts by its weight alone, whatever the size of its batch.
    loss = torch.rand(len(lengths))
    mean = np.mean([(loss[rows] * source.batch(rows).weight).mean() for rows in epochs[0]])
    assert mean == pytest.approx(float((loss * source.weight).mean()), rel=1e-5)


def test_batches_carry_targets_and_weights_of_their_series():
    weight = torch.arange(12.0)
    source = batches(weight=weight)
    for batch in source:
        series = batch.weight.long()
        assert torch.equal(batch.target, series % 2)
        assert torch.equal(batch.u, source.data.batch(series).u)


# Options


@pytest.mark.parametrize(
    ("limits", "steps"),
    [({}, 600), ({"max_epochs": 5}, 35), ({"max_steps": 50}, 50), ({"max_epochs": 5, "max_steps": 50}, 35)],
)
def test_total_steps(limits, steps):
    assert TrainingOptions(**limits).total_steps(steps_per_epoch=7) == steps


def test_large_data_is_seen_ten_times():
    assert TrainingOptions().total_steps(steps_per_epoch=100) == 1000


# Training


def test_training_lowers_the_loss_and_reports_each_epoch():
    net, source = network(dropout=0.0), batches()  # what is dropped by chance moves this loss by a third
    before = cross_entropy(predict(net, source.data, CPU), source.target).mean()
    result = train(net, cross_entropy, source, TrainingOptions(max_epochs=80, learning_rate=0.05))
    after = cross_entropy(predict(net, source.data, CPU), source.target).mean()
    assert after < 0.8 * before
    assert result.n_iter == len(result.loss_curve) == 80
    assert result.validation_scores is None and not result.interrupted
    assert not net.training and all(p.grad is None for p in net.parameters())


def test_the_learning_rate_warms_up_and_falls_as_a_cosine():
    spy = Spy()
    options = TrainingOptions(max_steps=20, learning_rate=0.02, ssm_learning_rate=0.01, callbacks=[spy])
    train(network(), cross_entropy, batches(), options)
    factor = [0.5, 1.0] + [0.5 * (1 + math.cos(math.pi * k / 18)) for k in range(18)]
    expected = [[0.01 * f, 0.02 * f, 0.02 * f] for f in factor]
    np.testing.assert_allclose(spy.seen["rates"], expected, rtol=1e-6, atol=1e-12)


def test_gradients_are_clipped_to_norm_one():
    spy = Spy()
    options = TrainingOptions(max_epochs=3, callbacks=[spy])
    train(network(), lambda out, target: 1e6 * cross_entropy(out, target), batches(), options)
    assert len(spy.seen["norms"]) > 3
    assert max(spy.seen["norms"]) < 1 + 1e-4


def test_weights_weigh_the_loss():
    # All weight on class 0: the network learns to say 0, whatever comes.
    weight = 2.0 * (torch.arange(12) % 2 == 0)
    net, source = network(), batches(weight=weight)
    train(net, cross_entropy, source, TrainingOptions(max_epochs=30, learning_rate=0.05))
    assert (predict(net, source.data, CPU).argmax(dim=1) == 0).all()


def test_early_stopping_keeps_the_weights_of_the_best_epoch():
    net, training = network(), batches()
    validation = Batches(training.data, 1 - training.target, batch_size=5)  # learning makes it worse
    options = TrainingOptions(max_epochs=100, learning_rate=0.02, patience=4)
    result = train(net, cross_entropy, training, options, validation)
    best = int(np.argmax(result.validation_scores))
    assert result.best_validation_score == result.validation_scores[best]
    assert result.n_iter == len(result.validation_scores) == best + 1 + 4 < 100
    loss = cross_entropy(predict(net, training.data, CPU), 1 - training.target).mean().item()
    assert -loss == pytest.approx(result.best_validation_score, rel=1e-5)


def nan_at(calls):
    """Cross-entropy that is NaN at these calls, counted from 0."""
    count = iter(range(10**6))

    def loss(outputs, target):
        losses = cross_entropy(outputs, target)
        return losses * math.nan if next(count) in calls else losses

    return loss


class WeightsAtLoss(pl.Callback):
    """The weights before and after each step."""

    def __init__(self):
        self.before, self.after = [], []

    def __deepcopy__(self, memo):
        return self

    def on_train_batch_start(self, trainer, module, *args):
        self.before.append([p.detach().clone() for p in module.net.parameters()])

    def on_train_batch_end(self, trainer, module, *args):
        self.after.append([p.detach().clone() for p in module.net.parameters()])


def test_a_loss_that_is_not_finite_restores_the_last_good_weights_at_half_the_rate():
    spy, weights = Spy(), WeightsAtLoss()
    options = TrainingOptions(max_steps=40, weight_decay=0.0, callbacks=[spy, weights])
    net = network()
    train(net, nan_at({25, 30}), batches(), options)
    plain = Spy()
    train(network(), cross_entropy, batches(), TrainingOptions(max_steps=40, callbacks=[plain]))
    ratio = np.array(spy.seen["rates"]) / np.array(plain.seen["rates"])
    np.testing.assert_allclose(ratio[:26], 1.0)
    np.testing.assert_allclose(ratio[26:31], 0.5)
    np.testing.assert_allclose(ratio[31:], 0.25)
    # Step 24 was the last with a finite loss: its weights come back, and step 25 leaves them there.
    for good, restored in zip(weights.before[24], weights.after[25], strict=True):
        assert torch.equal(good, restored)
    assert any(not torch.equal(a, b) for a, b in zip(weights.before[24], weights.before[25], strict=True))
    assert all(p.isfinite().all() for p in net.parameters())


def test_weights_that_became_nan_are_restored():
    class Poison(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if trainer.global_step == 5:
                with torch.no_grad():
                    for tensor in (*module.net.parameters(), module.net.norm.norm.running_mean):
                        tensor.fill_(math.nan)

    net = network()
    result = train(net, cross_entropy, batches(), TrainingOptions(max_epochs=5, callbacks=[Poison()]))
    assert all(tensor.isfinite().all() for tensor in net.state_dict().values())
    assert np.isfinite(result.loss_curve).all()


class PoisonAtStep(pl.Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, module, *args):
        if trainer.global_step == self.step:
            with torch.no_grad():
                for parameter in module.net.parameters():
                    parameter.fill_(math.nan)


@pytest.mark.parametrize("validated", [False, True])
def test_a_last_step_that_ruins_the_weights_is_undone(validated):
    net, source = network(), batches()
    options = TrainingOptions(max_steps=3, callbacks=[PoisonAtStep(3)])
    result = train(net, cross_entropy, source, options, batches(shuffle=False) if validated else None)
    assert all(tensor.isfinite().all() for tensor in net.state_dict().values())
    assert result.best_validation_score is None


def test_a_validation_loss_that_is_nan_is_not_the_best():
    options = TrainingOptions(max_epochs=4, callbacks=[PoisonAtStep(3)])  # recovered in epoch 2
    result = train(network(), cross_entropy, batches(), options, batches(shuffle=False))
    assert math.isnan(result.validation_scores[0])
    assert result.best_validation_score == max(result.validation_scores[1:])


@pytest.mark.parametrize(("max_steps", "validations"), [(1, 1), (3, 1), (5, 2), (6, 2)])
def test_training_that_ends_inside_an_epoch_is_validated(max_steps, validations):
    options = TrainingOptions(max_steps=max_steps)
    result = train(network(), cross_entropy, batches(), options, batches(shuffle=False))
    assert len(result.validation_scores) == result.n_iter == validations
    assert result.best_validation_score == max(result.validation_scores)


def test_the_fourth_loss_that_is_not_finite_is_an_error():
    with pytest.raises(FloatingPointError, match="NaN or infinite 4 times.*learning_rate"):
        train(network(), nan_at(set(range(5, 100))), batches(), TrainingOptions(max_epochs=10))


def test_ctrl_c_keeps_what_was_learned():
    net, handler = network(), signal.getsignal(signal.SIGINT)
    before = [p.detach().clone() for p in net.parameters()]
    options = TrainingOptions(max_epochs=10, callbacks=[InterruptAt(3)])
    with pytest.warns(UserWarning, match="interrupted in epoch 4"):
        result = train(net, cross_entropy, batches(), options)
    assert result.interrupted and result.n_iter == 3
    assert any(not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert signal.getsignal(signal.SIGINT) is handler


def test_ctrl_c_under_early_stopping_keeps_the_best_weights():
    net, training = network(), batches()
    validation = Batches(training.data, 1 - training.target, batch_size=5)
    options = TrainingOptions(max_epochs=10, learning_rate=0.02, callbacks=[InterruptAt(6)])
    with pytest.warns(UserWarning, match="best epoch so far"):
        result = train(net, cross_entropy, training, options, validation)
    loss = cross_entropy(predict(net, training.data, CPU), 1 - training.target).mean().item()
    assert -loss == pytest.approx(result.best_validation_score, rel=1e-5)


def test_an_exit_that_is_not_an_interrupt_goes_through():
    class Exit(pl.Callback):
        def on_train_epoch_start(self, trainer, module):
            raise SystemExit(3)

    with pytest.raises(SystemExit) as caught:
        train(network(), cross_entropy, batches(), TrainingOptions(max_epochs=2, callbacks=[Exit()]))
    assert caught.value.code == 3


def test_callbacks_are_copied_and_see_the_losses():
    stopper = EarlyStopping("train_loss", min_delta=10.0, patience=2)  # nothing improves by ten
    options = TrainingOptions(max_epochs=20, callbacks=[stopper])
    runs = [train(network(), cross_entropy, batches(), options).n_iter for _ in range(2)]
    assert runs == [3, 3]
    assert stopper.stopped_epoch == 0


def test_trainer_arguments_of_the_user_win(tmp_path):
    from lightning.pytorch.loggers import CSVLogger

    options = TrainingOptions(
        max_epochs=3, trainer_kwargs={"logger": CSVLogger(tmp_path), "limit_train_batches": 1}
    )
    spy = Spy()
    train(network(), cross_entropy, batches(), TrainingOptions(**{**vars(options), "callbacks": [spy]}))
    assert len(spy.seen["rates"]) == 3
    assert "train_loss" in next(tmp_path.rglob("metrics.csv")).read_text()


def test_training_is_silent_and_leaves_no_trace(capfd, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    names = ("lightning.pytorch", "lightning.fabric")
    levels = [logging.getLogger(name).level for name in names]
    state = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    source = batches()
    with isolated_rng(3):
        net = Backbone(1, 2, backbone="s4d", n_layers=1, d_model=4, d_state=4, dropout=0.5)
    train(net, cross_entropy, source, TrainingOptions(max_epochs=2))
    assert torch.equal(torch.get_rng_state(), state[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == state[1:]
    assert [logging.getLogger(name).level for name in names] == levels
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_overlapping_runs_put_filters_and_levels_back():
    from tsssm.training._quiet import quiet

    logger = logging.getLogger("lightning.pytorch")
    before = list(warnings.filters), logger.level
    first, second = quiet(0), quiet(0)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)  # as threads do: the first in is not the last out
    assert logger.level == logging.ERROR
    second.__exit__(None, None, None)
    assert (list(warnings.filters), logger.level) == before


def test_verbose_shows_progress(capfd):
    train(network(), cross_entropy, batches(), TrainingOptions(max_epochs=2, verbose=1))
    assert "train_loss" in "".join(capfd.readouterr())


def test_isolated_rng_seeds_the_block_alone():
    def weights():
        with isolated_rng(1):
            return Backbone(1, 2, backbone="s4d", n_layers=1, d_model=4, d_state=4).head.weight

    state = torch.get_rng_state()
    first = weights()
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert torch.equal(first, weights())


def test_isolated_rng_does_not_mind_other_threads():
    expected = None
    drawing = threading.Event()

    def draw():
        while not drawing.is_set():
            torch.rand(3)
            torch.manual_seed(5)

    with torch.random.fork_rng(devices=[]):
        noise = threading.Thread(target=draw)
        noise.start()
        try:
            for _ in range(20):
                with isolated_rng(1):
                    net = Backbone(1, 2, backbone="s4d", n_layers=2, d_model=4, d_state=4)
                weights = torch.cat([p.detach().flatten() for p in net.parameters()])
                expected = weights if expected is None else expected
                assert torch.equal(weights, expected)
        finally:
            drawing.set()
            noise.join()


def test_a_callback_may_train_a_network_of_its_own():
    class Inner(pl.Callback):
        epochs = 0

        def on_train_start(self, trainer, module):
            Inner.epochs = train(network(), cross_entropy, batches(), TrainingOptions(max_epochs=2)).n_iter

    result = train(network(), cross_entropy, batches(), TrainingOptions(max_epochs=1, callbacks=(Inner(),)))
    assert (result.n_iter, Inner.epochs) == (1, 2)


def test_the_seed_of_the_options_decides_dropout():
    def loss_curve(seed):
        options = TrainingOptions(max_epochs=2, seed=seed)
        return train(network(dropout=0.5), cross_entropy, batches(), options).loss_curve

    first = loss_curve(3)
    torch.rand(3)
    assert loss_curve(3) == first != loss_curve(4)


class Observer:
    """Counts epochs, and ends training after some."""

    def __init__(self, epochs):
        self.epochs = epochs
        self.told = []

    def epoch_begins(self):
        self.told.append("begin")

    def epoch_ends(self):
        self.told.append("end")
        return self.told.count("end") == self.epochs


@pytest.mark.parametrize("validated", [False, True])
def test_an_observer_is_told_of_epochs_and_ends_training(validated):
    observer = Observer(3)
    validation = batches(shuffle=False) if validated else None
    options = TrainingOptions(max_epochs=20)
    result = train(network(), cross_entropy, batches(), options, validation, observer=observer)
    assert result.n_iter == 3 and observer.told == ["begin", "end"] * 3
    assert validation is None or len(result.validation_scores) == 3


def test_incremental_runs_are_one_run_at_a_constant_rate():
    def rates_and_weights(n_runs, epochs):
        net, source, spy, moments = network(dropout=0.0), batches(shuffle=False), Spy(), None
        options = TrainingOptions(max_epochs=epochs, incremental=True, callbacks=[spy])
        for _ in range(n_runs):
            before = moments
            result = train(net, cross_entropy, source, options, optimizer_state=moments)
            moments = result.optimizer_state
            assert before is not moments
        return spy.seen["rates"], torch.cat([p.detach().flatten() for p in net.parameters()])

    (rates, weights), (_, at_once) = rates_and_weights(4, 1), rates_and_weights(1, 4)
    assert rates == [[1e-3, 4e-3, 4e-3]] * 12
    torch.testing.assert_close(weights, at_once, rtol=1e-6, atol=1e-7)  # float32
    assert train(network(), cross_entropy, batches(), TrainingOptions(max_steps=1)).optimizer_state is None


def test_the_moments_of_an_earlier_run_are_left_as_they_are():
    options = TrainingOptions(max_epochs=1, incremental=True)
    moments = train(network(), cross_entropy, batches(), options).optimizer_state
    kept = {i: {name: value.clone() for name, value in entry.items()} for i, entry in moments.items()}
    train(network(), cross_entropy, batches(), options, optimizer_state=moments)
    for i, entry in moments.items():
        for name, value in entry.items():
            assert torch.equal(value, kept[i][name])


# Prediction


def test_predictions_do_not_depend_on_what_shares_their_batch(monkeypatch):
    net = network().eval()
    data = encoded([3, 9, 1, 7, 7, 12, 2])
    together = predict(net, data, CPU)
    alone = torch.cat([net(*data.batch(torch.tensor([i]))) for i in range(len(data))])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)  # float32
    monkeypatch.setattr("tsssm.training._run._PREDICT_SAMPLES", 14)
    torch.testing.assert_close(predict(net, data, CPU), alone, rtol=1e-5, atol=1e-6)


def test_predictions_carry_no_gradient():
    net = network().eval()
    assert not predict(net, encoded([3, 3]), CPU).requires_grad
