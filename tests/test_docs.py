"""The documentation names what exists, and all of it; ``make docs`` builds it with warnings as errors."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

import tsssm

DOCS = Path(__file__).parents[1] / "docs"
PACKAGE = Path(tsssm.__file__).parent
PAGES = sorted(DOCS.rglob("*.rst"))
PAGES = [page for page in PAGES if page.parts[len(DOCS.parts)] not in ("_build", "generated", "pictures")]

# Modules whose docstrings have examples.
WITH_EXAMPLES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


def named(text: str) -> set[str]:
    """Dotted names of the package in a page."""
    return set(re.findall(r"\btsssm(?:\.\w+)+", text.replace("tsssm.sktime", "")))


def resolved(name: str) -> Any:
    """What a dotted name stands for."""
    parts = name.split(".")
    found: Any = importlib.import_module(parts[0])
    for number, part in enumerate(parts[1:], 2):
        try:
            found = getattr(found, part)
        except AttributeError:
            found = importlib.import_module(".".join(parts[:number]))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_name_exists(page: Path) -> None:
    for name in named(page.read_text(encoding="utf-8")):
        assert resolved(name) is not None, name


def test_every_public_name_is_in_the_reference() -> None:
    reference = named((DOCS / "api.rst").read_text(encoding="utf-8"))
    public = {f"tsssm.{name}" for name in tsssm.__all__ if not name.startswith("_")}
    for module in ("inspection", "layers", "plotting"):
        public |= {f"tsssm.{module}.{name}" for name in getattr(tsssm, module).__all__}
    assert not public - reference


def test_every_equation_of_the_mathematics_names_its_function() -> None:
    """Each section between symbols and papers says where it is computed."""
    text = (DOCS / "mathematics.rst").read_text(encoding="utf-8")
    sections = re.split(r"\n(?=[^\n]+\n-{3,}\n)", text)[1:]
    titles = {section.partition("\n")[0]: section for section in sections}
    assert len(titles) >= 10
    for title, section in titles.items():
        if title not in ("Symbols", "The system", "Papers"):
            assert named(section), title


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_of_docstrings(module: str) -> None:
    found = doctest.testmod(importlib.import_module(module.removesuffix(".__init__")))
    assert found.attempted and not found.failed
