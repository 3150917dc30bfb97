"""Samples of several series, one after the other, through a whole network and into its pooled outputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from tsssm.ops.cpu.buffers import bare
from tsssm.ops.cpu.coefficients import Rows, Rule
from tsssm.ops.cpu.compiling import kernel, routine
from tsssm.ops.cpu.stream.layers import Layer, Weights, fill_rows, step_channels, step_shared
from tsssm.ops.cpu.stream.parts import add_gated, affine, gelu, normalise

MEAN, MAX, LAST = range(3)
# Real numbers that the coefficients of a mode take: the fields A, B, Q and P of a row.
N_ROW_PLANES = 8


@routine
def pool(
    z: Any, gap: float, pooling: int, sums: Any, latest: Any, kept: Any, clock: Any, pooled: Any
) -> None:
    """Take one more sample into the summary of a series over time.

    ``kept`` is the largest sample or the last one with a positive gap, ``latest`` the one before this,
    ``sums`` what the mean has gathered; ``clock`` holds the first gap and the sum of all.
    """
    first = clock[1] == 0
    if first:
        clock[0] = gap
    clock[1] += gap
    for c in range(pooled.size):
        if pooling == MAX:
            kept[c] = z[c] if first else max(kept[c], z[c]) if gap > 0 else kept[c]
        elif gap > 0:
            kept[c] = z[c]
        pooled[c] = kept[c]
        if pooling == MEAN:
            sums[c] += gap * (np.float64(latest[c]) + z[c])
            latest[c] = z[c]
            # The gap after the last sample counts as the first gap.
            pooled[c] = (sums[c] + clock[0] * kept[c]) / (2 * clock[1])


@routine
def read_head(head: Any, pooled: Any, outputs: Any) -> None:
    """Outputs of a summary over time; the last row of ``head`` is the bias."""
    for o in range(outputs.size):
        total = np.float64(head[pooled.size, o])
        for c in range(pooled.size):
            total += pooled[c] * head[c, o]
        outputs[o] = total


@kernel
def advance(
    u: Any,
    dt: Any,
    encoder: Any,
    norms: Any,
    eps: float,
    system: Any,
    steps: Any,
    readout: Any,
    inputs: Any,
    outputs: Any,
    D: Any,
    bounds: Any,
    mix: Any,
    head: Any,
    channels: int,
    pooling: int,
    kind: int,
    alpha: float,
    rows: Any,
    gap_of_rows: Any,
    x: Any,
    previous: Any,
    sums: Any,
    latest: Any,
    kept: Any,
    clock: Any,
    current: Any,
    y: Any,
) -> None:
    """Run a network over samples, and change its states in place.

    Parameters
    ----------
    u : array (L, batch, d_in)
        Inputs.
    dt : array (L, batch)
        Time since the previous sample of the series; negative where a series has no sample.
    encoder : array (d_in + 1, P, W)
        Encoder: what each input contributes to the channels, and the bias.
    norms : array (layers + 1, 2, P, W)
        Scale and shift before each layer and before pooling; 0 where there is no channel.
    eps : float
        Of the layer norm that goes before, or 0 where there is none.
    system, steps : arrays (layers, U, 4, W), (layers, U, W)
        Parts of A and B of each mode, and its timescale.
    readout : array (layers, U, 2, W)
        C where each channel has a system of its own; empty where they share one.
    inputs, outputs : arrays (layers, H, 2 U, W), (layers, 2 U W, P, W)
        B and C of a system that all channels share, see `step_shared`; else empty.
    D : array (layers, P, W)
    bounds : array (layers, U, W)
        Of the input that acts on the transition of each mode; empty where none does.
    mix : array (layers, H + 1, 2 P, W)
        What each channel contributes to the values and to the gates, and the bias.
    head : array (H + 1, n_outputs)
        What each channel contributes to the outputs, and the bias.
    channels : int
        Number H of channels.
    pooling : int
        MEAN, MAX or LAST.
    kind, alpha
        Discretisation, as in `tsssm.ops.cpu.coefficients`.
    rows, gap_of_rows : arrays (N_ROW_PLANES * layers * U * W,), (1,)
        Coefficients, and the gap for which they are; computed anew when another one comes.
    x : array (batch, layers, U, 2, W)
        States.
    previous : array (batch, layers, ...)
        Last inputs of the systems, for first-order hold; else empty.
    sums, latest, kept, clock : arrays (batch, H), (batch, H), (batch, H), (batch, 2)
        See `pool`; float64 the first and the last.
    current : array (batch, n_outputs)
        Outputs of each series after its last sample.
    y : array (L, batch, n_outputs)
        Receives the outputs after each sample.
    """
    layers, units, width = steps.shape
    padded = norms.shape[2] * width
    modes = units // norms.shape[2]
    shared = inputs.size > 0
    h, v, out = np.empty(padded, u.dtype), np.empty(padded, u.dtype), np.empty(padded, u.dtype)
    mixed, driven = np.empty(2 * padded, u.dtype), np.empty(2 * units * width, u.dtype)
    pooled = np.empty(channels, np.float64)
    all_units = system.reshape((layers * units, 4, width))
    all_rows = bare(Rows(rows, rows, 2 * steps.size))
    weights = bare(Weights(readout, inputs, outputs, D, bounds, bounds.size > 0))
    states, last = bare(x), bare(previous)
    for t in range(u.shape[0]):
        for b in range(u.shape[1]):
            gap = dt[t, b]
            if gap < 0:
                y[t, b] = current[b]
                continue
            if gap > 0 and gap != gap_of_rows[0]:
                fill_rows(all_rows, all_units, steps, Rule(kind, alpha), gap)
                gap_of_rows[0] = gap
            for i in range(0, padded, width):
                affine(encoder, i, padded, u[t, b], u.shape[2], h, i, width)
            for k in range(layers):
                normalise(h, norms, 2 * k * padded, eps, channels, v, width)
                series = b * layers + k
                before = series * (driven.size if shared else padded)
                layer = Layer(k, k * units * width, 2 * series * units * width, before)
                if shared:
                    step_shared(v, gap, all_rows, weights, channels, kind, layer, states, last, driven, out)
                else:
                    step_channels(v, gap, all_rows, weights, modes, kind, layer, states, last, out)
                gelu(out, channels)
                for i in range(0, 2 * padded, width):
                    at = k * (channels + 1) * 2 * padded + i
                    affine(mix, at, 2 * padded, out, channels, mixed, i, width)
                add_gated(mixed, h, width)
            normalise(h, norms, 2 * layers * padded, eps, channels, v, width)
            pool(v, gap, pooling, sums[b], latest[b], kept[b], clock[b], pooled)
            read_head(head, pooled, current[b])
            y[t, b] = current[b]
