"""Numba backend: the same arguments and results as ``tsssm.ops.reference``, and the adjoints by hand.

Shared by all operations, from the bottom up: ``compiling`` makes kernels of functions, ``caching`` keeps them
on disk; ``buffers`` and ``simd`` (registers of channels, real and complex), ``lanewise`` and ``elementary``
(functions of registers), ``blocks`` (gather, copy, read out, scatter), ``bounds`` (of liquid terms),
``coefficients`` (of a step) and ``nodes`` (of steps that are all different), ``passes`` (over the samples of
a series); ``gaps`` (the gaps of a call), ``allocation`` and ``memory``, ``layout`` and ``threads`` (who does
what), ``calls`` (tensors before and after kernels). Each operation has a folder of its own: its kernels, and
the function on tensors.

What takes or returns registers is inlined into its caller. What takes arrays alone, and does the work of a
chunk in a call, is a function of its own. Operands travel in named tuples, whose types say which part of a
`compiling.Choice` is taken: a kernel has in it what its call needs, and nothing else.
"""
