"""The operations in plain PyTorch: readable, differentiable, on any device. This folder is the specification.

Every other backend must equal these functions, forward and gradient. They loop over time in Python
and keep every state, so they are slow and take much memory on purpose: nothing here is optimised.

Symbols and shapes (DESIGN notation; ``batch`` B, time L, channels H, modes N, readouts M)::

    u      (B, L, H)   real      input
    A      (H, N)      complex   diagonal of the continuous-time system, Re A <= 0
    B      (H, N)      complex   input vector
    C      (M, H, N)   complex   readouts
    D      (M, H)      real      feedthrough
    step   (H,)        real      timescale Delta of a channel
    dt     (B, L)      real      elapsed time delta since the previous sample; None means 1 everywhere
    x      (B, H, N)   complex   state
    y      (B, M, L, H) real     output
"""

from tsssm.ops.reference.clocks import clock_scan
from tsssm.ops.reference.convolution import causal_conv
from tsssm.ops.reference.diagonal import diagonal_scan, project_to_disc
from tsssm.ops.reference.dplr import dplr_scan
from tsssm.ops.reference.features import pooled_scan, readout_scan
from tsssm.ops.reference.gating import gated_mix
from tsssm.ops.reference.liquid import liquid_dplr_scan, liquid_scan
from tsssm.ops.reference.normalization import batch_norm
from tsssm.ops.reference.tridiagonal import tridiagonal_scan

__all__ = [
    "batch_norm",
    "causal_conv",
    "clock_scan",
    "diagonal_scan",
    "dplr_scan",
    "gated_mix",
    "liquid_dplr_scan",
    "liquid_scan",
    "pooled_scan",
    "project_to_disc",
    "readout_scan",
    "tridiagonal_scan",
]
