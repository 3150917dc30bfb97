"""Files of every version that was published are read, and their models say what they said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from model_files import MODELS

from tsssm import load

FOLDERS = sorted(path for path in (Path(__file__).parent / "files").iterdir() if path.is_dir())
FILES = [path for folder in FOLDERS for path in sorted(folder.glob("*.safetensors"))]


def test_the_files_of_this_version_are_there():
    assert {path.stem for path in FOLDERS[-1].glob("*.safetensors")} == set(MODELS)


@pytest.mark.filterwarnings("ignore::tsssm.DataWarning")
@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_they_are_read_and_say_the_same(path):
    with np.load(path.parent / "answers.npz") as answers:
        expected = answers[path.stem]
    np.testing.assert_allclose(MODELS[path.stem][1](load(path)), expected, rtol=1e-4, atol=1e-5)
