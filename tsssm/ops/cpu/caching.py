"""Compiled kernels on disk: in which folders they are kept, and of which sources they are.

Each is a file that holds a digest and an entry, in the first of `folders` that takes it; what does not fit
its digest, as after a crash or on a full disk, counts as absent. Whoever can write into a folder decides what
its readers execute. So those that do not belong to the installation must belong to the user alone.
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path

_log = logging.getLogger(__name__)
_SHARED = Path(__file__).parent
_DIGEST = sha256().digest_size


@cache
def sources_stamp(folder: Path) -> str:
    """Digest of the sources in ``folder`` and of those that all operations share.

    A kernel is made of both, by way of the functions that it calls; their times would change with every copy.
    """
    files = sorted({*_SHARED.glob("*.py"), *folder.glob("*.py")})
    return sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:16]


def folders(make: bool = False) -> Iterator[Path]:
    """Where entries may be: in the folder that NUMBA_CACHE_DIR names or else the package, then elsewhere.

    Folders elsewhere belong to the user. They are made, if ``make``; else those that exist count.
    """
    # Copies of the package keep apart, since each removes the entries of other sources than its own.
    installation = sha256(str(_SHARED).encode()).hexdigest()[:16]
    configured = os.environ.get("NUMBA_CACHE_DIR")
    yield Path(configured, "tsssm", installation) if configured else _SHARED / "__pycache__"
    for private in (_user_folder(), _temporary_folder()):
        if private is not None and _belongs_to_user(private, make):
            yield private / installation


def _user_folder() -> Path | None:
    import pooch

    try:
        folder = Path(pooch.os_cache("tsssm"), "kernels")
    except (OSError, RuntimeError):  # the user has no home; other versions of what pooch asks leave a "~"
        return None
    return folder if folder.is_absolute() else None


def _temporary_folder() -> Path | None:
    user = f"-{os.getuid()}" if hasattr(os, "getuid") else ""
    try:
        return Path(tempfile.gettempdir(), f"tsssm{user}")
    except OSError:  # none can be written
        return None


def _belongs_to_user(folder: Path, make: bool) -> bool:
    """Whether nobody else can write into a folder; one that is made can be entered by nobody else."""
    try:
        if make:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    mine = not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022)
    return stat.S_ISDIR(found.st_mode) and mine


def kept() -> Iterator[tuple[Path, list[Path]]]:
    """The folders, and the entries in each."""
    for folder in folders():
        yield folder, sorted(folder.glob(f"{__package__}.*-*-*"))


def entries(kernel: str, stamp: str, key: str) -> Iterator[bytes]:
    """Sound entries, those of earlier folders first."""
    for folder in folders():
        try:
            data = (folder / f"{kernel}-{stamp}-{key}").read_bytes()
        except OSError:
            continue
        if sha256(data[_DIGEST:]).digest() == data[:_DIGEST]:
            yield data[_DIGEST:]


def save(kernel: str, stamp: str, key: str, entry: bytes) -> None:
    """Keep an entry in the first folder that takes it, and drop those of the kernel from other sources."""
    for folder in folders(make=True):
        part = folder / f"{kernel}-{stamp}-{key}.{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                part.write_bytes(sha256(entry).digest() + entry)
                part.replace(part.with_suffix(""))
            finally:
                part.unlink(missing_ok=True)
            for other in folder.glob(f"{kernel}-*"):
                if not other.name.startswith(f"{kernel}-{stamp}-"):
                    other.unlink(missing_ok=True)
            return
        except OSError:
            continue
    _say_that_nothing_is_kept()


@cache
def say_that_kernels_are_compiled() -> None:
    """Log it, the first time: this is what a process without kept kernels waits for."""
    _log.info("Compiling kernels, to be kept in %s; `python -m tsssm` says where they are.", next(folders()))


@cache
def _say_that_nothing_is_kept() -> None:
    _log.warning(
        "Compiled kernels cannot be kept, so that every process compiles its own: neither the package nor "
        "the user's cache nor a temporary folder can be written. NUMBA_CACHE_DIR may name a folder."
    )
