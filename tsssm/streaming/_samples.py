"""The inputs of a network sample by sample: what `tsssm.encoding.PanelEncoder` does with whole series.

Symbols and shapes: a batch of B series with d channels each::

    values  (B, d)     one sample of each series, NaN where missing
    time    (B,)       when it was taken
    u       (B, d_in)  inputs of the network
    dt      (B,)       elapsed time since the previous sample in units of the time scale
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tsssm.encoding import LARGEST_VALUE, LONGEST_GAP, PanelEncoder, beyond, with_mask
from tsssm.panel import DOUBLE_FROM, LARGEST_TIME, plain, to_floats

FloatArray = npt.NDArray[np.float64]
InputArray = npt.NDArray[np.floating[Any]]

_LARGEST_TIME = np.array(LARGEST_TIME)

#: Stands for the gap of a sample that a series does not have.
NO_SAMPLE = -1.0


@dataclass
class Memory:
    """What the inputs of the next sample depend on.

    Attributes
    ----------
    timed : bool or None
        Whether the samples come with times; None before the first one.
    time : array (B,)
        Time of the latest sample; its number where there are no times.
    taken : array (B,)
        Time of the latest sample with a value; NaN before the first one.
    values : array (B, d)
        Last seen standardised value of each channel, 0 before the first.
    since : array (B, d)
        Time since each channel was seen, or since the first sample.
    """

    timed: bool | None
    time: FloatArray
    taken: FloatArray
    values: FloatArray
    since: FloatArray

    def copy(self) -> Memory:
        """A memory that shares no array with this one."""
        arrays = (self.time, self.taken, self.values, self.since)
        return Memory(self.timed, *(array.copy() for array in arrays))


class Samples:
    """Checks samples and encodes them.

    Parameters
    ----------
    encoder : PanelEncoder or None
        That of a fitted estimator; None where samples are inputs of a network already.
    n_channels : int
        Channels d of a sample.
    """

    def __init__(self, encoder: PanelEncoder | None, n_channels: int) -> None:
        self.encoder = encoder
        self.n_channels = n_channels
        # Values below it are as they are in a panel and within the limits of the encoding: most of them.
        ordinary = DOUBLE_FROM
        if encoder is not None:
            self._reach = LARGEST_VALUE * encoder.std
            ordinary = min(
                ordinary,
                np.min(self._reach - np.abs(encoder.mean)),
                np.min(encoder.limits[1]),
                -np.max(encoder.limits[0]),
            )
        self._ordinary = np.array(ordinary, np.float32)

    def memory(self, batch: int) -> Memory:
        """What is known before the first sample."""
        timed = True if self.encoder is not None and self.encoder.has_times else None
        n_numeric = self.n_channels if self.encoder is None else len(self.encoder.numeric)
        series, channels = np.full(batch, np.nan), np.zeros((batch, n_numeric))
        return Memory(timed, series, series.copy(), channels, channels.copy())

    def checked_values(self, values: Any, shape: tuple[int | None, ...]) -> InputArray:
        """Return values as floats of ``shape``, in which None is any length and channels come last.

        The axis of the channels may be left out where there is one channel.

        Raises
        ------
        TypeError
            If they are not real numbers.
        ValueError
            If they have another shape, are infinite, or are missing where there is no encoder.
        """
        array = values if type(values) is np.ndarray else as_array(values)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"values must be real numbers; got dtype {array.dtype}.")
        full = self._shaped(array, shape)
        with np.errstate(over="ignore"):  # what float32 cannot hold is caught as infinite
            result = full.astype(np.float32)
        if (np.abs(result) < self._ordinary).all():
            return result
        if np.isinf(result).any():
            raise ValueError(
                "values must be finite in float32, or NaN where missing; got infinite or too large ones."
            )
        if self.encoder is not None:
            floats, centre = to_floats(full), self.encoder.mean  # as a panel keeps them
            floats = np.where(beyond(floats, self.encoder.limits), np.nan, floats)
            return np.clip(floats, centre - self._reach, centre + self._reach)
        if np.isnan(result).any():
            raise ValueError("values are inputs of a network, which cannot be missing; got NaN.")
        return result

    def _shaped(self, array: npt.NDArray[Any], shape: tuple[int | None, ...]) -> npt.NDArray[Any]:
        """Values in this shape, with an axis of the channels, or an error."""
        full = array[..., None] if self.n_channels == 1 and array.ndim == len(shape) - 1 else array
        if full.ndim != len(shape) or any(
            want not in (None, got) for want, got in zip(shape, full.shape, strict=True)
        ):
            expected = ", ".join("any" if length is None else str(length) for length in shape)
            raise ValueError(
                f"values must have shape ({expected}), with {self.n_channels} channel(s) last; got shape "
                f"{array.shape}."
            )
        return full

    def checked_times(
        self, times: Any, memory: Memory, shape: tuple[int, int], alone: bool
    ) -> FloatArray | None:
        """Return times as float64 of ``shape`` (L, B), None where samples are on the regular grid.

        With ``alone`` they come without an axis of series.

        Raises
        ------
        TypeError
            If they are not numbers.
        ValueError
            If they are missing where times are needed or the other way round, are not finite or go back.
        """
        if times is None:
            if memory.timed:
                reason = "the samples before had one"
                if self.encoder is not None and self.encoder.has_times:
                    unit = self.encoder.time_unit
                    reason = f"the training series had times{'' if unit is None else f' in {unit!r}'}"
                raise ValueError(f"time is missing: {reason}, so that every sample needs one.")
            return None
        if memory.timed is False:
            raise ValueError(
                "time was given, but the samples before had none: pass it from the first sample on."
            )
        array = np.asarray(plain(times, "time"))
        if array.dtype.kind not in "fiu":
            unit = None if self.encoder is None else self.encoder.time_unit
            known = "" if unit is None else f" of {unit!r}"
            raise TypeError(f"time must be a number{known}; got dtype {array.dtype}.")
        length, batch = shape
        if array.shape == (length,):  # one time for all series
            array = np.repeat(array[:, None], batch, axis=1)
        if array.shape != shape:
            expected = f"({length},)" if alone else f"({length},) or ({length}, {batch})"
            raise ValueError(
                f"time must have shape {expected}, one number for each sample; got {array.shape}."
            )
        result = array.astype(np.float64)
        if not (np.abs(result) <= _LARGEST_TIME).all():
            raise ValueError(f"time must be finite, {LARGEST_TIME:g} at most; got {np.abs(result).max():g}.")
        before = memory.time
        for k in range(length):
            if (result[k] < before).any():  # NaN, before the first sample, is not greater
                b = int(np.argmax(result[k] < before))
                raise ValueError(f"time must not decrease; got {result[k, b]} after {before[b]}.")
            before = result[k]
        return result

    def move_clock(self, time: FloatArray | None, memory: Memory) -> FloatArray:
        """Return when a sample of each series was taken, or its number if there are no times; keep it."""
        memory.timed = time is not None
        if time is None:
            time = np.where(np.isnan(memory.time), 0.0, memory.time + 1)
        # A view would keep the times of a whole piece alive.
        memory.time = time.copy()
        return memory.time

    def encode(
        self, values: InputArray, time: FloatArray | None, memory: Memory
    ) -> tuple[InputArray, InputArray]:
        """Return u and dt of one checked sample of each series, and take it into the memory.

        A series whose values are all missing has no sample: its dt is `NO_SAMPLE`, and its u undefined.
        """
        first = np.isnan(memory.taken)
        time = self.move_clock(time, memory)
        dt = time - memory.taken
        encoder = self.encoder
        if encoder is None:
            np.minimum(dt, LONGEST_GAP, out=dt)
            dt[first] = 1.0
            memory.taken = time
            return values, dt.astype(np.float32)
        dt = encoder.elapsed(dt, time if memory.timed else None)
        dt[first] = 1.0
        z, seen = encoder.standardised(values), ~np.isnan(values)
        complete = bool(seen.all())
        present = seen if complete else seen.any(axis=1)
        if encoder.categories.size:
            seen = seen[:, encoder.numeric]
        if encoder.missing:
            absent = first if complete else first | ~present
            since = memory.since + np.where(absent, 0.0, dt)[:, None]
            u: InputArray = with_mask(z, seen, since)
            memory.since = np.where(seen, 0.0, since)
        else:
            u = memory.values = z if complete else np.where(seen, z, memory.values)
        if encoder.categories.size:
            known = np.zeros((len(values), encoder.categories.size + 1))
            np.put_along_axis(known, encoder.categories.codes(values), 1.0, axis=1)
            u = np.concatenate([u, known[:, :-1]], axis=1)
        memory.taken = time if complete else np.where(present, time, memory.taken)
        if not complete:
            dt[~present] = NO_SAMPLE
        return u.astype(np.float32, copy=False), dt.astype(np.float32)


def as_array(values: Any) -> npt.NDArray[Any]:
    """Values as an array, NaN where they are masked."""
    values = plain(values, "values")
    if isinstance(values, np.ma.MaskedArray):
        kept: npt.NDArray[Any] = np.ma.filled(values.astype(np.result_type(values.dtype, np.float32)), np.nan)
        return kept
    return np.asarray(values)
