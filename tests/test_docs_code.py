"""The code blocks of the guides run, each page from top to bottom, on small data under a reader's names.

Blocks that ask for real data are left out by the loader they call. Slower than the other tests of the pages,
so they run with the example scripts: ``make test-scripts``.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [DOCS / "start.rst", *sorted((DOCS / "guides").glob("*.rst"))]
_BLOCK = re.compile(r"^\.\. code-block:: python\n\n((?:   .*\n|\n)+)", re.MULTILINE)
# Loaders of files that lie beside the repository.
_REAL = re.compile(r"\bfetch_\w+\(")

# What a reader has before a page begins.
_ANY = """
import joblib, matplotlib; matplotlib.use("Agg"); joblib.parallel_config("sequential")
import numpy as np, pandas as pd, torch, sklearn
from tsssm import *
from tsssm.training import TrainingOptions

TrainingOptions.total_steps = lambda self, steps_per_epoch: 3
rng = np.random.default_rng(0)
X, y = rng.normal(size=(30, 3, 50)).astype(np.float32), np.tile(["a", "b", "a"], 10)
X[y == "b"] += np.sin(np.arange(50) / 3)
X_train, X_test, y_train, y_test = X[::2], X[1::2], y[::2], y[1::2]
patient = np.repeat(np.arange(15), 2)
"""
_OF_PAGE = {
    "start": """
table = pd.DataFrame({"patient": np.repeat(np.arange(12), 6), "time": np.tile(np.arange(6.0), 12),
                      "variable": np.tile(["HR", "SpO2"], 36), "value": rng.normal(size=72)})
died = pd.Series(np.tile([0, 1], 6), index=range(12))
""",
    "along": """
from tsssm.datasets import make_vitals
vitals = make_vitals(4, duration=20, sampling_rate=10, apnoeas=3.0, random_state=0)
X, y_train = vitals.data, [row for row in vitals.apnoea.astype(int)]
clf = SSMSequenceClassifier(n_layers=1, d_model=4, random_state=0).fit(X, y_train)
proba_left_out, times = clf.predict_proba(X), None
""",
    "deploying": "values = X.transpose(0, 2, 1).copy()\n",
    "forecasting": """
X = Panel.from_arrays([np.sin(np.arange(40.0) / 4 + i) for i in range(12)])
""",
    "saving": """
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
clf = SSMClassifier(random_state=0).fit(X, y)
""",
    "tuning": "X, y, patient = X[:10, :, :20], y[:10], np.arange(10)\n",
    "streaming": """
times = np.cumsum(rng.uniform(0.5, 1.5, size=(30, 50)), axis=1)
monitor = list(zip(X[0].T, times[0]))
X = Panel.from_arrays(list(X), list(times))
""",
}
# Data of other kinds that a page turns to half-way, by the words that its block begins with.
_BEFORE = {
    "reg = SSMSequenceRegressor": "y, new, seconds = vitals.apnoea.astype(float), X, np.arange(1.0, 6.0)\n",
    "from tsssm.events import Viterbi": "from tsssm.events import runs\ntrue = runs(y_train)\n",
    "from tsssm import SSMForecaster": """
y = pd.Series(np.sin(np.arange(600) / 4) + 0.1 * rng.normal(size=600),
              index=pd.period_range("2024-01-01", periods=600, freq="h"))
late = pd.period_range(y.index[-1] + 1, periods=24, freq="h")
X = pd.DataFrame({"warmth": rng.normal(size=600)}, index=y.index)
X_ahead = pd.DataFrame({"warmth": rng.normal(size=24)}, index=late)
""",
    "from sktime.forecasting.compose": """
y = pd.Series(np.sin(np.arange(100) / 4), index=pd.period_range("2024-01-01", periods=100, freq="D"))
""",
}


def blocks(page: Path) -> list[tuple[int, str]]:
    """Line numbers and texts."""
    text = page.read_text(encoding="utf-8")
    found = [
        (text[: match.start(1)].count("\n"), textwrap.dedent(match[1])) for match in _BLOCK.finditer(text)
    ]
    return [(line, block) for line, block in found if not _REAL.search(block)]


@pytest.mark.scripts
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.stem)
def test_blocks_of_a_page_run(page: Path, as_a_user, tmp_path: Path) -> None:
    script = [_ANY, _OF_PAGE.get(page.stem, "")]
    for line, block in blocks(page):
        script += [before for words, before in _BEFORE.items() if block.startswith(words)]
        code = "\n" * line + block  # lines keep their numbers
        script.append(f"exec(compile({code!r}, {str(page)!r}, 'exec'))\nprint('ran', {line})\n")
    (tmp_path / "page.py").write_text("\n".join(script), encoding="utf-8")
    done = as_a_user(tmp_path / "page.py")
    assert len(re.findall("^ran", done.stdout, re.MULTILINE)) == len(blocks(page))
