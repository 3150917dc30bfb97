"""Batch normalisation: ``kernels``, and ``norm`` (on tensors)."""

from pathlib import Path

from tsssm.ops.cpu import caching
from tsssm.ops.cpu.normalization import kernels
from tsssm.ops.cpu.normalization.norm import batch_norm, batch_norm_adjoint

caching.stamp(
    Path(__file__).parent,
    kernels.statistics,
    kernels.normalised,
    kernels.parameter_gradients,
    kernels.input_gradient,
)

__all__ = ["batch_norm", "batch_norm_adjoint"]
