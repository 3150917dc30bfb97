"""Records and annotations in PhysioNet's WFDB format, by the package ``wfdb``."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def reader() -> Any:
    """Return the package ``wfdb``.

    Raises
    ------
    ImportError
        Where it is not installed; says how to.
    """
    try:
        import wfdb
    except ImportError as error:
        raise ImportError(
            "The publisher's files are in the WFDB format, which the package wfdb reads: pip install "
            "'tsssm[wfdb]'."
        ) from error
    return wfdb


def stem(path: Path) -> str:
    """What ``wfdb`` calls a record: its path without the ending."""
    return str(path.with_suffix(""))
