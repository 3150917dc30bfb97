"""Pooled readouts of many fixed systems over ragged series, in one launch.

A program is one warp. It takes one series through one group and keeps a tile of readouts, from the first
sample of the series to the last: ``states`` has the input and the states of a tile of samples, ``pooling``
the kernel, ``scan`` the operation on tensors. Within a tile the states of a diagonal system are a scan over
the samples at once, since transitions compose; those of a dense one come one after the other.

Nothing leaves the registers but what is kept, so that memory beside the result depends neither on the number
of readouts nor on the length. No series knows of another, and every sum has its order: the same call gives
the same bits.
"""

from tsssm.ops.gpu.features.scan import pooled_scan

__all__ = ["pooled_scan"]
