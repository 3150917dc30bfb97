"""Files of every version are read, their models say what they said, and they hold what is declared."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_files import MODELS

from tsssm import load
from tsssm.persistence import FORMAT_VERSION, kinds
from tsssm.persistence._trees import _READERS

FOLDERS = sorted(path for path in (Path(__file__).parent / "files").iterdir() if path.is_dir())
FILES = [path for folder in FOLDERS for path in sorted(folder.glob("*.safetensors"))]
OF_TODAY = sorted(FOLDERS[-1].glob("*.safetensors"))
PAGE = (Path(__file__).parents[1] / "docs" / "guides" / "model_files.rst").read_text(encoding="utf-8")


def test_the_files_of_this_version_are_there():
    assert {path.stem for path in OF_TODAY} == set(MODELS)
    assert {path.name for path in FOLDERS} == {"0.1.0", "format-2"}
    assert sum(path.stat().st_size for path in OF_TODAY) < 350_000


@pytest.mark.filterwarnings("ignore::tsssm.DataWarning")
@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_they_are_read_and_say_the_same(path):
    with np.load(path.parent / "answers.npz") as answers:
        expected = answers[path.stem]
    np.testing.assert_allclose(MODELS[path.stem][1](load(path)), expected, rtol=1e-4, atol=1e-5)


def as_the_page_reads_it(path: Path) -> Any:
    """What the code of the page makes of a file, without tsssm."""
    code = textwrap.dedent(re.findall(r"code-block:: python\n\n((?:   .*\n|\n)+)", PAGE)[0])
    assert "tsssm" not in code
    names: dict[str, Any] = {}
    exec(code, names)
    return names["read_model_file"](path)


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """All objects in what was read."""
    if isinstance(value, dict):
        yield from [value] if "class" in value else []
        for one in value.values():
            yield from objects(one)
    elif isinstance(value, list):
        for one in value:
            yield from objects(one)


def test_files_hold_what_is_declared_and_no_private_name():
    found: dict[str, set[str]] = {}
    for path in OF_TODAY:
        for one in objects(as_the_page_reads_it(path)):
            kind = kinds[one["class"]]
            assert one["version"] == kind.version, "counted up? then keep files of it in a folder of its own"
            fields = one.keys() - {"class", "version"}
            assert not [name for name in fields if name.startswith("_") or name not in kind.holds], kind.name
            found.setdefault(kind.name, set()).update(fields)
    for name, kind in kinds.items():
        assert all(what and not what.endswith(".") for what in kind.holds.values()), name
    # And what is declared is held somewhere, but for a pretraining, and for estimators of scikit-learn.
    held = {(field, kinds[name].holds[field]) for name, fields in found.items() for field in fields}
    declared = {pair for name in found for pair in kinds[name].holds.items()}
    assert {field for field, _ in declared - held} == {
        "pretrained_targets_",
        "pretrained_clock_",
        "pretrained_network_",
    }
    own = {name for name, kind in kinds.items() if kind.cls.__module__.startswith("tsssm.")}
    assert own - found.keys() == {"Composite", "Template"}


def test_the_page_reads_a_file_and_names_every_key():
    assert set(re.findall(r"^   \* - ``(.*)``$", PAGE, re.MULTILINE)) == set(_READERS)
    assert f"``format_version`` is {FORMAT_VERSION}" in PAGE
    path = FOLDERS[-1] / "features_regressor.safetensors"
    found, model = as_the_page_reads_it(path), load(path)
    assert (found["class"], found["parameters"]["n_features"]) == ("SSMFeaturesRegressor", 64)
    np.testing.assert_array_equal(found["coef_"], model.coef_)
    systems = found["features_"]["systems"]
    np.testing.assert_array_equal(systems["A"], model.features_._systems["A"].numpy())
    assert found["targets"]["errors"]["scores"].shape == (24, 1)
