"""Few operations, each with one signature and several backends; see ``reference`` for what they compute."""

from tsssm.ops.dispatch import causal_conv, diagonal_scan
from tsssm.ops.sequence import ScanState, reversed_gaps

__all__ = ["ScanState", "causal_conv", "diagonal_scan", "reversed_gaps"]
