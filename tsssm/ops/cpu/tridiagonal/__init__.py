"""The tridiagonal scan: ``bands`` (factors of a step), ``recurrence`` (a sample), ``passes``, ``scan``."""

from pathlib import Path

from tsssm.ops.cpu import caching
from tsssm.ops.cpu.tridiagonal import passes
from tsssm.ops.cpu.tridiagonal.scan import saved_shape, tridiagonal_scan, tridiagonal_scan_adjoint

caching.stamp(Path(__file__).parent, passes.forward_pass, passes.backward_pass)

__all__ = ["saved_shape", "tridiagonal_scan", "tridiagonal_scan_adjoint"]
