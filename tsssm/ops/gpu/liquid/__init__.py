"""The forms of Liquid-S4 by orders of input correlation, over chunks of time at once.

From the bottom up: ``forms`` (one sample of each form, and its adjoint), ``past`` (what a chunk sees of those
before it), ``forward`` and ``backward`` (the passes over chunks), ``scan`` (the operation on tensors).
Launches are those of the diagonal scan.

The truncated recurrence is a diagonal scan over polynomials, see ``tsssm.ops.gpu.slots``. For the kernels K-B
and P-B the state is driven by products of an input with those before it. These are known in advance, so that
each chunk looks up the last inputs before it, and sends their gradients back to them at the end.
"""

from tsssm.ops.gpu.liquid.scan import liquid_scan, liquid_scan_adjoint, saved_shape

__all__ = ["liquid_scan", "liquid_scan_adjoint", "saved_shape"]
