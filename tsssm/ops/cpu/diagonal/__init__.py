"""The diagonal scan, and the forms of Liquid-S4 over it: two passes over a block of W channels.

From the bottom up: ``block`` (coefficients and gradients of a block), ``cells`` and ``modes`` (most calls,
which can be spared much arithmetic), ``rows`` (all others), ``chain`` and ``correlation`` (the forms of
Liquid-S4 by orders of input correlation), ``kernels`` (the two passes), ``scan`` (the operations on tensors).
"""

from tsssm.ops.cpu.diagonal.scan import diagonal_scan, diagonal_scan_adjoint, saved_shape

__all__ = ["diagonal_scan", "diagonal_scan_adjoint", "saved_shape"]
