"""The encoding of samples as ONNX operators, one after the other: what `tsssm.encoding.PanelEncoder` does."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tsssm.encoding import GAP_ROUNDING, GAP_TOLERANCE, LARGEST_VALUE, LONGEST_GAP, PanelEncoder
from tsssm.exporting._graph import Graph


class Encoded(NamedTuple):
    """Names of the inputs (batch, d_in), dt (batch, 1), and whether there is a sample (batch, 1)."""

    u: str
    dt: str
    present: str


def seen_values(g: Graph, values: str, encoder: PanelEncoder) -> str:
    """Which values (..., d) are neither missing nor beyond the limits; NaN is neither above nor below."""
    exact = g.cast(values, np.float64)
    low, high = (g.constant(limit, np.float64) for limit in encoder.limits)
    return g.op("And", g.op("GreaterOrEqual", exact, low), g.op("LessOrEqual", exact, high))


class SampleEncoder:
    """One sample of each series after the other.

    State: whether there was a sample (batch, 1), the time of the last one (batch, 1) in float64, and for
    each channel its last standardised value, or the time since it was seen (batch, d) in float64.

    Parameters
    ----------
    encoder : PanelEncoder
        Of the fitted estimator.
    """

    def __init__(self, encoder: PanelEncoder) -> None:
        self.encoder = encoder
        self.shapes: list[tuple[tuple[int, ...], type]] = [
            ((1,), np.float32),
            ((1,), np.float64),
            ((encoder.n_channels,), np.float64 if encoder.missing else np.float32),
        ]

    def step(
        self, g: Graph, values: str, time: str, forced: str, state: list[str]
    ) -> tuple[Encoded, list[str]]:
        """Encode values (batch, d), NaN where missing, at a time (batch, 1) in float64.

        ``forced`` (batch, 1) is 1 where a sample without values counts all the same.
        """
        encoder, (before, last, carried) = self.encoder, state
        seen = seen_values(g, values, encoder)
        found = g.op("ReduceMax", g.cast(seen, np.float32), axes=[1], keepdims=1)
        present = g.op("Max", found, forced)
        is_present, started = (g.cast(name, np.bool_) for name in (present, before))
        centred = g.op("Sub", g.cast(values, np.float64), g.constant(encoder.mean, np.float64))
        z = g.op("Div", centred, g.constant(encoder.std, np.float64))
        z = g.op("Clip", z, *(g.constant(limit, np.float64) for limit in (-LARGEST_VALUE, LARGEST_VALUE)))
        z = g.op("Where", seen, g.cast(z, np.float32), g.constant(0.0))
        dt = self._dt(g, time, last, started)
        step = g.op("Where", is_present, dt, g.constant(0.0, np.float64))
        if encoder.missing:
            elapsed = g.op("Add", carried, step)
            since = g.op("Where", started, elapsed, g.constant(0.0, np.float64))
            logarithm = g.op("Log", g.add(g.cast(since, np.float32), 1.0))
            u = g.op("Concat", z, g.cast(seen, np.float32), logarithm, axis=1)
            after = g.op("Where", seen, g.constant(0.0, np.float64), since)
        else:
            u = after = g.op("Where", seen, z, carried)
        kept = [
            g.op("Max", before, present),
            g.op("Where", is_present, time, last),
            g.op("Where", is_present, after, carried),
        ]
        return Encoded(u, g.cast(step, np.float32), present), kept

    def _dt(self, g: Graph, time: str, last: str, started: str) -> str:
        """Elapsed time (batch, 1) since the last sample, in units of the time scale; 1 before the first."""
        encoder, one = self.encoder, g.constant(1.0, np.float64)
        passed = g.op("Sub", time, last)
        if encoder.has_times:
            scale = g.constant(encoder.time_scale_, np.float64)
            dt, position = g.op("Div", passed, scale), g.op("Abs", g.op("Div", time, scale))
        else:
            dt, position = g.op("Mul", passed, g.constant(encoder.step, np.float64)), None
        allowed = g.constant(GAP_TOLERANCE, np.float64)
        if position is not None:
            allowed = g.op("Add", allowed, g.op("Mul", position, g.constant(GAP_ROUNDING, np.float64)))
        is_one = g.op("LessOrEqual", g.op("Abs", g.op("Sub", dt, one)), allowed)
        is_one = g.op("Or", is_one, g.op("Not", started))
        longest = g.op("Min", dt, g.constant(LONGEST_GAP, np.float64))
        return g.op("Where", is_one, one, longest)
