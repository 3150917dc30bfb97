"""Few operations, each with one signature and several backends; see ``reference`` for what they compute.

A module here checks operands and chooses: ``cpu`` (Numba, by way of ``autograd``), ``gpu`` (Triton), or
PyTorch in ``chunked``. ``sequence`` is what scans know of time, ``operands`` and ``bounds`` what they share.
"""

from tsssm.ops.clocks import clock_scan
from tsssm.ops.convolution import causal_conv
from tsssm.ops.diagonal import diagonal_scan
from tsssm.ops.dplr import dplr_scan
from tsssm.ops.features import pooled_scan, readout_scan
from tsssm.ops.gating import dropout_noise, gated_mix
from tsssm.ops.kernels import cauchy, dplr_kernel, krylov, power_sums, vandermonde
from tsssm.ops.liquid import LiquidState, liquid_dplr_scan, liquid_scan
from tsssm.ops.normalization import batch_norm
from tsssm.ops.sequence import ScanState, last_sample, reached_samples, reversed_gaps
from tsssm.ops.tridiagonal import tridiagonal_scan

__all__ = [
    "LiquidState",
    "ScanState",
    "batch_norm",
    "cauchy",
    "causal_conv",
    "clock_scan",
    "diagonal_scan",
    "dplr_kernel",
    "dplr_scan",
    "dropout_noise",
    "gated_mix",
    "krylov",
    "last_sample",
    "liquid_dplr_scan",
    "liquid_scan",
    "pooled_scan",
    "power_sums",
    "reached_samples",
    "readout_scan",
    "reversed_gaps",
    "tridiagonal_scan",
    "vandermonde",
]
