"""What training does otherwise on a device, tried on the CPU: no step waits, and series stay there."""

from __future__ import annotations

import math
from dataclasses import replace

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import DDPStrategy
from test_training import CPU, batches, cross_entropy, encoded, network
from torch.utils._python_dispatch import TorchDispatchMode

from tsssm.encoding import Batch, moved
from tsssm.training import Batches, TrainingOptions, train
from tsssm.training._batches import BatchShares
from tsssm.training._committee import Committee
from tsssm.training._lightning import Learner
from tsssm.training._resident import placed, resident, transferred
from tsssm.training._trainer import trainer_arguments


@pytest.fixture
def as_on_a_device(monkeypatch):
    monkeypatch.setattr(Learner, "_waits", lambda self: False)


class Fetches(TorchDispatchMode):
    """Counts the numbers that the host asks of tensors."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            Fetches.count += 1
        return func(*args, **kwargs or {})


class CountFetches(pl.Callback):
    """Looks at the steps alone: whatever is between the start and the end of a batch."""

    def __deepcopy__(self, memo):
        return self

    def on_train_batch_start(self, *args):
        self.mode = Fetches()
        self.mode.__enter__()

    def on_train_batch_end(self, *args):
        self.mode.__exit__(None, None, None)


def weights_of(net):
    return [tensor.clone() for tensor in net.state_dict().values()]


@pytest.mark.parametrize("validated", [False, True])
def test_losses_that_are_fetched_later_change_nothing(validated, monkeypatch):
    runs = []
    for waits in (True, False):
        monkeypatch.setattr(Learner, "_waits", lambda self, waits=waits: waits)
        net = network()
        validation = batches(shuffle=False) if validated else None
        result = train(net, cross_entropy, batches(), TrainingOptions(max_epochs=4), validation)
        runs.append((result.loss_curve, result.validation_scores, weights_of(net)))
    assert runs[0][:2] == runs[1][:2]
    assert all(torch.equal(one, other) for one, other in zip(runs[0][2], runs[1][2], strict=True))


def test_no_step_asks_for_a_number(as_on_a_device):
    counts = {}
    for epochs in (1, 3):
        Fetches.count = 0
        options = TrainingOptions(max_epochs=epochs, callbacks=[CountFetches()])
        train(network(norm="layer", dropout=0.0), cross_entropy, batches(), options)
        counts[epochs] = Fetches.count
    assert counts == {1: 0, 3: 0}


def test_a_step_on_the_cpu_does(monkeypatch):
    """Which shows that the counter counts."""
    Fetches.count = 0
    train(network(), cross_entropy, batches(), TrainingOptions(max_epochs=1, callbacks=[CountFetches()]))
    assert Fetches.count >= 3


def test_a_loss_that_is_not_finite_costs_the_rest_of_its_epoch(as_on_a_device):
    """Then the last good weights come back, at half the rate, and before they are validated."""
    calls = 0

    def loss(outputs, target):
        nonlocal calls
        calls += torch.is_grad_enabled()
        value = cross_entropy(outputs, target)
        return value * math.nan if calls == 5 and torch.is_grad_enabled() else value

    rates = []

    class Rates(pl.Callback):
        def on_train_epoch_start(self, trainer, module):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    options = TrainingOptions(max_epochs=4, callbacks=[Rates()], incremental=True)  # a constant rate
    net = network()
    result = train(net, loss, batches(), options, batches(shuffle=False))
    assert rates[2] == rates[1] / 2 == rates[3] and rates[0] == rates[1]
    assert all(math.isfinite(value) for value in [*result.loss_curve, *result.validation_scores])
    assert all(tensor.isfinite().all() for tensor in net.state_dict().values())


def test_losses_that_never_are_finite_end_in_an_error(as_on_a_device):
    def loss(outputs, target):
        return cross_entropy(outputs, target) * math.nan

    with pytest.raises(FloatingPointError, match="NaN or infinite 4 times"):
        train(network(), loss, batches(), TrainingOptions(max_epochs=9))


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_trains_as_single_does(as_on_a_device, precision):
    """With the scaler of PyTorch, which Lightning would leave out on a CPU; systems stay in float32."""
    curves = {}
    for name in ("32-true", precision):
        options = TrainingOptions(max_epochs=4, precision=name)
        if name == "16-mixed":
            half = MixedPrecision(name, "cpu", torch.amp.GradScaler("cpu"))
            options = replace(options, trainer_kwargs={"precision": None, "plugins": half})
        net = network(dropout=0.0)
        curves[name] = train(net, cross_entropy, batches(), options).loss_curve
        assert all(tensor.isfinite().all() for tensor in net.state_dict().values())
        assert all(parameter.dtype == torch.float32 for parameter in net.parameters())
    assert curves[precision] != curves["32-true"]
    assert curves[precision] == pytest.approx(curves["32-true"], abs=0.02)


# --------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("lengths", [(6,) * 9, (3, 9, 4, 4, 1, 8, 2)])
def test_batches_of_series_on_a_device_are_the_same(lengths, coded):
    data = encoded(lengths)
    if coded:
        data = replace(data, codes=torch.arange(sum(lengths))[:, None] % 4, n_codes=3)
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    fold = torch.arange(len(lengths)) % 3
    given = {"weight": torch.rand(len(lengths)), "batch_size": 3, "fold": fold}
    host = Batches(data, torch.arange(len(lengths)), generator=generators[0], **given)
    there = placed(Batches(data, torch.arange(len(lengths)), generator=generators[1], **given), CPU)
    assert there.data is not data and len(there.data) == len(lengths)
    assert there.data.batch(torch.arange(2)).u.shape[2] == data.u.shape[1] + 3 * coded
    for _ in range(2):
        for one, other in zip(host, there, strict=True):
            for name in ("u", "dt", "target", "weight", "fold"):
                a, b = getattr(one, name), getattr(other, name)
                assert (a is None and b is None) or torch.equal(a, b)


def test_series_on_a_device_keep_a_steady_grid_apart():
    data = encoded((4, 4)).on(CPU)
    data.__dict__["_steady"] = torch.tensor([True, False])
    assert isinstance(data.batch(torch.tensor([0])), Batch)
    assert data.batch(torch.tensor([0])).dt is None and data.batch(torch.tensor([0, 1])).dt is not None


def test_only_cuda_keeps_series_and_only_where_they_fit(monkeypatch):
    host = batches()
    cuda = torch.device("cuda")
    assert resident(host, CPU) is host
    free = 4 * (host.data.u.nbytes + host.data.dt.nbytes + host.target.nbytes)
    monkeypatch.setattr("tsssm.training._resident.placed", lambda batches, device: (batches, device))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
    assert resident(host, cuda) == (host, cuda)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free - 4, free))
    assert resident(host, cuda) is host


def test_a_transfer_leaves_the_folds_where_they_are_counted():
    batch = next(iter(batches()))._replace(fold=torch.zeros(4, dtype=torch.int64), at=(torch.arange(2),) * 2)
    there = transferred(batch, torch.device("meta"))
    assert there.fold is batch.fold and there.u.device.type == there.at[1].device.type == "meta"
    assert there.weight is None and moved(batch.u, CPU) is batch.u


def test_shares_of_processes_are_weighted_where_the_batch_is():
    there = placed(batches(), CPU)
    for batch in BatchShares(there, lambda: (0, 2)):
        assert batch.weight.device == batch.target.device and batch.weight.sum() == len(batch.target)


def test_a_committee_learns_as_on_the_cpu(as_on_a_device, monkeypatch):
    fold = torch.arange(12) % 2
    runs = []
    for waits in (True, False):
        monkeypatch.setattr(Learner, "_waits", lambda self, waits=waits: waits)
        net = Committee([network(0), network(1)])
        source = batches()
        source.fold = fold
        train(net, cross_entropy, source if waits else placed(source, CPU), TrainingOptions(max_epochs=2))
        runs.append(weights_of(net))
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))


@pytest.mark.parametrize(("kind", "backend"), [("cpu", "gloo"), ("cuda", "nccl")])
def test_several_processes_speak_what_their_devices_do(kind, backend):
    options = TrainingOptions(max_epochs=1, accelerator="cpu", devices=2)
    strategy = pl.Trainer(**trainer_arguments(options, 10, 5, None)).strategy
    assert isinstance(strategy, DDPStrategy) and strategy.process_group_backend is None
    strategy.parallel_devices = [torch.device(kind, number) for number in range(2)]
    assert strategy._get_process_group_backend() == backend
