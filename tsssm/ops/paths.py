"""Which of two equal computations is faster: the scan of a system or the convolution with its kernel."""

from __future__ import annotations

import math

import torch


def prefers_convolution(batch: int, length: int, modes: int, device: torch.device) -> bool:
    """Whether `causal_conv` with the kernel of a system beats `dplr_scan`, on a regular grid from rest.

    Parameters
    ----------
    batch, length : int
        Of the input.
    modes : int
        Complex modes N of each channel.
    device : torch.device
        Of the input.

    Returns
    -------
    bool
        On any device but the CPU True, because there a scan is as many launches as there are samples.

    Notes
    -----
    On the CPU both costs are proportional to the batch and to the channels, but for the kernel, which is the
    scan of one impulse. The costs of a sample are a coarse fit, in microseconds, to forward and backward
    passes of `tsssm.layers.S4` with 64 channels on one core, at 8 to 64 modes and 100 to 4,096 samples.
    """
    if device.type != "cpu":
        return True
    scan = 0.5 + 0.115 * modes
    convolution = max(1.4, math.log2(length) - 7)
    return scan + batch * convolution < batch * scan
