"""Numba backend: the same arguments and results as ``tsssm.ops.reference``, and the adjoints by hand.

From the bottom up: ``simd`` (a register of channels), ``elementary`` (exp, sin, cos), ``rows``
(discretised coefficients), ``recurrence`` (one mode over a chunk), ``passes`` (the two passes),
``convolve`` (time-domain convolution), ``layout`` and ``threads`` (who does what), ``scan`` and ``conv``;
``caching`` keeps the compiled kernels on disk in step with their sources.
"""

from tsssm.ops.cpu import caching, convolve, passes
from tsssm.ops.cpu.conv import causal_conv, causal_conv_adjoint
from tsssm.ops.cpu.scan import diagonal_scan, diagonal_scan_adjoint, saved_shape

caching.stamp(passes.forward_pass, passes.backward_pass, convolve.convolve, convolve.convolve_adjoint)

__all__ = [
    "causal_conv",
    "causal_conv_adjoint",
    "diagonal_scan",
    "diagonal_scan_adjoint",
    "saved_shape",
]
