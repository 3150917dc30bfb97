"""The pooled scan of a series that goes on: systems made ready once, and a state between calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tsssm.ops.cpu.features.passes import Kept, Scanned, resumed_pass
from tsssm.ops.cpu.features.scan import packed_systems, packed_thresholds, step_table
from tsssm.ops.cpu.layout import as_array
from tsssm.ops.features import check_systems, check_thresholds

Array = NDArray[Any]

# Steps whose discretised systems are kept: more than there are with times rounded to 64ths of a unit.
_MOST_STEPS = 256


class ResumedScan:
    """`tsssm.ops.pooled_scan` for one series, some samples at a time.

    Parameters
    ----------
    A, B, mix_u, mix_held, C, D, thresholds : Tensor
        As in `tsssm.ops.pooled_scan`, on the CPU; copied.
    shares, competition : bool
        What is kept.

    Raises
    ------
    ValueError
        As `tsssm.ops.pooled_scan`: the compiled loops do not look where they read and write.
    """

    def __init__(
        self,
        A: Tensor,
        B: Tensor,
        mix_u: Tensor,
        mix_held: Tensor,
        C: Tensor,
        D: Tensor,
        thresholds: Tensor,
        shares: bool,
        competition: bool,
    ) -> None:
        signals = D.new_empty(mix_u.shape[-1], 1), D.new_empty(mix_held.shape[-1], 1)
        check_systems(*signals, A, B, mix_u, mix_held, C, D)
        check_thresholds(D, C, thresholds)
        self._A, self._B, self._dtype = A.clone(), B.clone(), D.dtype
        self._mixing, self._coefficients = packed_systems(mix_u, mix_held, C, D)
        self._thresholds = packed_thresholds(thresholds)
        self._kept = shares, competition
        self._channels = mix_u.shape[1], mix_held.shape[1]
        self._tables: dict[float, Array] = {}
        padded = self._table(1.0).shape[-1]
        self._state_shape = len(A), 2 * padded
        #: Shape (G, kinds, R) of what is kept.
        self.shape = len(A), 2 * (shares + competition), C.shape[1]

    def initial_state(self) -> Array:
        """The state of a series at rest."""
        return np.zeros(self._state_shape, self._mixing.dtype)

    def advance(
        self, state: Array, u: Array, held: Array, steps: Array, weight: Array, out: Array, at_rest: bool
    ) -> None:
        """Go on from ``state`` through samples, and add what is kept of them to ``out`` (G, kinds, R).

        Parameters
        ----------
        state : array
            Changed in place.
        u, held : array (H, m) and (H', m), C-contiguous
            The last sample that the state knows, unless ``at_rest``, and the new ones after it.
        steps : array (m,), float64
            The step that leads to each sample.
        weight : array (m,)
            Weight of each sample.
        out : array (G, kinds, R), C-contiguous
        at_rest : bool
            Whether there was no sample before.

        Raises
        ------
        ValueError
            For arrays of other shapes or dtypes.
        """
        length = u.shape[-1]
        expected = {
            "state": (state, self._state_shape),
            "u": (u, (self._channels[0], length)),
            "held": (held, (self._channels[1], length)),
            "weight": (weight, (length,)),
            "out": (out, self.shape),
        }
        for name, (array, shape) in expected.items():
            if array.shape != shape or array.dtype != self._mixing.dtype or not array.flags.c_contiguous:
                dtype = self._mixing.dtype
                raise ValueError(f"{name} must be {dtype} {shape}; got {array.dtype} {array.shape}.")
        if steps.shape != (length,) or length == 0:
            raise ValueError(f"steps must be one a sample, of at least one; got {steps.shape}.")
        first = 0 if at_rest else 1
        distinct, index = np.unique(steps[first:], return_inverse=True)
        tables = [self._table(step) for step in distinct.tolist()]
        table = tables[0][None] if len(tables) == 1 else np.stack(tables)
        rows = np.concatenate([np.zeros(first, np.int32), index], dtype=np.int32)
        scanned = Scanned(u, held, rows, self._mixing, table, self._A.ndim == 2, self._coefficients)
        kept = Kept(weight, self._thresholds, *self._kept)
        resumed_pass(scanned, kept, first, at_rest, state, out)

    def _table(self, step: float) -> Array:
        """The discretised systems of a step."""
        tables = self._tables
        table = tables.get(step)
        if table is None:
            steps = torch.tensor([step], dtype=torch.float64)
            table = as_array(step_table(self._A, self._B, steps, self._dtype))[0]
            # Streams in other threads may share it, so that it is replaced and not emptied.
            self._tables = {**(tables if len(tables) < _MOST_STEPS else {}), step: table}
        return table
