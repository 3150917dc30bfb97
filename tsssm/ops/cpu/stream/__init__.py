"""A whole causal network on one sample after the other, for networks of diagonal layers.

From the bottom up: ``parts`` (what stands between the layers), ``layers`` (one step of a diagonal layer),
``network`` (samples of several series through all of it), ``operands`` (checks of what that is given). There
is no adjoint: a stream does not learn.

Features of a sample lie in registers of W channels, padded with zeros to P registers. The state of a layer
lies in U registers: each holds mode n of W channels where every channel has a system of its own, or W modes
where all channels share one.
"""

from tsssm.ops.cpu.coefficients import FOH, GBT, ZOH
from tsssm.ops.cpu.stream.network import LAST, MAX, MEAN, N_ROW_PLANES, advance
from tsssm.ops.cpu.stream.operands import Sizes, check_samples, check_states, check_weights

__all__ = [
    "FOH",
    "GBT",
    "LAST",
    "MAX",
    "MEAN",
    "N_ROW_PLANES",
    "ZOH",
    "Sizes",
    "advance",
    "check_samples",
    "check_states",
    "check_weights",
]
