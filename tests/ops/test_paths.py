"""The choice between scan and convolution, in the cases that are clear."""

from __future__ import annotations

import pytest
import torch

from tsssm.ops.paths import prefers_convolution

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("length", [1, 100, 10_000])
@pytest.mark.parametrize("operation", ["diagonal", "dplr", "dense"])
def test_one_series_is_scanned_on_the_cpu_and_convolved_elsewhere(operation: str, length: int) -> None:
    assert not prefers_convolution(operation, 1, length, 64, CPU)
    assert prefers_convolution(operation, 1, length, 64, CUDA)


def test_on_the_cpu_many_series_of_many_modes_are_convolved_unless_they_are_long() -> None:
    assert prefers_convolution("dplr", 32, 256, 64, CPU)
    assert not prefers_convolution("dplr", 32, 1024, 8, CPU)
    assert not prefers_convolution("dplr", 32, 2**14, 32, CPU)


def test_the_cheaper_the_scan_the_longer_it_is_preferred() -> None:
    assert prefers_convolution("dplr", 32, 1024, 32, CPU)
    assert not prefers_convolution("diagonal", 32, 1024, 32, CPU)
    assert prefers_convolution("diagonal", 32, 1024, 128, CPU)


def test_powers_of_a_dense_matrix_are_left_to_other_devices() -> None:
    assert not prefers_convolution("dense", 128, 256, 64, CPU)


def test_the_convolution_changes_its_way_where_the_choice_thinks_it_does() -> None:
    from tsssm.ops import paths
    from tsssm.ops.cpu.convolution.conv import LONGEST_DIRECT

    assert paths._LONGEST_DIRECT == LONGEST_DIRECT
