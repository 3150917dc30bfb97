"""What the tests of LSSL run twice: with a trained system and with a fixed one."""

from __future__ import annotations

import pytest

FIXED = {"train_A": False, "train_B": False, "train_dt": False}
TRAINED = pytest.mark.parametrize("options", [{}, FIXED], ids=["trained", "fixed"])
