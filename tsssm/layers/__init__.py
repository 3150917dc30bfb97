"""State-space layers; every one keeps the contract of `SSMLayer`."""

from tsssm.layers.base import SSMLayer
from tsssm.layers.s4d import S4D

__all__ = ["S4D", "SSMLayer"]
