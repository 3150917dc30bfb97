"""Training of what a network adds to forecasts in closed form: windows, held-out windows, the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tsssm.estimators._forecaster_covariates import Target
from tsssm.estimators._forecaster_time import FloatArray
from tsssm.forecasting import LARGEST_TARGET as LARGEST
from tsssm.forecasting import Correction, ForecastNetwork, Track, Tracks, View, calibrated
from tsssm.forecasting import answer_loss as loss_of
from tsssm.training import LabelledBatch, TrainingOptions, Windows, isolated_rng, train

IntArray = npt.NDArray[np.int64]

# Numbers in the forecasts of all windows; windows; times ahead in a step of training.
_MAX_NUMBERS, _MAX_WINDOWS, _MAX_HELD_OUT, _TIMES = 3_000_000, 20_000, 2_000, 64
_HELD_OUT = 0.2
_SPANS, _LEAST_TRUST = 10, 0.1
_FEWEST, _FEWEST_HELD_OUT = 16, 4
# Batches of an epoch, and windows of a step of validation.
_EPOCH, _VALIDATION = 50, 256


class Cut(NamedTuple):
    """Windows (N,) by the rows that they end at, and their forecasts (N, H) without and with variables."""

    rows: Tensor
    alone: Tensor
    beside: Tensor

    def of(self, chosen: Tensor) -> Cut:
        """Some of the windows."""
        return Cut(self.rows[chosen], self.alone[chosen], self.beside[chosen])


def boundaries(tracks: Sequence[Track], horizon: int) -> IntArray:
    """The first cell (n,) of each series that is held out: its last horizon, and a fifth of the rest."""
    lengths = np.array([len(track.y) for track in tracks])
    return lengths - horizon - (np.maximum(lengths - 2 * horizon, 0) * _HELD_OUT).astype(np.int64)


def early(track: Track, boundary: int) -> Track | None:
    """What of a series is learned from while the rest is held out; None if nothing is left."""
    if boundary < 2 or not np.isfinite(track.y[:boundary]).any():
        return None
    return track.until(boundary)


def windows(
    tracks: Sequence[Track], targets: Sequence[Target], bounds: IntArray, horizon: int, look_back: int
) -> tuple[Cut, Cut]:
    """Windows before the held-out part, and in it, with closed-form forecasts by the models of ``targets``.

    A window ends at a value and has one ahead.
    """
    offsets = np.concatenate([[0], np.cumsum([len(track.y) for track in tracks])])
    sets: list[list[IntArray]] = [[], []]
    for track, bound in zip(tracks, bounds, strict=True):
        known = np.isfinite(track.y)
        ahead = np.cumsum(known)
        least = max(1, min(look_back // 4, len(track.y) // 4))
        for kind, (start, stop) in enumerate(
            ((least, bound - horizon), (max(bound - 1, least), len(known) - horizon))
        ):
            own = np.arange(start, max(start, stop))
            own = own[known[own] & (ahead[own + horizon] > ahead[own])]
            sets[kind].append(own if bound >= 2 else own[:0])
    most = min(_MAX_WINDOWS, max(1, _MAX_NUMBERS // horizon))
    train_set, held_out = _thinned(sets[0], most), _thinned(sets[1], min(most, _MAX_HELD_OUT))
    found = []
    for origins in (train_set, held_out):
        alone, beside = _forecasts(tracks, targets, origins, horizon)
        rows = np.concatenate([own + start for own, start in zip(origins, offsets[:-1], strict=True)])
        found.append(Cut(torch.as_tensor(rows), torch.as_tensor(alone), torch.as_tensor(beside)))
    return found[0], found[1]


def _thinned(origins: Sequence[IntArray], most: int) -> list[IntArray]:
    """At most so many origins of all series, evenly spread over each."""
    total = sum(map(len, origins))
    if total <= most:
        return list(origins)
    stride = total / most
    return [own[np.unique((np.arange(0, len(own), stride)).astype(np.int64))] for own in origins]


def _forecasts(
    tracks: Sequence[Track], targets: Sequence[Target], origins: Sequence[IntArray], horizon: int
) -> tuple[FloatArray, FloatArray]:
    alone: list[FloatArray] = [np.zeros((0, horizon))] * len(tracks)
    beside = list(alone)
    for number, target in enumerate(targets):
        there = [i for i, t in enumerate(tracks) if t.target == number and len(origins[i])]
        own = [tracks[i] for i in there]
        asked, phases = [origins[i] for i in there], [track.phase for track in own]
        if not own:
            continue
        plain = target.alone.backtest([track.y for track in own], phases, asked)
        helped = plain
        if target.effect is not None:
            effects = [target.effect.of(track.X) for track in own]
            rest = [track.y - effect for track, effect in zip(own, effects, strict=True)]
            helped = [
                path[:, :horizon] + effect[o[:, None] + np.arange(1, horizon + 1)]
                for path, effect, o in zip(
                    target.beside.backtest(rest, phases, asked), effects, asked, strict=True
                )
            ]
        for i, one, other in zip(there, plain, helped, strict=True):
            alone[i], beside[i] = one[:, :horizon], other[:, :horizon]
    return np.concatenate(alone), np.concatenate(beside)


def trust(tracks: Sequence[Track], bounds: IntArray, horizon: int) -> float:
    """How far windows of the held-out part are to be trusted, in [0, 1].

    Windows that overlap have their surprises in common, and so have series of one time: ten horizons that
    follow each other in one series are enough, or one in a hundred series.
    """
    lengths = np.array([len(track.y) for track in tracks])
    spans = np.maximum(lengths - horizon - bounds, 0) / horizon
    series = np.bincount([track.target for track in tracks]).max()
    return float(min(1.0, spans.mean() * np.sqrt(series) / _SPANS))


class Cutter:
    """Turns numbers of windows into batches."""

    def __init__(self, tracks: Tracks, cut: Cut) -> None:
        self.tracks, self.cut = tracks, cut
        self.n_variables = tracks.X.shape[1]

    def __call__(
        self, chosen: Tensor, generator: torch.Generator | None, most: int = _TIMES
    ) -> LabelledBatch:
        """A batch; variables ahead are known in half of the windows, if they are known at all."""
        tracks, view = self.tracks, self.tracks.view
        rows, alone, beside = self.cut.of(chosen)
        steps = torch.arange(1, view.horizon + 1)
        if view.horizon > most:
            if generator is None:
                steps = torch.linspace(1, view.horizon, most).round().long()
            else:
                steps = torch.randperm(view.horizon, generator=generator)[:most].sort().values + 1
        told = chosen % 2 == 0
        if generator is not None:
            told = torch.rand(len(chosen), generator=generator) < 0.5
        seen = tracks.seen(rows)
        index = rows[:, None] + steps
        tau = (steps + tracks.shift[index] - tracks.shift[rows][:, None]).clamp(min=0.0)
        path = torch.where(told[:, None], beside, alone) if view.n_ahead else alone
        base = at_times(tracks.values[rows], path, tau)
        fixed, is_fixed = (part[:, None].expand(-1, len(steps), -1) for part in tracks.statics(rows))
        may_be = torch.arange(self.n_variables) < view.n_ahead
        known = tracks.X_known[index] & told[:, None, None] & may_be
        X = torch.where(known, tracks.X[index], fixed)
        near, ahead = tracks.ahead(rows, seen, tau, base, X, known | is_fixed)
        t = ((tracks.values[index] - base) / seen.scale[:, None]).clamp(-LARGEST, LARGEST)
        target = torch.stack([t.float(), tracks.known[index].float()], dim=-1)
        return LabelledBatch(seen.u, seen.dt, target, None, at=(near, ahead))

    def windows(self, batch_size: int, epoch: int, generator: torch.Generator | None = None) -> Windows:
        """These windows as batches of epochs of so many windows."""
        view = self.tracks.view
        parts = (self.cut.rows, self.cut.alone, self.tracks.values, self.tracks.X, self.tracks.time)
        return Windows(
            self,
            len(self.cut.rows),
            an_epoch=epoch,
            samples=view.look_back,
            batch_size=batch_size,
            parts=parts,
            generator=generator,
        )


def at_times(last: Tensor, path: Tensor, tau: Tensor) -> Tensor:
    """Forecasts (b, K) at times tau: straight lines through last values (b,) and a path (b, H)."""
    whole = torch.cat([last[:, None], path], dim=1)
    below = (tau + 1e-6).floor().clamp(0, path.shape[1] - 1).long()
    share = (tau - below).clamp(0.0, 1.0)
    return (1 - share) * whole.gather(1, below) + share * whole.gather(1, below + 1)


def window_loss(loss: str, levels: Sequence[float]) -> Callable[[Tensor, Tensor], Tensor]:
    """Mean loss (b,) of answers (b, K, q) over the times whose values are known; target (b, K, 2)."""

    def of(z: Tensor, target: Tensor) -> Tensor:
        known = target[..., 1]
        losses = loss_of(z, target[..., 0], loss, levels) * known
        return losses.sum(dim=1) / known.sum(dim=1).clamp(min=1.0)

    return of


def trained_correction(
    tracks: Sequence[Track],
    targets: Sequence[Target],
    bounds: IntArray,
    view: View,
    make: Callable[[View], ForecastNetwork],
    loss: str,
    levels: tuple[float, ...],
    options: Callable[[int], TrainingOptions],
) -> Correction | None:
    """Train a network on the windows before the bounds, and choose on those behind how much of it is used.

    None if there are too few windows. ``targets`` are fitted to what is before the bounds; ``options`` are
    asked for by the number of windows.
    """
    fitting, held_out = windows(tracks, targets, bounds, view.horizon, view.look_back)
    weight = trust(tracks, bounds, view.horizon)
    if weight < _LEAST_TRUST or len(fitting.rows) < _FEWEST or len(held_out.rows) < _FEWEST_HELD_OUT:
        return None
    data = Tracks(tracks, view)
    chosen = options(len(fitting.rows))
    with isolated_rng(chosen.seed):
        net = make(view).float()
    training, judged = Cutter(data, fitting), Cutter(data, held_out)
    size = chosen.batch_size
    shuffler = torch.Generator().manual_seed(chosen.seed)
    result = train(
        net,
        window_loss(loss, levels),
        training.windows(size, _EPOCH * size, shuffler),
        chosen,
        judged.windows(size, _VALIDATION),
    )
    answers, truth = [], []
    with torch.inference_mode():
        for part in torch.arange(len(held_out.rows)).split(_VALIDATION):
            batch = judged(part, None, most=view.horizon)
            answers.append(net(*batch.inputs))
            truth.append(batch.target)
    z, target = torch.cat(answers), torch.cat(truth)
    numbers = data.target[data.owner[held_out.rows]]
    known = target[..., 1] > 0
    found = calibrated(z, target[..., 0], known, numbers, loss, levels, len(view.level))
    scores = tuple(result.validation_scores or ())
    return Correction(net, view, loss, levels, weight, *found, tuple(result.loss_curve), scores)


def corrected(
    correction: Correction,
    tracks: Sequence[Track],
    base: Sequence[FloatArray],
    steps: Sequence[FloatArray],
    future: Sequence[FloatArray] | None,
) -> list[tuple[FloatArray, float, FloatArray]]:
    """For each series answers (k_i, q), the scale that they are in, and times (k_i,) after its last value."""
    view, found = correction.view, []
    last_target = len(view.level) - 1
    data = Tracks([t._replace(target=min(t.target, last_target)) for t in tracks], view)
    ends = data.last_known()
    most = max(map(len, steps))
    n_variables = data.X.shape[1]
    for part in torch.arange(len(tracks)).split(_VALIDATION):
        numbers = part.tolist()
        rows = ends[part]
        seen = data.seen(rows)
        # Steps count from the last cell, which may have no value.
        gone = data.time[data.offsets[1:][part] - 1] - seen.end
        after = torch.stack([_padded(steps[i], most) for i in numbers])
        tau = (after + gone[:, None]).clamp(min=0.0)
        paths = torch.stack([_padded(base[i], most) for i in numbers])
        fixed, is_fixed = (one[:, None].expand(-1, most, -1) for one in data.statics(rows))
        X, known = fixed, is_fixed
        if future is not None and n_variables:
            own = torch.stack([_padded(future[i], most) for i in numbers])
            # What is known of the past alone is not known ahead.
            own = torch.nn.functional.pad(own, (0, n_variables - own.shape[2]), value=torch.nan)
            there = own.isfinite()
            own = (own - torch.as_tensor(view.centre)) / torch.as_tensor(view.unit)
            X = torch.where(there, own.nan_to_num().clamp(-20.0, 20.0).float(), fixed)
            known = there | is_fixed
        near, ahead = data.ahead(rows, seen, tau, paths, X, known)
        with torch.inference_mode():
            z = correction.net(seen.u, seen.dt, (near, ahead)).double().numpy()
        for row, i in enumerate(numbers):
            count = len(steps[i])
            found.append((z[row, :count], float(seen.scale[row]), tau[row, :count].numpy()))
    return found


def _padded(values: FloatArray, length: int) -> Tensor:
    """The first axis made so long by repeating its last entry."""
    index = np.minimum(np.arange(length), len(values) - 1)
    return torch.as_tensor(np.asarray(values, dtype=np.float64)[index])
