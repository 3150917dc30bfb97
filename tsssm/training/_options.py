"""Settings and results of a training run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from tsssm.training._augment import Augmentation
from tsssm.training._dropped import VariableDropout

#: Loss of each series (batch,) from outputs (batch, n_outputs) and targets (batch, ...).
Loss = Callable[[Tensor, Tensor], Tensor]

# Without a limit from the user: enough epochs for large data.
DEFAULT_EPOCHS = 10

#: Keys of ``trainer_kwargs`` that would contradict an option of their own.
RESERVED_TRAINER_KWARGS = ("accelerator", "callbacks", "devices", "max_epochs", "max_steps", "precision")


@dataclass(frozen=True)
class TrainingOptions:
    """Settings of a training run.

    Attributes
    ----------
    max_epochs, max_steps : int or None
        Whichever is reached first ends training; with neither, ``least_steps`` or 10 epochs, whichever is
        more.
    least_steps : int
        Enough steps for small data.
    batch_size : int
        Most series in a batch.
    learning_rate, ssm_learning_rate, weight_decay : float
        Of AdamW; the second is for the systems of the state-space layers, which are not decayed.
    changed : Augmentation, VariableDropout or None
        How the series of a step are changed at random.
    patience : int
        Epochs without a better validation score after which training stops, if there is validation data.
    accelerator, devices, precision
        Passed to `lightning.Trainer`; "auto" is CUDA where there is one, else the CPU.
    callbacks : sequence of `lightning.Callback`
        Copied for the run.
    trainer_kwargs : mapping
        Further arguments of `lightning.Trainer`, which win over the defaults used here.
    seed : int
        Seeds dropout.
    incremental : bool
        One of many short runs: the learning rate is constant, and the result holds AdamW's moments for the
        next run.
    checkpoint_dir : path or None
        Where the state of the run is kept while it lasts; a run that left its state there is continued.
    resume_from : path or None
        A checkpoint that must be of this run, and is continued.
    identity : mapping
        What the run depends on besides these options, its data and its network, in words; for checkpoints.
    verbose : int
        0 prints nothing, 1 shows a progress bar, 2 adds the model summary and Lightning's messages.
    """

    max_epochs: int | None = None
    max_steps: int | None = None
    least_steps: int = 600
    batch_size: int = 32
    learning_rate: float = 4e-3
    ssm_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    changed: Augmentation | VariableDropout | None = None
    patience: int = 20
    accelerator: str = "auto"
    devices: int | Sequence[int] | str = 1
    precision: int | str = "32-true"
    callbacks: Sequence[Any] = ()
    trainer_kwargs: Mapping[str, Any] | None = None
    seed: int = 0
    verbose: int = 0
    incremental: bool = False
    checkpoint_dir: str | os.PathLike[str] | None = None
    resume_from: str | os.PathLike[str] | None = None
    identity: Mapping[str, str] = field(default_factory=dict)

    def total_steps(self, steps_per_epoch: int) -> int:
        """Optimiser steps of the whole run."""
        if self.max_epochs is None and self.max_steps is None:
            return max(self.least_steps, DEFAULT_EPOCHS * steps_per_epoch)
        limits = []
        if self.max_steps is not None:
            limits.append(self.max_steps)
        if self.max_epochs is not None:
            limits.append(self.max_epochs * steps_per_epoch)
        return min(limits)


@dataclass(frozen=True)
class TrainingResult:
    """What happened in a training run.

    Attributes
    ----------
    loss_curve : list of float
        Mean training loss of each epoch.
    validation_scores : list of float or None
        Minus the validation loss after each epoch; None without validation data.
    best_validation_score : float or None
        The largest of them, that of the weights which were kept.
    n_iter : int
        Epochs, a started one included.
    interrupted : bool
        Whether Ctrl-C ended the run.
    optimizer_state : dict or None
        State of AdamW, on the CPU, by the number of the parameter; None unless the run was ``incremental``.
    """

    loss_curve: list[float]
    validation_scores: list[float] | None
    best_validation_score: float | None
    n_iter: int
    interrupted: bool
    optimizer_state: dict[int, Any] | None = None


class EpochObserver(Protocol):
    """Called before and after each epoch of a run, which it may end."""

    def epoch_begins(self) -> None:
        """Called before each epoch."""

    def epoch_ends(self) -> bool:
        """Called after each epoch and its validation; True ends training."""
