"""The diagonal scan: two passes over a block of W channels, chunk by chunk in time, mode by mode in a chunk.

From the bottom up: ``recurrence`` (a mode over a chunk, in general), ``liquid`` (with liquid terms),
``plain``, ``regular_liquid`` and ``irregular_liquid`` (most calls, which can be spared much arithmetic),
``forward`` and ``backward`` (the two passes), ``scan`` (the operation on tensors).

States live in registers and in buffers of one chunk. The forward pass leaves the state before each chunk
behind (``saved``), from which the backward pass recomputes the others, so that no array of size
(batch, L, H, N) ever exists. A call of a pass handles blocks ``first`` to ``last`` of the channels and series
``b0`` to ``b1`` of the batch; calls on different ranges may run at the same time.

K directions (one or two, the second opposite to the first and always from rest) have readouts of their own
and add up. Complex arrays arrive as real ones with a last axis of two.
"""

from tsssm.ops.cpu.diagonal.scan import diagonal_scan, diagonal_scan_adjoint, saved_shape

__all__ = ["diagonal_scan", "diagonal_scan_adjoint", "saved_shape"]
