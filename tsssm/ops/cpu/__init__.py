"""Numba backend: the same arguments and results as ``tsssm.ops.reference``, and the adjoints by hand.

Shared by all operations, from the bottom up: ``simd`` (a register of channels), ``elementary`` (exp, sin,
cos), ``rows`` (discretised coefficients), ``blocks`` (gather, copy, collect), ``nodes`` (coefficients at gaps
that are all different), ``sums`` (their gradients), ``readout``, ``disc`` (the bound of liquid terms),
``gaps`` (the gaps of a call), ``allocation`` (memory for results), ``layout`` and ``threads`` (who does
what); ``compiling`` makes kernels of functions, ``caching`` keeps them on disk. Each operation has a folder
of its own: its kernels, and the function on tensors. No operation imports from the folder of another.

What takes or returns registers is inlined into its caller. What takes arrays alone, and does the work of a
chunk in a call, is compiled as a function of its own: that halves the time of compilation and costs nothing.
"""
