"""Compiled kernels are kept on disk; this makes sure that they are those of the present sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent


def sources_stamp() -> tuple[tuple[str, int, int], ...]:
    """Name, time of change and size of every source file that the kernels are made of."""
    files = ((path, path.stat()) for path in sorted(_FOLDER.glob("*.py")))
    return tuple((path.name, stat.st_mtime_ns, stat.st_size) for path, stat in files)


def stamp(*kernels: Any) -> None:
    """Tie the cache of each kernel to all sources of this folder.

    Numba compares only the file in which a kernel stands, and would go on using it after a change to the
    functions that are inlined into it.
    """
    now = sources_stamp()
    for kernel in kernels:
        kernel._cache._cache_file._source_stamp = now
