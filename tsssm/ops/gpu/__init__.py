"""Triton kernels of the operations, for CUDA devices: one folder each, what they share directly here.

They compute in float32 what ``reference`` specifies. ``TRITON_INTERPRET=1`` runs them on CPU tensors.
"""
