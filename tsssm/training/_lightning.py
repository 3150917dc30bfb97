"""The training loop: one LightningModule and one quiet Trainer. The only importer of Lightning."""

from __future__ import annotations

import copy
import math
import signal
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from tsssm.backbone import Backbone
from tsssm.training._batches import Batches, BatchShares, LabelledBatch
from tsssm.training._checkpoint_files import damaged
from tsssm.training._checkpoints import RunCheckpoint
from tsssm.training._committee import Committee, clip_members, members_of, shares_of, zero_of
from tsssm.training._finite import LastGood, StepLosses
from tsssm.training._moments import check_moments
from tsssm.training._options import EpochObserver, Loss, TrainingOptions, TrainingResult
from tsssm.training._quiet import leave_signals_alone, quiet
from tsssm.training._resident import resident, transferred
from tsssm.training._signals import Termination, inside_a_tool, nothing
from tsssm.training._trainer import moments_of, schedule, trainer_arguments

_MAX_RECOVERIES = 3
_PROGRESS = "tsssm_progress"


class Learner(pl.LightningModule):
    """Loss, optimiser and schedule around a network; recovers from a loss that is not finite."""

    def __init__(
        self,
        net: Backbone | Committee,
        loss: Loss,
        options: TrainingOptions,
        total_steps: int,
        observer: EpochObserver | None,
        optimizer_state: dict[int, Any] | None,
    ) -> None:
        super().__init__()
        self.net = net
        self.loss = loss
        self.options = options
        self.total_steps = total_steps
        self.observer = observer
        self.optimizer_state = optimizer_state
        self.loss_curve: list[float] = []
        self.recoveries = 0
        self.shuffler: torch.Generator | None = None
        self._dropout: torch.Generator | None = None
        self._losses = StepLosses()
        self._good = LastGood([])
        self._restored: dict[str, Any] | None = None
        self.termination: Termination | None = None
        #: Whether training has begun with what was restored, and whether it has come to its end.
        self.started = self.complete = False

    def _mean_loss(self, batch: LabelledBatch) -> Tensor:
        """Of the series of a batch; in training the mean over the members, each without its own fold."""
        if not self.net.training:
            return self._loss_of(self.net, batch)
        losses = [self._loss_of(*s) for s in shares_of(self.net, batch, self.options.changed, self._dropout)]
        every = len(losses) == len(members_of(self.net))
        # Several processes wait for a gradient of every member.
        return torch.stack(losses).mean() + (0.0 if every else zero_of(self.net))

    def _loss_of(self, net: Backbone | Committee, batch: LabelledBatch) -> Tensor:
        losses = self.loss(net(*batch.inputs).float(), batch.target)
        return losses.mean() if batch.weight is None else (losses * batch.weight).mean()

    def on_fit_start(self) -> None:
        self._check_seeds()
        # Every process drops its own features of its own series.
        self._dropout = torch.Generator(self.device).manual_seed(self.options.seed + self.trainer.global_rank)
        self.net.set_dropout_generator(self._dropout)
        self._good = LastGood(list(self._state()))
        if self._restored is not None:
            self._restore(self._restored)
            self._restored = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[_PROGRESS] = self._progress()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._restored = checkpoint[_PROGRESS]  # there are no generators yet

    def _progress(self) -> dict[str, Any]:
        """What is to be restored besides what Lightning restores."""
        return {
            "loss_curve": self.loss_curve,
            "recoveries": self.recoveries,
            "last_good": self._good.kept,
            "generators": self._from_processes([generator.get_state() for generator in self._generators()]),
        }

    def _restore(self, progress: dict[str, Any]) -> None:
        self.loss_curve = progress["loss_curve"]
        self.recoveries = progress["recoveries"]
        self._good.take(progress["last_good"])
        states = progress["generators"][self.trainer.global_rank]
        for generator, state in zip(self._generators(), states, strict=True):
            generator.set_state(state.cpu())

    def _generators(self) -> list[torch.Generator]:
        return [generator for generator in (self._dropout, self.shuffler) if generator is not None]

    def on_train_start(self) -> None:
        optimizer = self.optimizers(use_pl_optimizer=False)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        check_moments(optimizer.state_dict()["state"], parameters)
        self.started = True

    def on_train_epoch_start(self) -> None:
        if self.observer is not None:
            self.observer.epoch_begins()

    def training_step(self, batch: LabelledBatch) -> Tensor:
        loss = self._mean_loss(batch)
        value = self._over_processes(loss.detach())
        if not self._waits():
            self._good.keep_if(value.isfinite())
            self._losses.later(value)
        elif math.isfinite(float(value)):
            self._good.keep()
            self._losses.finite.append(float(value))
        else:
            return self._recover()
        return loss

    def _waits(self) -> bool:
        """Whether each step looks at its loss. A device would stand idle: there the end of an epoch does."""
        return self.device.type == "cpu"

    def _settle(self) -> None:
        if not self._losses.settle():
            self._recover()

    def transfer_batch_to_device(
        self, batch: LabelledBatch, device: torch.device, dataloader_idx: int
    ) -> LabelledBatch:
        """Move a batch without waiting for it."""
        return transferred(batch, device)

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient of each member alone, whose share of the mean loss is one of their number."""
        if len(members_of(self.net)) == 1 or not gradient_clip_val or gradient_clip_algorithm == "value":
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        else:
            clip_members(self.net, gradient_clip_val)

    def on_train_batch_end(self, *args: Any) -> None:
        if self.termination is not None:
            self.termination.check()
        # Not by max_steps of the Trainer, which then resumes a checkpoint with a batch too many.
        if self.trainer.global_step >= self.total_steps:
            self.trainer.should_stop = True

    def _check_seeds(self) -> None:
        seeds = self._from_processes(self.options.seed)
        if len(set(seeds)) > 1:
            raise ValueError(
                f"The {len(seeds)} processes of this run have different seeds, and would shuffle "
                "differently: set random_state to the same integer in all of them."
            )

    def _from_processes(self, value: Any) -> list[Any]:
        """The values that the processes of the run have, by their number."""
        values = [value] * self.trainer.world_size
        if len(values) > 1:
            torch.distributed.all_gather_object(values, value)
        return values

    def _over_processes(self, value: Tensor) -> Tensor:
        """Mean over the processes of the run, so that all of them decide alike."""
        if self.trainer.world_size == 1:
            return value
        return self.trainer.strategy.reduce(value, reduce_op="mean")

    def _share_statistics(self) -> None:
        """Give all processes, in place, the statistics of the first; each has those of its own series."""
        if self.trainer.world_size > 1:
            for buffer in self.net.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def on_validation_start(self) -> None:
        self._settle()
        self._share_statistics()

    def on_train_end(self) -> None:
        self._share_statistics()

    def _recover(self) -> Tensor:
        """Put the last weights with a finite loss back, forget the moments, halve the learning rates."""
        self.recoveries += 1
        if self.recoveries > _MAX_RECOVERIES:
            raise FloatingPointError(
                f"The training loss became NaN or infinite {self.recoveries} times, although the last good "
                "weights were restored and the learning rate halved each time. Try a smaller learning_rate "
                "and ssm_learning_rate, precision='32-true', or look for extreme values in the data."
            )
        self._good.restore(self._state())
        optimizer = self.optimizers(use_pl_optimizer=False)
        scheduler = self.lr_schedulers()
        optimizer.state.clear()
        scheduler.base_lrs = [rate / 2 for rate in scheduler.base_lrs]
        for group in optimizer.param_groups:
            group["lr"] /= 2
        return zero_of(self.net)  # so that this step does not move the restored weights

    def _state(self) -> Iterator[Tensor]:
        yield from self.net.parameters()
        yield from self.net.buffers()

    def finish(self) -> None:
        """Settle on the weights to keep; no later loss tells whether the last step was a good one."""
        if not all(bool(tensor.isfinite().all()) for tensor in self._state()):
            self._good.restore(self._state())

    def on_train_epoch_end(self) -> None:
        self._settle()
        # Without a finite loss in the whole epoch there is none to report.
        mean = self._losses.mean()
        self.loss_curve.append(mean)
        self.log("train_loss", mean, prog_bar=True, sync_dist=self.trainer.world_size > 1)
        if self.observer is not None and self.observer.epoch_ends():
            self.trainer.should_stop = True

    def configure_optimizers(self) -> dict[str, Any]:
        options = self.options
        groups = self.net.parameter_groups(
            options.learning_rate, options.ssm_learning_rate, options.weight_decay
        )
        # The fused step is six times faster on small networks, but does not go with clipping under AMP.
        optimizer = torch.optim.AdamW(groups, fused="mixed" not in str(options.precision))
        if self.optimizer_state is not None:
            state = copy.deepcopy(self.optimizer_state)  # whose tensors the optimiser would change
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule(options, self.total_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class ValidatedLearner(Learner):
    """A learner that stops when its validation loss no longer falls, and keeps the best weights."""

    _validated = ("scores", "_best", "_best_epoch", "validated_step")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.scores: list[float] = []
        self._validation: list[tuple[Tensor, int]] = []
        self._best: dict[str, Tensor] = {}
        self._best_epoch = -1
        self.validated_step = -1

    def validation_step(self, batch: LabelledBatch) -> None:
        self._validation.append((self._mean_loss(batch), len(batch.target)))

    def on_validation_epoch_end(self) -> None:
        values = torch.stack([value for value, _ in self._validation]).tolist()
        loss = sum(value * size for value, (_, size) in zip(values, self._validation, strict=True))
        loss /= sum(size for _, size in self._validation)
        self._validation = []
        self.log("val_loss", loss, prog_bar=True, sync_dist=self.trainer.world_size > 1)
        best = self.best_score
        self.scores.append(-loss)
        self.validated_step = self.trainer.global_step
        if math.isfinite(loss) and (best is None or -loss > best):
            self._best_epoch = len(self.scores) - 1
            self._best = copy.deepcopy(self.net.state_dict())
        elif len(self.scores) - 1 - self._best_epoch >= self.options.patience:
            self.trainer.should_stop = True

    def _progress(self) -> dict[str, Any]:
        validated = {name: getattr(self, name) for name in self._validated}
        return {**super()._progress(), **validated}

    def _restore(self, progress: dict[str, Any]) -> None:
        super()._restore(progress)
        for name in self._validated:
            setattr(self, name, progress[name])

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
    net: Backbone | Committee,
    loss: Loss,
    training: Batches,
    options: TrainingOptions,
    validation: Batches | None,
    observer: EpochObserver | None = None,
    optimizer_state: dict[int, Any] | None = None,
) -> TrainingResult:
    """Do what `tsssm.training.train` documents."""
    net.train()
    total_steps = options.total_steps(len(training))
    kind = Learner if validation is None else ValidatedLearner
    learner = kind(net, loss, options, total_steps, observer, optimizer_state)
    learner.shuffler = training.generator
    checkpoint = None
    if options.checkpoint_dir is not None or options.resume_from is not None:
        checkpoint = RunCheckpoint(net, training, validation, options)
    interrupted = False
    sigint = signal.getsignal(signal.SIGINT)
    with quiet(options.verbose):
        trainer = pl.Trainer(**trainer_arguments(options, total_steps, len(training), checkpoint))
        leave_signals_alone(trainer)
        device = trainer.strategy.root_device
        on_device = resident(training, device)
        validation = None if validation is None else resident(validation, device)
        batches: Batches | BatchShares = on_device
        if trainer.world_size > 1:
            batches = BatchShares(on_device, lambda: (trainer.global_rank, trainer.world_size))
        try:
            if checkpoint is not None:
                checkpoint.attach(trainer)
            save = nothing if checkpoint is None else checkpoint.write_latest
            with Termination(save) as learner.termination:
                _fit(trainer, learner, batches, validation, checkpoint)
        except (KeyboardInterrupt, SystemExit) as error:
            # Lightning turns Ctrl-C into sys.exit and leaves SIGINT ignored.
            if not any(isinstance(cause, KeyboardInterrupt) for cause in (error, error.__context__)):
                raise
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, sigint)
            # A tool that fits again and again would go on with the next fit, and score this one.
            if inside_a_tool():
                raise KeyboardInterrupt from None
            interrupted = True
        finally:
            if checkpoint is not None:
                if not learner.complete:
                    checkpoint.write_latest()
                elif trainer.is_global_zero:
                    checkpoint.remove()
                checkpoint.release()
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
        optimizer_state=moments_of(trainer) if options.incremental else None,
    )


def _fit(
    trainer: pl.Trainer,
    learner: Learner,
    batches: Batches | BatchShares,
    validation: Batches | None,
    checkpoint: RunCheckpoint | None,
) -> None:
    """Train, and validate once more where training ended inside an epoch."""
    start = None if checkpoint is None else checkpoint.start
    try:
        trainer.fit(learner, batches, validation, ckpt_path=start)
    except Exception as error:
        # What is in a file has to fit; only then does training begin.
        if start is None or learner.started:
            raise
        raise damaged(start, f"{type(error).__name__}: {error}") from error
    if isinstance(learner, ValidatedLearner) and learner.validated_step < trainer.global_step:
        trainer.validate(learner, validation, verbose=False)
    learner.complete = True
