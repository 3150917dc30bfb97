"""Checkpoints of an unfinished run: when they are written, which one is continued, and which refused."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from tsssm._locking import FileLock
from tsssm._version import __version__
from tsssm.backbone import Backbone
from tsssm.training._batches import Batches
from tsssm.training._checkpoint_files import damaged, read_checkpoint, write_checkpoint
from tsssm.training._committee import Committee
from tsssm.training._devices import resolve_device
from tsssm.training._options import TrainingOptions

# Keeping the state may take this share of the time: after each file, and after each copy in memory, training
# goes on for so many times as long.
_PAUSE, _PAUSE_OF_COPIES = 50, 20
# Where the trainer is told to save what is kept in memory.
_KEPT = "tsssm-kept-in-memory"
_IDENTITY = "tsssm_run"


class _RunFiles(CheckpointIO):
    """How a trainer reads the checkpoint it starts from, and what it does with one that is to be kept.

    Everything else, such as the checkpoints of the user's callbacks, is left to what was there before.
    """

    def __init__(
        self, others: CheckpointIO, keep: Callable[[dict[str, Any]], None], start: Path | None
    ) -> None:
        self._others = others
        self._keep = keep
        self._start = start
        self.content = {} if start is None else read_checkpoint(start)

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if path == _KEPT:
            self._keep(checkpoint)
        else:
            self._others.save_checkpoint(checkpoint, path, storage_options)

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        if self._start is not None and Path(path) == self._start:
            return self.content
        return self._others.load_checkpoint(path, *args, **kwargs)

    def remove_checkpoint(self, path: Any) -> None:
        self._others.remove_checkpoint(path)


class RunCheckpoint(Checkpoint):
    """Writes the state of a run at the ends of epochs, and finds the state that an earlier one left.

    The file is named after the identity of the run: its parameters, its data and its first weights. In one
    directory every fit of a cross-validation thus finds its own file and no other. An epoch that ends
    training is not written, so that there is always something to continue. The state after the latest epoch
    is also kept in memory, so that it can be written when the program is told to end.

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
        self._lock: FileLock | None = None
        self._next_file = self._next_copy = 0.0
        self._latest: dict[str, Any] | None = None
        self._warned = False
        self.start: Path | None = None
        if options.checkpoint_dir is not None:
            digest = hashlib.sha256(json.dumps(self._identity, sort_keys=True).encode()).hexdigest()
            self._path = Path(options.checkpoint_dir).absolute() / f"fit-{digest[:20]}.ckpt"
            self._path.parent.mkdir(parents=True, exist_ok=True)
        if options.resume_from is not None:
            self.start = Path(options.resume_from)

    def attach(self, trainer: pl.Trainer) -> None:
        """Find the state to start from, and let the trainer write and read this run's files as they are.

        Warns
        -----
        UserWarning
            If the very same fit is running elsewhere: this one then starts afresh, and keeps no state.
        """
        path = self._path
        # Several processes of one run share its file; which of them writes, they know.
        if path is not None and trainer.world_size == 1:
            self._lock = FileLock(path.with_name(f".{path.name}.lock"))
            if not self._lock.held:
                warnings.warn(
                    f"The same fit is running in another process, which writes {path}: this fit starts from "
                    "the beginning and writes no checkpoint.",
                    UserWarning,
                    stacklevel=2,
                )
                path = self._path = None
            elif self._lock.exclusive:
                self._remove_parts()
        if self.start is None and path is not None and path.exists():
            self.start = path
        files = _RunFiles(trainer.strategy.checkpoint_io, self._keep, self.start)
        if self.start is not None:
            self._check(self.start, files.content)
        trainer.strategy.checkpoint_io = files

    def _check(self, path: Path, content: dict[str, Any]) -> None:
        """Raise unless this is the content of a checkpoint of this very run."""
        found = content.get(_IDENTITY)
        if type(found) is not dict:
            raise damaged(path, "it names no fit")
        differences = [
            f"{name} ({found.get(name, 'none')} then, {self._identity.get(name, 'none')} now)"
            for name in sorted({*found, *self._identity})
            if found.get(name) != self._identity.get(name)
        ]
        if differences:
            raise ValueError(
                f"The checkpoint {path} is of another fit, which differs in {', '.join(differences)}. Resume "
                "with the parameters and data of that fit, or fit without this checkpoint."
            )

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict) -> None:
        """Write down whose state it is."""
        checkpoint[_IDENTITY] = self._identity

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Keep the state, unless training ends here or the last one has hardly been kept."""
        if self._path is None or trainer.should_stop:
            return
        started = time.monotonic()
        # All processes of a run keep it together, or none does.
        due = trainer.strategy.broadcast((started >= self._next_file, started >= self._next_copy))
        if not any(due):
            return
        trainer.save_checkpoint(_KEPT)
        copied = time.monotonic()
        self._next_copy = copied + _PAUSE_OF_COPIES * (copied - started)
        if due[0]:
            self.write_latest()
            ended = time.monotonic()
            self._next_file = ended + _PAUSE * (ended - started)

    def _keep(self, checkpoint: dict[str, Any]) -> None:
        # What a trainer hands over goes on changing.
        self._latest = copy.deepcopy(checkpoint)

    def write_latest(self) -> None:
        """Write the state after the latest epoch that was kept, if it is not in the file already.

        Warns
        -----
        UserWarning
            The first time that it cannot be written, such as on a full disk; training goes on.
        """
        latest = self._latest
        if latest is None or self._path is None:
            return
        try:
            write_checkpoint(self._path, latest)
            # Not before: a signal that comes meanwhile writes it, and then the program ends.
            if self._latest is latest:
                self._latest = None
        except OSError as error:
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"The state of the fit could not be written to {self._path} ({error}); training goes on. "
                    "An older checkpoint there is kept.",
                    UserWarning,
                    stacklevel=2,
                )

    def remove(self) -> None:
        """Remove the file of a run that has reached its end."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def release(self) -> None:
        """Let other fits have the file."""
        if self._lock is not None:
            self._lock.release()

    def _remove_parts(self) -> None:
        """Remove what fits left that were killed while they wrote; with the lock nobody else writes."""
        assert self._path is not None
        for part in self._path.parent.glob(f".{self._path.name}.*.part"):
            with contextlib.suppress(OSError):
                part.unlink()


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
    return _digest(batches.tensors())


def _digest(tensors: Iterable[Tensor | None]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        if tensor is None:
            digest.update(b"none")
            continue
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:12]
