"""The distinct gaps of a call against a sort."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scans import BOTH_DTYPES

from tsssm.ops.cpu import gaps

U = torch.zeros(4, 300, 2)


def expected_order(dt: torch.Tensor) -> np.ndarray:
    values, first = np.unique(dt.numpy(), return_index=True)
    return values[np.argsort(first)]


@BOTH_DTYPES
@pytest.mark.parametrize("kinds", [1, 2, 7, 64])
def test_distinct_gaps_are_those_of_a_sort(kinds: int, dtype: torch.dtype) -> None:
    random = torch.Generator().manual_seed(kinds)
    values = torch.rand(kinds, generator=random, dtype=dtype) * 10.0 ** torch.randint(
        -6, 6, (kinds,), generator=random
    )
    dt = values[torch.randint(0, kinds, (2, 4, 300), generator=random)].to(dtype)
    found, index, each = gaps.distinct_gaps(U.to(dtype), dt, modes=8)
    np.testing.assert_array_equal(found, expected_order(dt))
    np.testing.assert_array_equal(found[index], dt)
    assert each.dtype == found.dtype and index.shape == dt.shape


def test_gaps_laid_out_otherwise() -> None:
    dt = torch.arange(4 * 300).remainder(5).float().reshape(1, 300, 4).transpose(1, 2)
    assert not dt.is_contiguous()
    found, index, _ = gaps.distinct_gaps(U, dt, modes=8)
    np.testing.assert_array_equal(found[index], dt)


def test_more_gaps_than_pay_are_not_shared() -> None:
    dt = torch.ones(1, 4, 300)
    dt[0, 0, :64] = torch.arange(64)
    assert gaps.distinct_gaps(U, dt, modes=8)[0].size == 64  # all that there is room for
    dt[0, 3, 299] = 1.5
    found, index, each = gaps.distinct_gaps(U, dt, modes=8)
    assert found.size == 0 and index.size == 0
    np.testing.assert_array_equal(each, dt)
    assert gaps.distinct_gaps(U, dt, modes=8, budget=8 * 65)[0].size == 65


def test_gaps_that_equal_none() -> None:
    dt = torch.tensor([[[0.0, math.nan, 1.0, math.nan, -0.0, 0.0, 1.0, 1.0] * 4]])
    found, index, _ = gaps.distinct_gaps(U, dt, modes=8)
    np.testing.assert_array_equal(found[index], dt)
    assert np.isnan(found).sum() == 1


def test_a_table_of_nodes_reaches_a_few_mean_gaps() -> None:
    dt = torch.rand(1, 4, 300, generator=torch.Generator().manual_seed(0))
    dt[0, 1, 7] = 1e6
    none = np.empty(0, np.float32)
    reach, typical = gaps.extent(U, dt, none, True)
    assert reach == pytest.approx(4 * dt.mean().item())
    assert typical == pytest.approx((dt**2).sum().item() / dt.sum().item(), rel=1e-5)
    dt[0, 1, 7] = 0.5
    assert gaps.extent(U, dt, none, True)[0] == dt.max().item()
    assert gaps.extent(U, dt, none, False)[0] == math.inf
    assert gaps.extent(U, None, none, True) == (math.inf, 1.0)
