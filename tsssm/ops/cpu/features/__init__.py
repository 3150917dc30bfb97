"""Pooled readouts of many fixed systems over ragged series: recurrence, readouts and pooling in one pass.

From the bottom up: ``states`` (input and states of a chunk), ``pooling`` (eight readouts of a chunk and what
is kept of them), ``passes`` (the loops over series and groups), ``scan`` (the operation on tensors),
``resumed`` (the same for one series that comes piece by piece).

A chunk of states is all that exists at one time: memory beside the result depends neither on the number of
readouts nor on the length. Each number of the result is a sum in a fixed order, whoever computes it, so that
the result does not depend on the number of threads.
"""

from tsssm.ops.cpu.features.resumed import ResumedScan
from tsssm.ops.cpu.features.scan import pooled_scan, readout_scan

__all__ = ["ResumedScan", "pooled_scan", "readout_scan"]
