"""The training loop: one LightningModule and one quiet Trainer. The only importer of Lightning."""

from __future__ import annotations

import copy
import logging
import math
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from tsssm.backbone import Backbone
from tsssm.training._batches import Batches, LabelledBatch
from tsssm.training._options import TrainingOptions, TrainingResult
from tsssm.training._run import Loss, resolve_device

_WARMUP_SHARE = 0.1
_GRADIENT_NORM = 1.0
_MAX_RECOVERIES = 3


class Learner(pl.LightningModule):
    """Loss, optimiser and schedule around a network; recovers from a loss that is not finite."""

    def __init__(self, net: Backbone, loss: Loss, options: TrainingOptions, total_steps: int) -> None:
        super().__init__()
        self.net = net
        self.loss = loss
        self.options = options
        self.total_steps = total_steps
        self.loss_curve: list[float] = []
        self.recoveries = 0
        self._losses: list[float] = []
        self._last_good: list[Tensor] = []

    def _mean_loss(self, batch: LabelledBatch) -> Tensor:
        losses = self.loss(self.net(batch.u, batch.dt).float(), batch.target)
        return losses.mean() if batch.weight is None else (losses * batch.weight).mean()

    def on_fit_start(self) -> None:
        generator = torch.Generator(self.device).manual_seed(self.options.seed)
        self.net.set_dropout_generator(generator)
        self._last_good = [tensor.detach().clone() for tensor in self._state()]

    def training_step(self, batch: LabelledBatch) -> Tensor:
        loss = self._mean_loss(batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            return self._recover()
        for copied, tensor in zip(self._last_good, self._state(), strict=True):
            copied.copy_(tensor.detach())
        self._losses.append(value)
        return loss

    def _state(self) -> Iterator[Tensor]:
        yield from self.net.parameters()
        yield from self.net.buffers()

    def _recover(self) -> Tensor:
        """Put the last weights with a finite loss back, forget the moments, halve the learning rates."""
        self.recoveries += 1
        if self.recoveries > _MAX_RECOVERIES:
            raise FloatingPointError(
                f"The training loss became NaN or infinite {self.recoveries} times, although the last good "
                "weights were restored and the learning rate halved each time. Try a smaller learning_rate "
                "and ssm_learning_rate, precision='32-true', or look for extreme values in the data."
            )
        self._restore_last_good()
        optimizer = self.optimizers(use_pl_optimizer=False)
        scheduler = self.lr_schedulers()
        optimizer.state.clear()
        scheduler.base_lrs = [rate / 2 for rate in scheduler.base_lrs]
        for group in optimizer.param_groups:
            group["lr"] /= 2
        # A loss that is zero everywhere, so that this step does not move the restored weights.
        return sum((parameter.sum() * 0.0 for parameter in self.net.parameters()), torch.zeros(()))

    @torch.no_grad()
    def _restore_last_good(self) -> None:
        for copied, tensor in zip(self._last_good, self._state(), strict=True):
            tensor.copy_(copied)

    def finish(self) -> None:
        """Settle on the weights to keep; no later loss tells whether the last step was a good one."""
        if not all(bool(tensor.isfinite().all()) for tensor in self._state()):
            self._restore_last_good()

    def on_train_epoch_end(self) -> None:
        # Without a finite loss in the whole epoch there is none to report.
        mean = math.fsum(self._losses) / len(self._losses) if self._losses else math.nan
        self.loss_curve.append(mean)
        self._losses = []
        self.log("train_loss", mean, prog_bar=True)

    def configure_optimizers(self) -> dict[str, Any]:
        options = self.options
        groups = self.net.parameter_groups(
            options.learning_rate, options.ssm_learning_rate, options.weight_decay
        )
        # The fused step is six times faster on small networks, but does not go with clipping under AMP.
        optimizer = torch.optim.AdamW(groups, fused="mixed" not in str(options.precision))
        warmup = max(1, round(_WARMUP_SHARE * self.total_steps))

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, self.total_steps - warmup)))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class ValidatedLearner(Learner):
    """A learner that stops when its validation loss no longer falls, and keeps the best weights."""

    def __init__(self, net: Backbone, loss: Loss, options: TrainingOptions, total_steps: int) -> None:
        super().__init__(net, loss, options, total_steps)
        self.scores: list[float] = []
        self._validation: list[tuple[float, int]] = []
        self._best: dict[str, Tensor] = {}
        self._best_epoch = -1
        self.validated_step = -1

    def validation_step(self, batch: LabelledBatch) -> None:
        self._validation.append((float(self._mean_loss(batch)), len(batch.target)))

    def on_validation_epoch_end(self) -> None:
        loss = sum(value * size for value, size in self._validation)
        loss /= sum(size for _, size in self._validation)
        self._validation = []
        self.log("val_loss", loss, prog_bar=True)
        best = self.best_score
        self.scores.append(-loss)
        self.validated_step = self.trainer.global_step
        if math.isfinite(loss) and (best is None or -loss > best):
            self._best_epoch = len(self.scores) - 1
            self._best = copy.deepcopy(self.net.state_dict())
        elif len(self.scores) - 1 - self._best_epoch >= self.options.patience:
            self.trainer.should_stop = True

    @property
    def best_score(self) -> float | None:
        """The largest finite score so far."""
        return self.scores[self._best_epoch] if self._best else None

    def finish(self) -> None:
        """Load the weights of the largest score, if there was a validation."""
        if self._best:
            self.net.load_state_dict(self._best)
        super().finish()


def run(
    net: Backbone,
    loss: Loss,
    training: Batches,
    options: TrainingOptions,
    validation: Batches | None,
) -> TrainingResult:
    """Do what `tsssm.training.train` documents."""
    net.train()
    total_steps = options.total_steps(len(training))
    learner = (Learner if validation is None else ValidatedLearner)(net, loss, options, total_steps)
    interrupted = False
    sigint = signal.getsignal(signal.SIGINT)
    with _quiet(options.verbose):
        trainer = pl.Trainer(**_trainer_arguments(options, total_steps, len(training)))
        try:
            trainer.fit(learner, training, validation)
            if isinstance(learner, ValidatedLearner) and learner.validated_step < trainer.global_step:
                # Training ended inside an epoch, before its validation.
                trainer.validate(learner, validation, verbose=False)
        except (KeyboardInterrupt, SystemExit) as error:
            # Lightning turns Ctrl-C into sys.exit and leaves SIGINT ignored; keep what was learned so far.
            if not any(isinstance(cause, KeyboardInterrupt) for cause in (error, error.__context__)):
                raise
            interrupted = True
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, sigint)
    scores, best_score = None, None
    learner.finish()
    if isinstance(learner, ValidatedLearner):
        scores, best_score = learner.scores, learner.best_score
    net.set_dropout_generator(None)
    net.zero_grad(set_to_none=True)
    net.cpu().eval()
    if interrupted:
        warnings.warn(
            f"Training was interrupted in epoch {len(learner.loss_curve) + 1}; the estimator keeps the "
            f"weights of {'the best epoch so far' if best_score is not None else 'that moment'}.",
            UserWarning,
            stacklevel=2,
        )
    return TrainingResult(
        loss_curve=learner.loss_curve,
        validation_scores=scores,
        best_validation_score=best_score,
        n_iter=max(1, len(learner.loss_curve) + bool(learner._losses)),
        interrupted=interrupted,
    )


def _trainer_arguments(options: TrainingOptions, total_steps: int, steps_per_epoch: int) -> dict[str, Any]:
    for callback in options.callbacks:
        if not isinstance(callback, pl.Callback):
            raise TypeError(f"callbacks must be lightning.pytorch.Callback objects; got {callback!r}.")
    arguments = {
        "accelerator": resolve_device(options.accelerator).type,
        "devices": options.devices,
        "precision": options.precision,
        "max_epochs": -(-total_steps // steps_per_epoch),
        "max_steps": total_steps,
        # Stateful callbacks such as EarlyStopping must not carry over to the next fit.
        "callbacks": copy.deepcopy(list(options.callbacks)),
        "gradient_clip_val": _GRADIENT_NORM,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": options.verbose > 0,
        "enable_model_summary": options.verbose > 1,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
    }
    return {**arguments, **(options.trainer_kwargs or {})}


class _Shared:
    """A context for concurrent runs: the first one opens it and the last one closes it."""

    def __init__(self, context: Callable[[], AbstractContextManager[None]]) -> None:
        self._context = context
        self._stack = ExitStack()
        self._runs = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            if self._runs == 0:
                self._stack.enter_context(self._context())
            self._runs += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._runs -= 1
            if self._runs == 0:
                self._stack.close()


@contextmanager
def _hidden_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        # Lightning 2.6 calls a name that torch 2.13 has deprecated.
        warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)", FutureWarning)
        yield


@contextmanager
def _silent_log() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


# Warning filters and log levels belong to the process: runs in several threads must not restore one
# another's.
_without_warnings = _Shared(_hidden_warnings)
_without_log = _Shared(_silent_log)


@contextmanager
def _quiet(verbose: int) -> Iterator[None]:
    """Hide what is between Lightning and torch, and with ``verbose`` below 2 Lightning's log lines."""
    with _without_warnings, _without_log if verbose < 2 else nullcontext():
        yield
