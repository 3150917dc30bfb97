"""The forms of Liquid-S4, which the kernels of the diagonal scan compute."""

from tsssm.ops.cpu.diagonal.scan import liquid_saved_shape as saved_shape
from tsssm.ops.cpu.diagonal.scan import liquid_scan, liquid_scan_adjoint

__all__ = ["liquid_scan", "liquid_scan_adjoint", "saved_shape"]
