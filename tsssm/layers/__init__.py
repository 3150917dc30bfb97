"""State-space layers; every one keeps the contract of `SSMLayer`."""

from tsssm.layers.base import SSMLayer
from tsssm.layers.liquid_s4 import LiquidS4
from tsssm.layers.lssl import LSSL
from tsssm.layers.s4d import S4D

__all__ = ["LSSL", "LiquidS4", "S4D", "SSMLayer"]
