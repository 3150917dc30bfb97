"""The tridiagonal scan: ``bands`` (factors of a step), ``recurrence`` (a sample), ``passes``, ``scan``."""

from tsssm.ops.cpu.tridiagonal.scan import saved_shape, tridiagonal_scan, tridiagonal_scan_adjoint

__all__ = ["saved_shape", "tridiagonal_scan", "tridiagonal_scan_adjoint"]
