"""Compiled kernels are kept on disk; this makes sure that they are those of the present sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_SHARED = Path(__file__).parent


def sources_stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, time of change and size of the sources in ``folder`` and of those that all operations share."""
    paths = [*sorted(_SHARED.glob("*.py")), *sorted(folder.glob("*.py"))]
    files = ((path, path.stat()) for path in paths)
    return tuple((path.name, stat.st_mtime_ns, stat.st_size) for path, stat in files)


def stamp(folder: Path, *kernels: Any) -> None:
    """Tie the cache of each kernel of an operation to all sources that it may be made of.

    Numba compares only the file in which a kernel stands, and would go on using it after a change to the
    functions that are inlined into it.
    """
    now = sources_stamp(folder)
    for kernel in kernels:
        kernel._cache._cache_file._source_stamp = now
