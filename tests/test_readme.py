"""The code blocks of the README run as a user runs them, but for a few steps of training."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)

# Lines of a block keep their numbers in the README.
SCRIPT = """
import re, sys
from pathlib import Path
from tsssm.training import TrainingOptions

TrainingOptions.total_steps = lambda self, steps_per_epoch: 3
text = Path(sys.argv[1]).read_text(encoding="utf-8")
for block in re.finditer(r"^```python\\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
    lines = text[: block.start(1)].count("\\n")
    exec(compile("\\n" * lines + block[1], sys.argv[1], "exec"), {"__name__": "__main__"})
    print("ran", lines)
"""


def test_the_code_blocks_run_without_a_word_of_complaint(as_a_user):
    done = as_a_user("-c", SCRIPT, README)
    assert len(BLOCKS) >= 4
    assert len(re.findall("^ran", done.stdout, re.MULTILINE)) == len(BLOCKS)
    assert not done.stderr
