"""The scan of diagonal plus low-rank systems.

``system`` (coefficients of a block, and the way back), ``feedback`` (the small real system that couples the
modes), ``regular`` and ``irregular`` (a chunk of samples on either grid), ``passes`` (forward, adjoint),
``scan``.
"""

from tsssm.ops.cpu.dplr.scan import dplr_scan, dplr_scan_adjoint, saved_shapes

__all__ = ["dplr_scan", "dplr_scan_adjoint", "saved_shapes"]
