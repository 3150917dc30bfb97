"""Activation and gate: ``normal`` (on registers), ``kernels``, ``gate`` (on tensors), ``noise``."""

from tsssm.ops.cpu.gating.gate import gated_mix, gated_mix_adjoint
from tsssm.ops.cpu.gating.noise import noise

__all__ = ["gated_mix", "gated_mix_adjoint", "noise"]
