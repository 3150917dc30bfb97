"""The choice between scan and convolution, in the cases that are clear."""

from __future__ import annotations

import pytest
import torch

from tsssm.ops.paths import prefers_convolution

CPU = torch.device("cpu")


@pytest.mark.parametrize("length", [1, 100, 10_000])
def test_on_the_cpu_one_series_is_scanned(length: int) -> None:
    assert not prefers_convolution(1, length, 64, CPU)
    assert prefers_convolution(1, length, 64, torch.device("cuda"))


def test_on_the_cpu_many_series_of_many_modes_are_convolved_unless_they_are_long() -> None:
    assert prefers_convolution(32, 256, 32, CPU)
    assert not prefers_convolution(32, 256, 2, CPU)
    assert not prefers_convolution(32, 2**20, 32, CPU)
