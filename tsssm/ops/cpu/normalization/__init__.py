"""Batch normalisation: ``kernels``, and ``norm`` (on tensors)."""

from tsssm.ops.cpu.normalization.norm import batch_norm, batch_norm_adjoint

__all__ = ["batch_norm", "batch_norm_adjoint"]
