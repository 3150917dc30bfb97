from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from tsssm.ops.cpu import layout


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Sets the number of threads, restored afterwards, and lets small calls use them."""
    monkeypatch.setattr(layout, "_MIN_WORK_PER_THREAD", 1)
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
