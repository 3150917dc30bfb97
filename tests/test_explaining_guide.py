"""The guide on explanations runs from top to bottom, and says what is so."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("captum")
matplotlib.use("Agg")

GUIDE = Path(__file__).parents[1] / "docs" / "guides" / "explaining.rst"


def test_the_guide_runs():
    import matplotlib.pyplot as plt

    text = GUIDE.read_text(encoding="utf-8")
    blocks = re.findall(r"\.\. code-block:: python\n\n((?:   .*\n|\n)+)", text)
    assert len(blocks) >= 7
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(textwrap.dedent(block), str(GUIDE), "exec"), names)
        plt.close("all")
    assert abs(names["opened"].delta).max() < 1e-9  # type: ignore[attr-defined]
