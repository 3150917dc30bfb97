"""The scan of tridiagonal systems, sample after sample with the state in registers, as that of `dplr`.

The modes of a channel lie side by side in a warp. Every step solves a tridiagonal system of equations by
three linear recurrences over the modes (``steps``), each in as many shuffles as that number has digits.
"""

from tsssm.ops.gpu.tridiagonal.scan import saved_shape, tridiagonal_scan, tridiagonal_scan_adjoint

__all__ = ["saved_shape", "tridiagonal_scan", "tridiagonal_scan_adjoint"]
