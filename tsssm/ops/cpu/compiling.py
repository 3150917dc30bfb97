"""How the parts of a kernel are compiled.

A kernel owns the arrays and its parts only work on them, so the parts do without reference counts. Numba
counts atomically at every call, which costs as much as the recurrence of a short chunk. A part that makes an
array needs the counts and is a plain ``njit(nogil=True)``.
"""

from __future__ import annotations

from numba import njit

# A function of its own: compiled once, called by whoever needs it. It takes arrays and plain numbers.
routine = njit(nogil=True, _nrt=False)
# Compiled into its caller; it may take registers.
inline = njit(forceinline=True, _nrt=False)
