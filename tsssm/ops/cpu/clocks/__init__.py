"""Scalar systems over runs of measurements: ``passes`` (kernels), ``scan`` (on tensors)."""

from tsssm.ops.cpu.clocks.scan import clock_scan, clock_scan_adjoint

__all__ = ["clock_scan", "clock_scan_adjoint"]
