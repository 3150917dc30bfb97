"""Entry points that need torch alone: run a network, start a training run."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tsssm.backbone import Backbone
from tsssm.encoding import Encoded, EncodedOnDemand
from tsssm.training._batches import Batches
from tsssm.training._committee import Committee, members_of
from tsssm.training._options import EpochObserver, Loss, TrainingOptions, TrainingResult

# Features of a batch, samples times channels, below which a second thread costs more than it brings.
_FEATURES_PER_THREAD = 65_536

# Samples in a batch of predictions: keeps its features within some tens of megabytes.
_PREDICT_SAMPLES = 65_536


class _DrawFrom(TorchFunctionMode):
    """Hands a generator to the functions with which layers are initialised; in this thread alone."""

    _functions = frozenset(
        {torch.rand, torch.randn, Tensor.uniform_, Tensor.normal_, nn.init.kaiming_uniform_, nn.init.uniform_}
    )

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self._generator = generator

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in self._functions:
            kwargs["generator"] = self._generator
        return func(*args, **kwargs)


@contextmanager
def isolated_rng(seed: int) -> Iterator[None]:
    """Run a block in which new layers draw from a generator of its own, whatever other threads draw.

    They draw in float32, as numbers in float64 are others and not the same in more digits, whatever
    ``torch.set_default_dtype`` says. That is one for the process: one block at a time.
    """
    with _one_dtype, _DrawFrom(torch.Generator().manual_seed(seed)):
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(default)


# Lightning changes classes of torch and the global generators while it starts, so that two runs in one
# process disturb each other. A callback may fit a model of its own, hence a lock that lets its owner in.
_one_run = threading.RLock()
_one_dtype = threading.RLock()


def _renew_locks() -> None:
    """In a forked child nobody is left to release them."""
    global _one_run, _one_dtype
    _one_run, _one_dtype = threading.RLock(), threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


def train(
    net: Backbone | Committee,
    loss: Loss,
    training: Batches,
    options: TrainingOptions,
    validation: Batches | None = None,
    *,
    observer: EpochObserver | None = None,
    optimizer_state: dict[int, Any] | None = None,
) -> TrainingResult:
    """Train ``net`` in place and leave it on the CPU in evaluation mode; one run at a time in a process.

    Parameters
    ----------
    net : Backbone or Committee
        The members of a committee learn from all series but those of their own fold.
    loss : callable
        Loss of each series; its weighted mean over a batch is minimised.
    training : Batches
    options : TrainingOptions
    validation : Batches, optional
        With it, training stops when the validation loss no longer falls, and the best weights are kept.
    observer : EpochObserver, optional
        Called before and after each epoch.
    optimizer_state : dict, optional
        ``TrainingResult.optimizer_state`` of an earlier incremental run of the same network.

    Returns
    -------
    TrainingResult

    Raises
    ------
    FloatingPointError
        If the loss becomes NaN or infinite more than three times.
    """
    from tsssm.training._lightning import run

    features = training.samples * members_of(net)[0].config["d_model"]
    with _one_run, threads_for(features):
        return run(net, loss, training, options, validation, observer, optimizer_state)


@contextmanager
def threads_for(features: int) -> Iterator[None]:
    """Take no more threads than the ``features`` of a batch make work for, and give them back.

    Steps of a small problem take less time than it takes to wake a second thread, and many times as long
    where other processes want its core.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, features // _FEATURES_PER_THREAD)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def predict(
    net: nn.Module, data: Encoded | EncodedOnDemand, device: torch.device, rows: Tensor | None = None
) -> Tensor:
    """Return the outputs of ``net`` for each series, float32 (n, n_outputs) on the CPU; or those of ``rows``.

    Series of similar length share a batch. ``net`` is not changed: on another device a copy of it runs.
    """
    if device.type != "cpu":
        net = copy.deepcopy(net).to(device)
    chosen = torch.arange(len(data)) if rows is None else rows
    by_length = data.lengths[chosen].argsort(stable=True)
    order = chosen[by_length]
    # Sorted by length, the last series of a batch is its longest; padded size grows with the product.
    outputs = []
    with torch.inference_mode():
        for rows in _split_by_size(order, data.lengths[order]):
            u, dt = data.batch(rows)
            outputs.append(net(u.to(device), None if dt is None else dt.to(device)).cpu())
    sorted_outputs = torch.cat(outputs)
    result = torch.empty_like(sorted_outputs)
    result[by_length] = sorted_outputs
    return result


def predict_left_out(
    net: Backbone | Committee, data: Encoded | EncodedOnDemand, fold: Tensor, device: torch.device
) -> Tensor:
    """Return for each series the outputs of the member that left it out, NaN where there is none.

    Parameters
    ----------
    net : Backbone or Committee
    data : Encoded or EncodedOnDemand
        The n series of training.
    fold : Tensor (n,)
        As in `Batches`.
    device : torch.device

    Returns
    -------
    Tensor (n, n_outputs), float32, on the CPU
    """
    members = members_of(net)
    outputs = torch.full((len(data), members[0].head.out_features), torch.nan)
    for number, member in enumerate(members):
        rows = torch.nonzero(fold == number)[:, 0]
        if len(rows):
            outputs[rows] = predict(member, data, device, rows)
    return outputs


def _split_by_size(order: Tensor, lengths: Tensor) -> Iterator[Tensor]:
    """Cut rows, sorted by increasing length, into batches of at most ``_PREDICT_SAMPLES`` padded samples."""
    start, total = 0, len(order)
    while start < total:
        sizes = lengths[start:] * torch.arange(1, total - start + 1)
        count = max(1, int((sizes <= _PREDICT_SAMPLES).sum()))
        yield order[start : start + count]
        start += count
