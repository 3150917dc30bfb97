"""Few operations, each with one signature and several backends; see ``reference`` for what they compute."""

from tsssm.ops.dispatch import causal_conv, diagonal_scan, dplr_scan
from tsssm.ops.kernels import krylov
from tsssm.ops.sequence import ScanState, last_sample, reversed_gaps

__all__ = [
    "ScanState",
    "causal_conv",
    "diagonal_scan",
    "dplr_scan",
    "krylov",
    "last_sample",
    "reversed_gaps",
]
