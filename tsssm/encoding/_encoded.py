"""Encoded series, in memory or on demand, and the batches that are made of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tsssm.panel import Panel

# Values that are worked on at a time where a panel may be too large for the memory.
_PIECE = 4_000_000


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device; to CUDA by way of pinned memory, such that neither side waits."""
    if tensor.device.type == device.type == "cpu":
        return tensor
    if tensor.device.type == "cpu" and device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


class Batch(NamedTuple):
    """Some series as rectangular tensors, zero padded at the end.

    Attributes
    ----------
    u : Tensor (batch, L, d_in)
    dt : Tensor (batch, L) or None
        Elapsed time since the previous sample, 0 on padding. None where the series have one length and every
        gap is 1: the layers then take their constant-step path.
    """

    u: Tensor
    dt: Tensor | None


@dataclass(frozen=True)
class Encoded:
    """The encoded series of a panel, one after another; all but the offsets may be on a device.

    Attributes
    ----------
    u : Tensor (total, d_in), float32
        Inputs of the network.
    dt : Tensor (total,), float32
        Elapsed time since the previous sample in units of the time scale; 1 at the first sample of a series.
    offsets : Tensor (n + 1,), int64
        Series i is ``u[offsets[i]:offsets[i + 1]]``.
    codes : Tensor (total, c), int64, or None
        Which of ``n_codes`` further inputs are 1, for each categorical channel; ``n_codes`` is none of them.
    n_codes : int
        Number of these inputs, which only batches have room for.
    """

    u: Tensor
    dt: Tensor
    offsets: Tensor
    codes: Tensor | None = None
    n_codes: int = 0

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> Tensor:
        """Samples of each series, int64 (n,)."""
        return self.offsets.diff()

    @cached_property
    def _steady(self) -> Tensor:
        """Whether every gap of a series is 1, bool (n,)."""
        return torch.as_tensor(
            np.logical_and.reduceat((self.dt == 1).cpu().numpy(), self.offsets[:-1].numpy())
        )

    def steady(self, rows: Tensor) -> bool:
        """Whether every gap of the series ``rows`` is 1."""
        return bool(self._steady[rows].all())

    @property
    def regular(self) -> bool:
        """Whether every gap of every series is 1."""
        return bool(self._steady.all())

    def pieces(self) -> Iterator[Encoded]:
        """Yield the series, all at once."""
        yield self

    def durations(self) -> Tensor:
        """Time that each series covers, the first sample counted as one unit; float64 (n,)."""
        elapsed = np.add.reduceat(self.dt.numpy(), self.offsets[:-1].numpy(), dtype=np.float64)
        return torch.as_tensor(elapsed)

    def on(self, device: torch.device) -> Encoded:
        """Return the same series with inputs, gaps and codes on a device."""
        codes = None if self.codes is None else self.codes.to(device)
        return replace(self, u=self.u.to(device), dt=self.dt.to(device), codes=codes)

    def inputs(self, samples: Tensor) -> Tensor:
        """Return the inputs (*shape, d_in) of samples of these numbers, an integer tensor of any shape."""
        u = self.u[samples]
        if self.codes is None:
            return u
        known = u.new_zeros(*samples.shape, self.n_codes + 1)
        known.scatter_(-1, self.codes[samples], 1.0)
        return torch.cat([u, known[..., :-1]], dim=-1)

    def batch(self, rows: Tensor) -> Batch:
        """Return the series ``rows`` (integers on the CPU, in that order) as one padded batch.

        What is decided is decided on the CPU; only numbers of samples pass to a device.
        """
        lengths = self.lengths[rows]
        longest, even = int(lengths.max()), bool((lengths == lengths[0]).all())
        where = moved(torch.stack([self.offsets[rows], lengths]), self.u.device)
        position = torch.arange(longest, device=self.u.device)
        samples = where[0][:, None] + position
        if even:
            return Batch(self.inputs(samples), None if self.steady(rows) else self.dt[samples])
        valid = position < where[1][:, None]
        samples = torch.where(valid, samples, 0)
        return Batch(self.inputs(samples) * valid[..., None], self.dt[samples] * valid)


class EncodedOnDemand:
    """The series of a memory-mapped panel, encoded batch by batch; stands for an `Encoded`.

    Parameters
    ----------
    encode_all : callable
        That of a `PanelEncoder`.
    panel : Panel
        n series, checked by the encoder as `PanelEncoder.encode` does.
    """

    def __init__(self, encode_all: Callable[[Panel], Encoded], panel: Panel) -> None:
        self._encode_all = encode_all
        self._panel = panel
        #: Samples of each series, with those that are missing altogether; int64 (n,).
        self.lengths = torch.from_numpy(panel.lengths)

    def __len__(self) -> int:
        return len(self._panel)

    def durations(self) -> Tensor:
        """As `Encoded.durations`."""
        return torch.cat([self._encode_all(piece).durations() for piece in pieces(self._panel)])

    def batch(self, rows: Tensor) -> Batch:
        """As `Encoded.batch`."""
        return self._encode_all(self._panel[rows.numpy()]).batch(torch.arange(len(rows)))

    def pieces(self) -> Iterator[Encoded]:
        """Yield the series, some at a time."""
        return map(self._encode_all, pieces(self._panel))


def pieces(panel: Panel) -> Iterator[Panel]:
    """Runs of series with some millions of values each, without the samples that are missing altogether.

    So that a memory-mapped panel is never in memory as a whole. A panel of common size is one piece.
    """
    cuts = [0]
    for number, end in enumerate(panel.offsets[1:].tolist(), start=1):
        if (end - panel.offsets[cuts[-1]]) * panel.n_channels >= _PIECE or number == len(panel):
            cuts.append(number)
    for start, stop in itertools.pairwise(cuts):
        yield panel[start:stop].drop_missing_rows()
