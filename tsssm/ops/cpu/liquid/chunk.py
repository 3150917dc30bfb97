"""What both recurrences of Liquid-S4 share within a chunk of samples: kernels, and rows of the samples.

Buffers of a chunk are flat and hold W numbers a sample, in the order of the scan. A complex buffer has a real
and then an imaginary plane: ``X`` (states) of `CHUNK` + 1 samples, entry 0 being the state before the chunk;
``R`` (what the readout sees) and the others of `CHUNK`. A state of the scan has ``order`` slots: the chain
for the kernel "exact"; x and then the last order - 1 bounded inputs, newest first, for the others.
"""

from __future__ import annotations

from typing import Any

from tsssm.ops.cpu.compiling import inline

EXACT, KB, PB = range(3)


@inline
def look_up(
    gaps: Any, index: Any, dt: Any, d: int, b: int, span: Any, length: int, which: Any, delta: Any, seen: Any
) -> None:
    """The row and the gap of each sample of a chunk, and how many samples before it have a positive gap.

    ``gaps``, ``index`` and ``dt`` are those of the passes; ``span`` is that of `tsssm.ops.cpu.blocks.read`.
    """
    start, count, backwards = span
    for k in range(count):
        t = length - 1 - start - k if backwards else start + k
        if gaps.size == 0:
            which[k] = k
            delta[k] = dt[d, b, t]
        else:
            which[k] = index[d, b, t] if gaps.size > 1 else 0
            delta[k] = gaps[which[k]]
        seen[k + 1] = seen[k] + (1 if delta[k] > 0 else 0)
