"""Diagonal plus low-rank steps from sample to sample: ``passes`` (the kernel), ``scan`` (on tensors)."""

from tsssm.ops.cpu.low_rank.scan import low_rank_states

__all__ = ["low_rank_states"]
