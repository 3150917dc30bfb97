"""The diagonal scan: ``recurrence`` (a mode over a chunk), ``passes`` (forward, adjoint), ``scan``."""

from pathlib import Path

from tsssm.ops.cpu import caching
from tsssm.ops.cpu.diagonal import passes
from tsssm.ops.cpu.diagonal.scan import diagonal_scan, diagonal_scan_adjoint, saved_shape

caching.stamp(Path(__file__).parent, passes.forward_pass, passes.backward_pass)

__all__ = ["diagonal_scan", "diagonal_scan_adjoint", "saved_shape"]
