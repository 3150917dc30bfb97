"""What is known of each collection without its data: sources, checksums, splits, and its card."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any


@functools.cache
def registry() -> dict[str, Any]:
    """Entries of ``datasets/registry.json`` by name of the collection."""
    return json.loads((_folder() / "registry.json").read_text(encoding="utf-8"))


def card(name: str) -> str:
    """Text of the data card ``datasets/cards/NAME.md``."""
    return (_folder() / "cards" / f"{name}.md").read_text(encoding="utf-8")


def _folder() -> Path:
    # In a wheel the registry lies inside the package; in the source tree it is the folder beside it.
    package = Path(__file__).resolve().parents[1]
    inside = package / "_datasets_registry"
    return inside if inside.exists() else package.parent / "datasets"
