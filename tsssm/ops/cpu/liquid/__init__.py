"""The forms of Liquid-S4 by orders of input correlation, over a diagonal system.

From the bottom up: ``chunk`` (what both recurrences share), ``chain`` (the truncated recurrence) and
``correlation`` (the kernels K-B and P-B) of one mode over a chunk, ``forward`` and ``backward`` (the two
passes), ``scan`` (the operation on tensors). The passes are laid out like those of the diagonal scan: the
forward one leaves the states before each chunk behind (``saved``), from which the backward one recomputes
the others; a call handles blocks ``first`` to ``last`` of the channels and
series ``b0`` to ``b1`` of the batch; K directions have readouts of their own and add up.
"""

from tsssm.ops.cpu.liquid.scan import liquid_scan, liquid_scan_adjoint, saved_shape

__all__ = ["liquid_scan", "liquid_scan_adjoint", "saved_shape"]
