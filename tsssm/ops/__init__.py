"""Few operations, each with one signature and several backends; see ``reference`` for what they compute."""

from tsssm.ops.convolution import causal_conv
from tsssm.ops.diagonal import diagonal_scan
from tsssm.ops.dplr import dplr_scan
from tsssm.ops.kernels import krylov
from tsssm.ops.sequence import ScanState, last_sample, reversed_gaps
from tsssm.ops.tridiagonal import tridiagonal_scan

__all__ = [
    "ScanState",
    "causal_conv",
    "diagonal_scan",
    "dplr_scan",
    "krylov",
    "last_sample",
    "reversed_gaps",
    "tridiagonal_scan",
]
