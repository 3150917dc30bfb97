r"""Small dense networks on features of series, trained side by side, each without a fold of the series.

Symbols and shapes: K members, F features x of a series, h units, m outputs o, folds (n,)::

    o = x S + c + max(x W + b, 0) V     W (K, F, h), b (K, 1, h), V (K, h, m), S (K, F, m), c (K, 1, m)

Features that are dropped in training, one by one and all of a variable together, and units that are
(Srivastava et al., *Dropout*, JMLR 15 (2014)), prevent overfitting to a few thousand series; the
out-of-fold predictions of members show how good they are (Wolpert, *Stacked generalization*, Neural Networks
5 (1992)).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from tsssm.training._run import threads_for
from tsssm.training._schedule import warmed_cosine

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

# Chosen by cross-validation on training stays of PhysioNet 2012 (examples/experiments/physionet2012.py).
_UNITS = 64
_LEARNING_RATE, _DECAY = 2e-3, 1.0
_DROPPED_FEATURES, _DROPPED_VARIABLES, _DROPPED_UNITS = 0.3, 0.2, 0.5
# Series in a step, of so many steps an epoch unless these are too few or too many; and epochs.
_BATCHES, _LEAST, _MOST, _EPOCHS = 50, 16, 512, 20
_ROWS = 4096
# So much more does a feature of a network over time ask for.
_SIMPLER = 8


class DenseCommittee:
    """Several dense networks, whose outputs are averaged.

    Attributes
    ----------
    weights : dict of Tensor
        W, b, V, S and c, float32.
    unit : float
        What features are divided by.
    """

    def __init__(self, weights: dict[str, Tensor], unit: float) -> None:
        self.weights, self.unit = weights, unit

    @property
    def n_inputs(self) -> int:
        """Features that they read."""
        return self.weights["W"].shape[1]

    def predict(self, features: Floats) -> FloatArray:
        """Return the outputs (n, m) for features (n, F)."""
        outputs = np.empty((len(features), self.weights["c"].shape[2]))
        with torch.inference_mode():
            for start in range(0, len(features), _ROWS):
                rows = slice(start, start + _ROWS)
                outputs[rows] = self.each(features[rows]).mean(dim=0).numpy()
        return outputs

    def each(self, features: Floats) -> Tensor:
        """Outputs (K, n, m) of each member for features (n, F)."""
        x = torch.from_numpy(features / np.float32(self.unit))
        return _outputs(self.weights, x.expand(len(self.weights["W"]), -1, -1))


class DenseFit(NamedTuple):
    """A committee, and the outputs (n, m) for each series by the member that left it out, NaN without one."""

    committee: DenseCommittee
    left_out: FloatArray


def fit_dense(
    features: Floats,
    targets: FloatArray,
    weight: FloatArray,
    fold: IntArray | None,
    variable: IntArray,
    *,
    classes: bool,
    n_members: int,
    seed: int,
    max_steps: int | None = None,
) -> DenseFit:
    """Fit to targets (n, m) of n series.

    Parameters
    ----------
    features : array (n, F)
    targets : array (n, m)
        Signs of classes, whose outputs are half of the log odds, or numbers.
    weight : array (n,)
    fold : array (n,), optional
        Which member leaves a series out.
    variable : array (F,)
        Number of the variable that a feature is of, -1 where it is of none.
    classes : bool
    n_members, seed : int
    max_steps : int, optional
        Train for no more steps than this.
    """
    batch = int(np.clip(len(features) // _BATCHES, _LEAST, _MOST))
    with threads_for(n_members * batch * features.shape[1] // _SIMPLER):
        committee = _trained(
            features, targets, weight, fold, variable, classes, n_members, seed, batch, max_steps
        )
    return DenseFit(committee, _left_out(committee, features, fold, targets.shape[1]))


def _trained(
    features: Floats,
    targets: FloatArray,
    weight: FloatArray,
    fold: IntArray | None,
    variable: IntArray,
    classes: bool,
    n_members: int,
    seed: int,
    batch: int,
    max_steps: int | None,
) -> DenseCommittee:
    n, size = features.shape
    generator = torch.Generator().manual_seed(seed)
    length = float(np.sqrt(np.mean(np.einsum("nf,nf->n", features, features, dtype=np.float64))))
    # Features of a root mean square of F^-1/4: as many of them as there are weigh as much as the square root.
    unit = length / size**0.25 or 1.0
    x = torch.from_numpy(features / np.float32(unit))
    y, w = torch.from_numpy(targets).float(), torch.from_numpy(weight / weight.mean()).float()
    fold = np.full(n, -1) if fold is None else fold
    weights = _initial(n_members, size, targets, weight, fold, classes, generator)
    steps = max(1, _EPOCHS * n // batch)
    steps = steps if max_steps is None else min(steps, max_steps)
    decayed, plain = [weights[name] for name in "WVS"], [weights[name] for name in "bc"]
    groups = [{"params": decayed, "weight_decay": _DECAY}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=_LEARNING_RATE)
    factor = warmed_cosine(steps)
    noise = _Noise(torch.from_numpy(variable), generator)
    for step, rows in zip(range(steps), _rows(n_members, batch, fold, generator), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = _LEARNING_RATE * factor(step)
        o = _outputs(weights, noise.features(x[rows]), noise.units)
        losses = F.softplus(-2.0 * y[rows] * o) if classes else (o - y[rows]) ** 2
        # The members share nothing: the gradient of the sum is that of each.
        loss = (losses.mean(dim=2) * w[rows]).mean(dim=1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return DenseCommittee({name: tensor.detach() for name, tensor in weights.items()}, unit)


class _Noise:
    """What is dropped in training."""

    def __init__(self, variable: Tensor, generator: torch.Generator) -> None:
        self._variable, self._generator = variable, generator
        self._own = variable >= 0
        self._count = int(variable.max()) + 1 if len(variable) else 0

    def features(self, x: Tensor) -> Tensor:
        """Features (K, batch, F) without some of them, and without all of some variables."""
        x = x * self._kept(x.shape, _DROPPED_FEATURES) / (1 - _DROPPED_FEATURES)
        if self._count:
            kept = self._kept((*x.shape[:2], self._count), _DROPPED_VARIABLES)
            x = x * torch.where(self._own, kept[..., self._variable.clamp(min=0)], 1.0)
        return x

    def units(self, z: Tensor) -> Tensor:
        """Units (K, batch, h) without some of them."""
        return z * self._kept(z.shape, _DROPPED_UNITS) / (1 - _DROPPED_UNITS)

    def _kept(self, shape: Sequence[int], dropped: float) -> Tensor:
        return (torch.rand(*shape, generator=self._generator) >= dropped).float()


def _initial(
    K: int,
    size: int,
    targets: FloatArray,
    weight: FloatArray,
    fold: IntArray,
    classes: bool,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Random units, and intercepts that each member has from the series that it learns from."""
    seen = (fold != np.arange(K)[:, None]) * weight
    mean = seen @ targets / seen.sum(axis=1, keepdims=True)
    if classes:
        # With a series more of each class, so that the odds are finite where there is but one.
        share = ((mean + 1) / 2 * len(targets) + 0.5) / (len(targets) + 1)
        mean = np.log(share / (1 - share)) / 2
    m = targets.shape[1]
    weights = {
        # Of features of that length, units have the variance 2.
        "W": torch.randn(K, size, _UNITS, generator=generator) * (2.0**0.5 / size**0.25),
        "b": torch.zeros(K, 1, _UNITS),
        "V": torch.randn(K, _UNITS, m, generator=generator) * (0.5 / _UNITS**0.5),
        "S": torch.zeros(K, size, m),
        "c": torch.from_numpy(mean).float()[:, None].clone(),
    }
    return {name: tensor.requires_grad_() for name, tensor in weights.items()}


def _outputs(weights: dict[str, Tensor], x: Tensor, drop: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Outputs (K, batch, m) of features (K, batch, F); of the units in between some are dropped."""
    z = torch.relu(torch.baddbmm(weights["b"], x, weights["W"]))
    if drop is not None:
        z = drop(z)
    return torch.baddbmm(torch.baddbmm(weights["c"], z, weights["V"]), x, weights["S"])


def _rows(K: int, batch: int, fold: IntArray, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield for ever the rows (K, batch) of a step: each member in an order of its own, without its fold."""
    known = [torch.from_numpy(np.flatnonzero(fold != number)) for number in range(K)]
    count = min(map(len, known))
    while True:
        orders = [rows[torch.randperm(len(rows), generator=generator)[:count]] for rows in known]
        order = torch.stack(orders)
        for start in range(0, max(1, count - batch + 1), batch):
            yield order[:, start : start + batch]


def _left_out(committee: DenseCommittee, features: Floats, fold: IntArray | None, m: int) -> FloatArray:
    left_out = np.full((len(features), m), np.nan)
    if fold is not None:
        with torch.inference_mode():
            for number in np.unique(fold[fold >= 0]):
                rows = fold == number
                left_out[rows] = committee.each(features[rows])[number].numpy()
    return left_out
