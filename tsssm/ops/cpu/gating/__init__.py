"""Activation and gate: ``normal`` (on registers), ``kernels``, ``gate`` (on tensors), ``noise``."""

from pathlib import Path

from tsssm.ops.cpu import caching
from tsssm.ops.cpu.gating import kernels
from tsssm.ops.cpu.gating.gate import gated_mix, gated_mix_adjoint
from tsssm.ops.cpu.gating.noise import fill, noise

caching.stamp(
    Path(__file__).parent,
    fill,
    kernels.gelu,
    kernels.gelu_and_slope,
    kernels.product,
    kernels.gated_sum,
    kernels.gated_sum_adjoint,
)

__all__ = ["gated_mix", "gated_mix_adjoint", "noise"]
