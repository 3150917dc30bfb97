"""The scan of diagonal plus low-rank systems, sample after sample with the state in registers.

What a step feeds back couples all modes, so that no two chunks of time can be run at once as in the diagonal
scan: a program takes a channel of a series, or a few, from end to end. One launch a direction each way; the
adjoint computes the states again from those that were kept before every few samples.
"""

from tsssm.ops.gpu.dplr.scan import dplr_scan, dplr_scan_adjoint, saved_shapes

__all__ = ["dplr_scan", "dplr_scan_adjoint", "saved_shapes"]
