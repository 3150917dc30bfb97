"""The diagonal scan over chunks of time at once.

Three launches a direction: every chunk from rest (`forward.scan_chunks`), the states between chunks
(`chunks.join_chunks`), and every chunk again from its state for the outputs. The adjoint does the same the
other way round and ends in `backward.gradients`. A sequence of one chunk needs the last launch alone.

From the forward pass only the state before every few samples is kept; the others live in registers.
"""

from tsssm.ops.gpu.diagonal.scan import diagonal_scan, diagonal_scan_adjoint, saved_shape

__all__ = ["diagonal_scan", "diagonal_scan_adjoint", "saved_shape"]
