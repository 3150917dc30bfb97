"""Memory for large results."""

from __future__ import annotations

import pytest
import torch

from tsssm.ops.cpu.allocation import _LARGE, empty, empty_like


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.int16])
@pytest.mark.parametrize("numbers", [0, 12, _LARGE])
def test_tensors_are_whole_aligned_and_their_own(numbers, dtype):
    first, second = empty((2, numbers // 2), dtype), empty((2, numbers // 2), dtype)
    for tensor in (first, second):
        assert tensor.shape == (2, numbers // 2) and tensor.dtype == dtype and tensor.is_contiguous()
        assert tensor.data_ptr() % 64 == 0
    first.fill_(1)
    second.fill_(2)
    assert (first == 1).all()


def test_memory_outlives_the_call():
    """The tensor keeps what it is a view of."""
    tensors = [empty((_LARGE // 4,), torch.float32).fill_(i) for i in range(3)]
    assert [tensor.unique().tolist() for tensor in tensors] == [[0], [1], [2]]


def test_strides_are_not_taken_over():
    assert empty_like(torch.zeros(3, 5).t()).stride() == (3, 1)
