"""The causal convolution: ``convolve`` (in the time domain), ``conv`` (either way, on tensors)."""

from tsssm.ops.cpu.convolution.conv import causal_conv, causal_conv_adjoint

__all__ = ["causal_conv", "causal_conv_adjoint"]
