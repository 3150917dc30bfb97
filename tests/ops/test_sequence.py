"""Gaps seen from the other end."""

from __future__ import annotations

import pytest
import torch
from systems import METHODS, make_gaps, make_problem

from tsssm.ops import diagonal_scan, last_sample, reached_samples, reversed_gaps


def test_reversed_gaps_by_hand() -> None:
    dt = torch.tensor([[5.0, 1, 2, 3], [5, 1, 0, 0], [5, 0, 2, 0], [0, 0, 0, 0]])
    expected = torch.tensor([[1.0, 2, 3, 5], [1, 5, 0, 0], [0, 2, 5, 0], [0, 0, 0, 0]])
    assert torch.equal(reversed_gaps(dt), expected)
    assert last_sample(dt).tolist() == [3, 1, 2, 0]
    assert reached_samples(dt[:3]).sum(1).tolist() == [4, 2, 3]


@pytest.mark.parametrize("method", METHODS)
def test_reverse_is_the_scan_of_the_reversed_series(method: str | float) -> None:
    problem = make_problem(length=37, gaps="distinct")
    dt = make_gaps("distinct", 2, 37, torch.Generator().manual_seed(9))
    backward, _ = diagonal_scan(*problem[:5], dt, method=method, reverse=True)
    turned = torch.cat([dt[:, :1], dt[:, 1:].flip(1)], dim=1)
    expected, _ = diagonal_scan(problem.u.flip(1), *problem[1:5], turned, method=method)
    torch.testing.assert_close(backward, expected.flip(2), rtol=1e-12, atol=1e-12)
