"""The operations in plain PyTorch, without a Python step for every sample: for devices that have no kernels.

They equal ``reference``, forward and gradient, with its signatures. A chunk of time is a few dozen operations
on whole tensors: recurrences are folded in pairs (``linear``), and what a diagonal plus low-rank system feeds
back is the solution of one triangular system a chunk (``dplr``). The only loop over time is that over chunks,
each at least 64 samples long, whose intermediate results are computed again for the gradient.

=============================  =========================================  ============================
operation                      within a chunk of T samples                work a sample and channel
=============================  =========================================  ============================
diagonal, liquid, clocks       folding in pairs, numbers                  N
liquid, truncated at order p   folding in pairs, polynomials of degree p  N p^2
diagonal plus low-rank         products with T x T matrices               N T
the same, liquid               that, once for an order, or for a sweep    N T p
tridiagonal, dense features    folding in pairs, N x N matrices           N^3
=============================  =========================================  ============================

Nothing is divided by a product of transitions and no logarithm is taken, so that a gap of any length, over
which a mode vanishes, is a factor of zero and nothing else.
"""

from tsssm.ops.chunked.clocks import clock_scan
from tsssm.ops.chunked.diagonal import diagonal_scan
from tsssm.ops.chunked.dplr import dplr_scan
from tsssm.ops.chunked.features import pooled_scan, readout_scan
from tsssm.ops.chunked.liquid import liquid_scan
from tsssm.ops.chunked.liquid_dplr import liquid_dplr_scan
from tsssm.ops.chunked.tridiagonal import tridiagonal_scan

__all__ = [
    "clock_scan",
    "diagonal_scan",
    "dplr_scan",
    "liquid_dplr_scan",
    "liquid_scan",
    "pooled_scan",
    "readout_scan",
    "tridiagonal_scan",
]
