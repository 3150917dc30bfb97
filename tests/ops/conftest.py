from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any

import pytest
import torch

from tsssm.ops.cpu import layout
from tsssm.ops.cpu.compiling import Kernel


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Sets the number of threads, restored afterwards, and lets small calls use them."""
    monkeypatch.setattr(layout, "_MIN_WORK_PER_THREAD", 1)
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


_KEYS: dict[tuple[Kernel, Hashable], Any] = {}


@pytest.fixture(autouse=True)
def keys_determine_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever scans are called with: operands of a kernel with one key have the same types."""
    by = Kernel.by

    def checked(self: Kernel, key: Hashable) -> Callable[..., Any]:
        def run(*operands: Any) -> Any:
            types = tuple(map(self.typeof_pyval, operands))
            assert _KEYS.setdefault((self, key), types) == types, key
            return by(self, key)(*operands)

        return run

    monkeypatch.setattr(Kernel, "by", checked)
