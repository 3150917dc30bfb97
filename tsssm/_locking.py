"""Files that one process at a time may write."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]


class FileLock:
    """A lock that goes with a file of its own and with this process, however that ends.

    Parameters
    ----------
    path : Path
        The file, made here and removed by `release`.

    Attributes
    ----------
    held : bool
        Whether nobody else has the lock. True where locks are not known: on Windows, and on some network
        file systems.
    exclusive : bool
        Whether others are sure not to have it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self.held, self.exclusive = True, False
        if fcntl is None:
            return
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(descriptor)
                self.held = not isinstance(error, BlockingIOError)
                return
            # Whoever had it before may have removed the file after it was opened here.
            if _is_at(descriptor, path):
                self._descriptor = descriptor
                self.exclusive = True
                return
            os.close(descriptor)

    def release(self) -> None:
        """Let others have the lock, and remove its file."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
            os.close(self._descriptor)
            self._descriptor = None


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one of this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
