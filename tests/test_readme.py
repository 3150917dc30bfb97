"""The code blocks of the README run, each by itself, with a few steps of training."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tsssm.training import TrainingOptions

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_there_are_code_blocks():
    assert len(BLOCKS) >= 2


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_a_code_block_runs(code, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(TrainingOptions, "total_steps", lambda self, steps_per_epoch: 3)
    exec(compile(code, str(README), "exec"), {"__name__": "__main__"})
