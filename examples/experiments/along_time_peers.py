"""A temporal convolutional network in plain PyTorch, trained for as long as a network along time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Array = npt.NDArray[Any]

CHANNELS, WIDTH, DILATIONS = 32, 5, (1, 2, 4, 8, 16)
CROP, BATCH, RATE = 256, 16, 4e-3
REACH = sum(DILATIONS) * (WIDTH - 1) // 2  # samples to each side


class Convolutions(nn.Module):
    """Residual convolutions, each twice as far apart as the last (Bai, Kolter, Koltun, arXiv 1803.01271).

    They look to both sides. Series (batch, d_in, L) become scores (batch, n_classes, L).
    """

    def __init__(self, d_in: int, n_classes: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(d_in, CHANNELS, 1)
        self.layers = nn.ModuleList(
            nn.Conv1d(CHANNELS, CHANNELS, WIDTH, padding="same", dilation=gap) for gap in DILATIONS
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(CHANNELS) for _ in DILATIONS)
        self.mixes = nn.ModuleList(nn.Conv1d(CHANNELS, CHANNELS, 1) for _ in DILATIONS)
        self.last = nn.Conv1d(CHANNELS, n_classes, 1)

    def forward(self, u: Tensor) -> Tensor:
        """Scores at every sample."""
        h = self.first(u)
        for norm, layer, mix in zip(self.norms, self.layers, self.mixes, strict=True):
            h = h + F.dropout(mix(F.gelu(layer(norm(h)))), 0.2, self.training)
        return self.last(h)


class ConvolutionsAlongTime:
    """The classes of beats, by `Convolutions`.

    Half of the crops of a step are drawn around beats of a class, each as often as the others; what they
    count is not corrected for that, so that rare classes are found.

    Parameters
    ----------
    classes : sequence of str
    weights : mapping
        What errors of a class cost; 1 where it has none.
    seed : int
    """

    def __init__(self, classes: Sequence[str], weights: Mapping[str, float], seed: int) -> None:
        self.classes, self.weights, self.seed = list(classes), weights, seed

    def fit(self, X: Sequence[Array], y: Sequence[Array], seconds: float) -> int:
        """Train on series (d_in, L) with labels (L,) for so many processor seconds; returns the steps."""
        torch.manual_seed(self.seed)
        rng = np.random.default_rng(self.seed)
        signals = np.concatenate(X, axis=1)
        self.mean, self.std = signals.mean(axis=1)[:, None], signals.std(axis=1)[:, None] + 1e-6
        labels = np.full(signals.shape[1], -1)
        for number, name in enumerate(self.classes):
            labels[np.concatenate(y) == name] = number
        signals = (signals - self.mean) / self.std
        places = [np.flatnonzero(labels == number) for number in range(len(self.classes))]
        places = [one for one in places if len(one)]
        self.net = Convolutions(len(signals), len(self.classes))
        optimizer = torch.optim.AdamW(self.net.parameters(), RATE, weight_decay=0.01)
        cost = torch.tensor([self.weights.get(name, 1.0) for name in self.classes])
        started, steps, done = time.process_time(), 0, 0.0
        self.net.train()
        while done < 1:
            first = rng.integers(signals.shape[1] - CROP, size=BATCH)
            for k in range(BATCH // 2):
                own = places[rng.integers(len(places))]
                first[k] = np.clip(
                    rng.choice(own) - rng.integers(REACH, CROP - REACH), 0, signals.shape[1] - CROP
                )
            rows = first[:, None] + np.arange(CROP)
            u = torch.from_numpy(np.ascontiguousarray(signals[:, rows].swapaxes(0, 1))).float()
            target = torch.from_numpy(labels[rows])
            loss = F.cross_entropy(self.net(u), target, weight=cost, ignore_index=-1)
            for group in optimizer.param_groups:
                group["lr"] = RATE * 0.5 * (1 + np.cos(np.pi * min(done, 1.0)))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
            optimizer.step()
            steps, done = steps + 1, (time.process_time() - started) / seconds
        return steps

    def predict_proba(self, X: Sequence[Array]) -> list[Array]:
        """Probabilities (L, n_classes) of each series."""
        found = []
        self.net.eval()
        with torch.inference_mode():
            for signals in X:
                u = torch.from_numpy((signals - self.mean) / self.std).float()[None]
                found.append(torch.softmax(self.net(u)[0], dim=0).numpy().T)
        return found
