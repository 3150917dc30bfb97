"""Which of two equal computations is faster: the scan of a system or the convolution with its kernel."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

# As in ops/cpu/convolution, which imports Numba and is not imported for this.
_LONGEST_DIRECT = 1024


#: Whether `torch.export` looks on. PyTorch 2.6 does not tell export from compile.
is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)


class _Cost(NamedTuple):
    """Microseconds for a sample of 64 channels, forward and backward: a + b N with N modes."""

    scan: tuple[float, float]
    kernel: tuple[float, float]


_COSTS = {
    "diagonal": _Cost(scan=(0.2, 0.037), kernel=(3.5, 0.2)),
    "dplr": _Cost(scan=(0.7, 0.077), kernel=(2.5, 0.08)),
}


def prefers_convolution(operation: str, batch: int, length: int, modes: int, device: torch.device) -> bool:
    """Whether `causal_conv` with the kernel of a system beats its scan, on a regular grid from rest.

    Parameters
    ----------
    operation : {"diagonal", "dplr", "dense"}
        Scan that competes: `diagonal_scan`, `dplr_scan`, or that of a dense matrix. "dense" stands for
        systems whose kernel takes powers of a dense matrix as well.
    batch, length : int
        Of the input.
    modes : int
        Complex modes N of each channel.
    device : torch.device
        Of the input.

    Returns
    -------
    bool
        On any device but the CPU True, because there a scan is as many launches as there are samples; while
        `torch.export` looks on False, so that the program holds for every length.

    Notes
    -----
    The costs are those of one core, read off examples/benchmarks/paths.py; all are proportional to the
    channels, and all but that of the kernel to the batch. Up to 1,024 lags the convolution is
    computed in the time domain. Powers of a dense matrix in float64 never paid.
    """
    if device.type != "cpu":
        return True
    if operation == "dense" or is_exporting():
        return False
    scan, kernel = ((a + b * modes) for a, b in _COSTS[operation])
    convolution = 0.8 + 0.0018 * length if length <= _LONGEST_DIRECT else math.log2(length) - 4.5
    return kernel + batch * convolution < batch * scan
