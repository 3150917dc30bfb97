"""Pooled readouts of fixed state-space systems as features of series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tsssm.encoding import PanelEncoder
from tsssm.features._systems import draw_systems, timescales
from tsssm.features._timeline import Sampled, Timeline, joined
from tsssm.ops import pooled_scan, readout_scan
from tsssm.ops.operands import has_kernels
from tsssm.panel import Panel

#: What is kept of a readout, by the pooling that keeps it.
KINDS = {"ppv": ("low", "high"), "competition": ("max", "min")}
POOLINGS = tuple(KINDS)

_CPU = torch.device("cpu")
_BLOCK = 8
# Readouts of a system: many from few systems cost less than few from many, but with several channels there
# are more mixtures of them to see.
_READOUTS, _READOUTS_OF_SEVERAL_CHANNELS = 64, 32
_REFERENCES = 16
_REFERENCE_SAMPLES = 2**16
_REFERENCE_READOUTS = 2**22
_LEVELS = (0.05, 0.95)


class StateSpaceFeatures:
    r"""Random features of time series: an LSSL with fixed systems, its outputs pooled over time.

    Each of some groups mixes the channels and their slopes into one input of a state-space system, whose
    timescale is one of ``n_scales`` from a few gaps between samples to the duration of a series, and has many
    random readouts. Where samples are irregular by more than some jitter, there are no slopes. Kept of each
    readout are

    - "ppv": the share of time that it spends above either of two thresholds, which are quantiles of its
      values on a training series;
    - "competition": how often and how strongly it is the largest of eight, and how often it is the smallest;
      the feature is the square root.

    Nothing is learned but thresholds and scales, without labels. Averages are over time, not over samples:
    the systems are also evaluated between them, where values are as smooth as those of the training panel.

    Parameters
    ----------
    n_features : int
        Number of features, rounded down to a multiple of what a block of eight readouts gives in every group.
    basis : {"diagonal", "legt", "legs"}
        Systems: diagonal with random frequencies, or HiPPO's for Legendre polynomials over a window or over
        the whole past.
    n_scales : int
        Number of timescales.
    pooling : sequence of {"ppv", "competition"}
        What is kept.
    normalize : {"auto", "series", "global"} or None
        "series" removes mean and scale of every channel of every series, "global" those of the training
        panel. "auto" is "global", but with one channel the slopes of every series have a scale of their own.
    seed : int

    Attributes
    ----------
    n_features_out : int
        Number of features.
    n_groups, n_readouts : int
        Systems, and readouts of each.
    timeline : Timeline
        What turns series into functions of time.

    Raises
    ------
    ValueError
        If ``n_features`` is too small for one block in every scale.

    References
    ----------
    LSSL: arXiv 2110.13985. ROCKET, which takes convolutions: arXiv 1910.13051; MiniRocket: arXiv 2012.08791;
    Hydra: arXiv 2203.13652.
    """

    def __init__(
        self,
        n_features: int,
        basis: str,
        n_scales: int,
        pooling: Sequence[str],
        normalize: str | None,
        seed: int,
    ) -> None:
        self.n_features, self.basis, self.n_scales = n_features, basis, n_scales
        self.pooling, self.normalize, self.seed = tuple(pooling), normalize, seed
        self.kinds = 2 * len(set(self.pooling))
        least = n_scales * _BLOCK * self.kinds
        if n_features < least:
            raise ValueError(
                f"n_features must be at least {least} for n_scales={n_scales} and pooling={self.pooling!r}: "
                f"one block of {_BLOCK} readouts for each scale; got {n_features}."
            )

    def fit(self, panel: Panel, scale: str = "auto") -> StateSpaceFeatures:
        """Draw the systems and learn scales and thresholds from a training panel; returns self.

        ``scale`` is that of `PanelEncoder`.
        """
        rng = np.random.default_rng(self.seed)
        several = panel.n_channels > 1
        self.timeline = Timeline(*self.normalizations(panel.n_channels)).fit(panel, scale)
        wanted = _READOUTS_OF_SEVERAL_CHANNELS if several else _READOUTS
        self.n_groups = self.n_scales * max(1, round(self.n_features / (self.kinds * wanted * self.n_scales)))
        self.n_readouts = self.n_features // (self.kinds * self.n_groups * _BLOCK) * _BLOCK
        self.n_features_out = self.n_groups * self.n_readouts * self.kinds
        shape = (self.n_groups, self.n_readouts, self.n_scales)
        systems = draw_systems(
            self.basis, *shape, self.timeline.resolution, self.timeline.duration, panel.n_channels, rng
        )
        A, B, C = map(torch.as_tensor, (systems.A, systems.B, systems.C))
        mix, D = (torch.as_tensor(part, dtype=torch.float32) for part in (systems.mix, systems.D))
        self._systems = {"A": A, "B": B, "mix_u": mix[:, 0], "mix_held": mix[:, 1]}
        levels = rng.uniform(*_LEVELS, size=(self.n_groups, 2, self.n_readouts))
        spread, thresholds = self._reference_values(panel, C, D, np.sort(levels, axis=1), rng)
        # Competitors are compared in units of their spread, in which the thresholds are then given, too.
        self._readouts = {"C": C / spread[..., None], "D": D / spread}
        self._thresholds = thresholds / spread[:, None]
        return self

    @property
    def encoder(self) -> PanelEncoder:
        """What is known of the training panel."""
        return self.timeline.encoder

    def normalizations(self, n_channels: int) -> tuple[str | None, str]:
        """What the timeline removes from values and from slopes, see `Timeline`."""
        values = "global" if self.normalize == "auto" else self.normalize
        own = values == "series" or (self.normalize == "auto" and n_channels == 1)
        return values, "series" if own else "global"

    def _reference_values(
        self, panel: Panel, C: Tensor, D: Tensor, levels: npt.NDArray[np.float64], rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Spread (G, R) of the readouts on training series, and quantiles (G, 2, R) on one series each."""
        chosen = rng.permutation(len(panel))[:_REFERENCES]
        # However long the series are, so many samples tell the quantiles.
        enough = 1 + int(np.searchsorted(np.cumsum(panel.lengths[chosen]), _REFERENCE_SAMPLES))
        few = panel[chosen[:enough]]
        sampled = joined([self.timeline.sample(few[part]) for part in self.timeline.parts(few)])
        bounds = list(zip(sampled.offsets[:-1], sampled.offsets[1:], strict=True))
        spread, thresholds = np.empty(D.shape, np.float32), np.empty(levels.shape, np.float32)
        at_once = max(1, _REFERENCE_READOUTS // (D.shape[1] * int(sampled.offsets[-1])))
        systems = {**self._systems, "C": C, "D": D}
        for start in range(0, self.n_groups, at_once):
            some = slice(start, start + at_once)
            chosen_systems = {name: part[some] for name, part in systems.items()}
            y = readout_scan(**_signals(sampled), **chosen_systems).numpy()
            std = y.std(axis=2)
            spread[some] = np.where(std > 1e-6, std, 1.0)
            for i, (first, last) in enumerate(bounds):
                rows = slice(i, None, len(bounds))
                ordered = np.sort(y[:, rows, first:last], axis=2)
                thresholds[some, :, rows] = _quantiles(ordered, levels[some, :, rows])
        return torch.from_numpy(spread), torch.from_numpy(thresholds)

    def transform(
        self, panel: Panel, n_threads: int = 1, device: torch.device = _CPU
    ) -> npt.NDArray[np.float32]:
        """Return the features (n, n_features_out) of the series of a panel, float32.

        They do not depend on the number of threads or on the other series, and on the device by rounding
        alone. For a device without compiled kernels the CPU computes, which is faster.
        """
        if not has_kernels(device):
            device = _CPU
        fixed = {**self._systems, **self._readouts, "thresholds": self._thresholds}
        systems: dict[str, Any] = {name: part.to(device) for name, part in fixed.items()}
        features = np.empty((len(panel), self.n_features_out), np.float32)
        for part in self.timeline.parts(panel):
            sampled = self.timeline.sample(panel[part])
            pooled = pooled_scan(
                **_signals(sampled, device),
                weight=torch.from_numpy(sampled.weight).to(device),
                **systems,
                shares="ppv" in self.pooling,
                competition="competition" in self.pooling,
                n_threads=n_threads,
            )
            kept = finished(pooled.cpu().numpy(), "competition" in self.pooling)
            features[part] = kept.reshape(len(kept), -1)
        return features

    def timescales(self) -> npt.NDArray[np.float64]:
        """Return the timescale (G,) of each system, in the unit of the training panel's times, or samples."""
        timeline = self.timeline
        scale = timescales(self.n_groups, self.n_scales, timeline.resolution, timeline.duration)
        return scale * timeline.unit

    def shares(self) -> npt.NDArray[np.float64]:
        """Return the share (G, d) of each channel, with its slope, in the input of each system.

        The mixtures are of unit length: shares are squares, and those of a system sum to 1.
        """
        mixtures = (self._systems[name].double().numpy() ** 2 for name in ("mix_u", "mix_held"))
        squares = sum(mixtures, np.zeros((self.n_groups, self.encoder.n_channels)))
        return squares / squares.sum(axis=1, keepdims=True)

    def kinds_kept(self) -> list[str]:
        """Return what is kept of each readout, in the order of the features of a group."""
        return [kind for pooling in POOLINGS if pooling in self.pooling for kind in KINDS[pooling]]

    def names(self) -> list[str]:
        """Return a name for each feature: group, what is kept, readout."""
        kept = self.kinds_kept()
        groups, readouts = range(self.n_groups), range(self.n_readouts)
        return [f"group{g}_{kind}{r}" for g in groups for kind in kept for r in readouts]


def finished(pooled: npt.NDArray[np.float32], competition: bool) -> npt.NDArray[np.float32]:
    """Features (..., G, kinds, R) of what is kept, the last two kinds those of a competition; in place."""
    if competition:
        last = pooled[..., -2:, :]
        np.sqrt(np.maximum(last, 0.0, out=last), out=last)
    return pooled


def _signals(sampled: Sampled, device: torch.device = _CPU) -> dict[str, Any]:
    signals = {
        "u": sampled.values,
        "held": sampled.slopes,
        "offsets": sampled.offsets.astype(np.int64),
        "steps": sampled.steps,
        "index": sampled.which.astype(np.int32),
    }
    return {name: torch.from_numpy(signal).to(device) for name, signal in signals.items()}


def _quantiles(ordered: npt.NDArray[np.float32], levels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Quantiles (G, 2, R) of sorted values (G, R, L), linear between neighbours, at levels (G, 2, R)."""
    position = levels * (ordered.shape[2] - 1)
    low = position.astype(np.int64)
    high = np.minimum(low + 1, ordered.shape[2] - 1)
    below, above = (np.take_along_axis(ordered, at.swapaxes(1, 2), 2).swapaxes(1, 2) for at in (low, high))
    return below + (position - low) * (above - below)
