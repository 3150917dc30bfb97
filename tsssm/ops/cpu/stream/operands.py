"""Checks of what a compiled network is given: its loops do not look where they read and write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tsssm.ops.cpu.coefficients import FOH, GBT, ZOH
from tsssm.ops.cpu.stream.network import LAST, MAX, MEAN, N_ROW_PLANES

Array = npt.NDArray[Any]

_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)


class Sizes(NamedTuple):
    """Sizes of a compiled network.

    Attributes
    ----------
    inputs, channels, outputs : int
        d_in, H and n_outputs.
    layers, units, width : int
        Layers, registers of modes in each, and lanes of a register.
    previous : int
        Numbers that a layer remembers of its last input.
    """

    inputs: int
    channels: int
    outputs: int
    layers: int
    units: int
    width: int
    previous: int


def check_weights(
    encoder: Array,
    norms: Array,
    system: Array,
    steps: Array,
    readout: Array,
    inputs: Array,
    outputs: Array,
    D: Array,
    bounds: Array,
    mix: Array,
    head: Array,
    rows: Array,
    gap_of_rows: Array,
    channels: int,
    pooling: int,
    kind: int,
) -> Sizes:
    """Return the sizes of a network whose weights, as `advance` documents them, fit together.

    Raises
    ------
    ValueError
        Naming the operand, its shape and the expected one.
    """
    if encoder.ndim != 3 or steps.ndim != 3 or head.ndim != 2 or 0 in encoder.shape + steps.shape:
        raise ValueError(
            "encoder, steps and head must be (d_in + 1, P, W), (layers, U, W) and (H + 1, n_outputs); got "
            f"{encoder.shape}, {steps.shape} and {head.shape}."
        )
    (layers, units, width), registers = steps.shape, encoder.shape[1]
    if not 0 < channels <= registers * width or registers != -(-channels // width):
        raise ValueError(f"channels must fill {registers} registers of {width}; got {channels}.")
    if pooling not in (MEAN, MAX, LAST) or kind not in (ZOH, FOH, GBT):
        raise ValueError(f"pooling and kind must be names of this module; got {pooling} and {kind}.")
    padded, shared, liquid = registers * width, inputs.size > 0, bounds.size > 0
    if not shared and units % registers:
        raise ValueError(f"steps must have a multiple of {registers} registers a layer; got {units}.")
    expected = {
        "encoder": (encoder, (encoder.shape[0], registers, width)),
        "norms": (norms, (layers + 1, 2, registers, width)),
        "system": (system, (layers, units, 4, width)),
        "D": (D, (layers, registers, width)),
        "mix": (mix, (layers, channels + 1, 2 * registers, width)),
        "head": (head, (channels + 1, head.shape[1])),
        "rows": (rows, (N_ROW_PLANES * layers * units * width,)),
        "gap_of_rows": (gap_of_rows, (1,)),
    }
    if shared:
        expected["inputs"] = inputs, (layers, channels, 2 * units, width)
        expected["outputs"] = outputs, (layers, 2 * units * width, registers, width)
    else:
        expected["readout"] = readout, (layers, units, 2, width)
    if liquid:
        expected["bounds"] = bounds, (layers, units, width)
    _check(expected, np.float32)
    last = 0 if kind != FOH else 2 * units * width if shared else padded
    return Sizes(encoder.shape[0] - 1, channels, head.shape[1], layers, units, width, last)


def check_samples(sizes: Sizes, u: Array, dt: Array, y: Array) -> int:
    """Return the number of series of which these are samples and outputs, as `advance` documents them.

    Raises
    ------
    ValueError
        Naming the operand, its shape and the expected one.
    """
    length, batch = u.shape[:2] if u.ndim == 3 else (0, 0)
    # In one expression, as this is done for every sample.
    if (
        u.shape == (length, batch, sizes.inputs)
        and dt.shape == (length, batch)
        and y.shape == (length, batch, sizes.outputs)
        and u.dtype == dt.dtype == _SINGLE
        and y.dtype == _DOUBLE
        and u.flags.c_contiguous
        and dt.flags.c_contiguous
        and y.flags.c_contiguous
    ):
        return batch
    _check({"u": (u, (length, batch, sizes.inputs)), "dt": (dt, (length, batch))}, np.float32)
    _check({"y": (y, (length, batch, sizes.outputs))}, np.float64)
    return batch


def check_states(
    sizes: Sizes,
    batch: int,
    x: Array,
    previous: Array,
    sums: Array,
    latest: Array,
    kept: Array,
    clock: Array,
    current: Array,
) -> None:
    """Raise ValueError unless these are states of so many series, as `advance` documents them."""
    single = {
        "x": (x, (batch, sizes.layers, sizes.units, 2, sizes.width)),
        "previous": (previous, (batch, sizes.layers, sizes.previous)),
        "latest": (latest, (batch, sizes.channels)),
        "kept": (kept, (batch, sizes.channels)),
    }
    double = {
        "sums": (sums, (batch, sizes.channels)),
        "clock": (clock, (batch, 2)),
        "current": (current, (batch, sizes.outputs)),
    }
    _check(single, np.float32)
    _check(double, np.float64)


def _check(expected: Mapping[str, tuple[Array, tuple[int, ...]]], dtype: Any) -> None:
    for name, (array, shape) in expected.items():
        if array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous:
            raise ValueError(
                f"{name} must be {np.dtype(dtype)} {shape}, C-contiguous; got {array.dtype} {array.shape}."
            )
