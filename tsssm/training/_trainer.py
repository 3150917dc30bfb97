"""What is between a run and Lightning's trainer: its arguments, its schedule, its optimiser."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint

from tsssm.training._devices import resolve_device
from tsssm.training._options import TrainingOptions
from tsssm.training._schedule import warmed_cosine

_GRADIENT_NORM = 1.0


def trainer_arguments(
    options: TrainingOptions, total_steps: int, steps_per_epoch: int, checkpoint: pl.Callback | None
) -> dict[str, Any]:
    """Arguments of a trainer; those of the user win.

    Raises
    ------
    TypeError
        For callbacks that are none of Lightning's.
    """
    for callback in options.callbacks:
        if not isinstance(callback, pl.Callback):
            raise TypeError(f"callbacks must be lightning.pytorch.Callback objects; got {callback!r}.")
    # Stateful callbacks such as EarlyStopping must not carry over to the next fit.
    callbacks = copy.deepcopy(list(options.callbacks)) + ([] if checkpoint is None else [checkpoint])
    arguments = {
        "accelerator": resolve_device(options.accelerator).type,
        "devices": options.devices,
        "precision": options.precision,
        "max_epochs": -(-total_steps // steps_per_epoch),
        "callbacks": callbacks,
        "gradient_clip_val": _GRADIENT_NORM,
        "logger": False,
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
        "enable_progress_bar": options.verbose > 0,
        "enable_model_summary": options.verbose > 1,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
    }
    return {**arguments, **(options.trainer_kwargs or {})}


def schedule(options: TrainingOptions, total_steps: int) -> Callable[[int], float]:
    """What the learning rates are multiplied by in each step: a warm-up, then a cosine; 1 if incremental."""
    return (lambda step: 1.0) if options.incremental else warmed_cosine(total_steps)


def moments_of(trainer: pl.Trainer) -> dict[int, Any] | None:
    """State of the optimiser on the CPU; None if training ended before there was one."""
    if not trainer.optimizers:
        return None
    state = trainer.optimizers[0].state_dict()["state"]
    return {number: {name: value.cpu() for name, value in entry.items()} for number, entry in state.items()}
