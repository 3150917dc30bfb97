"""Checkpoints of an unfinished run: when they are written, which one is continued, and which refused."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from tsssm._version import __version__
from tsssm.backbone import Backbone
from tsssm.training._batches import Batches
from tsssm.training._committee import Committee
from tsssm.training._options import TrainingOptions
from tsssm.training._run import resolve_device

# Writing may take this share of the time: after each file training goes on for so many times as long.
_PAUSE = 50
_IDENTITY = "tsssm_run"


class RunCheckpoint(Checkpoint):
    """Writes the state of a run at the ends of epochs, and finds the state that an earlier one left.

    The file is named after the identity of the run: its parameters, its data and its first weights. In one
    directory every fit of a cross-validation thus finds its own file and no other. An epoch that ends
    training is not written, so that there is always something to continue.

    Attributes
    ----------
    start : Path or None
        The checkpoint that this run continues.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file to resume from is missing, unreadable, or belongs to another run.
    """

    def __init__(
        self,
        net: Backbone | Committee,
        training: Batches,
        validation: Batches | None,
        options: TrainingOptions,
    ) -> None:
        self._identity = _identity(net, training, validation, options)
        self._path: Path | None = None
        self._next = 0.0
        self.start: Path | None = None
        if options.checkpoint_dir is not None:
            digest = hashlib.sha256(json.dumps(self._identity, sort_keys=True).encode()).hexdigest()
            self._path = Path(options.checkpoint_dir).absolute() / f"fit-{digest[:20]}.ckpt"
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self.start = self._path if self._path.exists() else None
        if options.resume_from is not None:
            self.start = Path(options.resume_from)
        if self.start is not None:
            self._check(self.start)

    def _check(self, path: Path) -> None:
        """Raise unless ``path`` is a checkpoint of this very run; nothing in the file is run."""
        if not path.is_file():
            raise FileNotFoundError(f"There is no checkpoint {path} to resume from.")
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)[_IDENTITY]
        except Exception as error:
            raise ValueError(f"{path} is no checkpoint of tsssm, or is damaged: {error}") from error
        differences = [
            f"{name} ({found.get(name, 'none')} then, {self._identity.get(name, 'none')} now)"
            for name in sorted({*found, *self._identity})
            if found.get(name) != self._identity.get(name)
        ]
        if differences:
            raise ValueError(
                f"The checkpoint {path} is of another fit, which differs in {', '.join(differences)}. Resume "
                "with the parameters and the data of that fit, or start anew without it."
            )

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict) -> None:
        """Write down whose state it is."""
        checkpoint[_IDENTITY] = self._identity

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write the state, unless training ends here or the last file has hardly been written."""
        if self._path is None or trainer.should_stop:
            return
        started = time.monotonic()
        # All processes of a run write together, or none does.
        if not trainer.strategy.broadcast(started >= self._next):
            return
        part = self._path.with_name(f".{self._path.name}.{os.getpid()}.part")
        trainer.save_checkpoint(part)
        if trainer.is_global_zero:
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(self._path)
        ended = time.monotonic()
        self._next = ended + _PAUSE * (ended - started)

    def remove(self) -> None:
        """Remove the files of a run that has reached its end."""
        if self._path is None:
            return
        for path in (self._path, *self._path.parent.glob(f".{self._path.name}.*.part")):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def _identity(
    net: Backbone | Committee, training: Batches, validation: Batches | None, options: TrainingOptions
) -> dict[str, str]:
    """What a run is determined by, in words or as digests."""
    callbacks = [type(callback).__name__ for callback in options.callbacks]
    return {
        **options.identity,
        "training data": _batches_digest(training),
        "validation data": "none" if validation is None else _batches_digest(validation),
        "first weights": _digest(net.state_dict().values()),
        "seed": str(options.seed),
        "device": resolve_device(options.accelerator).type,
        "callbacks": json.dumps(callbacks),
        "trainer_kwargs": json.dumps(dict(options.trainer_kwargs or {}), default=_kind, sort_keys=True),
        "version of tsssm": __version__,
    }


def _kind(value: Any) -> str:
    return type(value).__name__


def _batches_digest(batches: Batches) -> str:
    def tensors() -> Iterator[Tensor | None]:
        for piece in batches.data.pieces():
            yield from (piece.u, piece.dt, piece.offsets)
        yield from (batches.target, batches.weight, batches.fold)

    return _digest(tensors())


def _digest(tensors: Iterable[Tensor | None]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        if tensor is None:
            digest.update(b"none")
            continue
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:12]
