"""The causal convolution: ``convolve`` (in the time domain), ``conv`` (either way, on tensors)."""

from pathlib import Path

from tsssm.ops.cpu import caching
from tsssm.ops.cpu.convolution import convolve
from tsssm.ops.cpu.convolution.conv import causal_conv, causal_conv_adjoint

caching.stamp(Path(__file__).parent, convolve.convolve, convolve.convolve_adjoint)

__all__ = ["causal_conv", "causal_conv_adjoint"]
