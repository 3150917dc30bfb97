"""Where the files of a collection come from: a copy of the user's, the cache, or the publisher.

Archives are read member by member and never unpacked to disk, so that no name in one can reach out of a
folder.
"""

from __future__ import annotations

import http.client
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from tsssm.datasets._download import BROKEN, digest_of, download
from tsssm.datasets._registry import registry

# Bytes of a file where the registry does not say more, and of a member of an archive.
_LARGEST, _LARGEST_MEMBER = 2**33, 2**33


class Store(NamedTuple):
    """The arguments ``data_home`` and ``download_if_missing`` of a fetcher."""

    home: str | os.PathLike[str] | None
    download: bool

    def find(self, name: str, file: str) -> Path | None:
        """Return the user's own copy of a file, used as it is; None where there is none.

        It lies under ``data_home`` or else under the folder that TSSSM_DATA names.
        """
        folder = os.environ.get("TSSSM_DATA") if self.home is None else self.home
        path = Path(folder, name, file).expanduser() if folder else None
        return path if path is not None and path.exists() else None

    def matching(self, name: str, pattern: str) -> list[Path]:
        """Return the user's own copies of files whose names match a pattern, sorted."""
        folder = os.environ.get("TSSSM_DATA") if self.home is None else self.home
        return sorted(Path(folder, name).expanduser().glob(pattern)) if folder else []

    def get(self, name: str, file: str, **fields: Any) -> Path:
        """Return where a file of the collection ``name`` lies, after downloading it if need be.

        ``fields`` fill in the address of the registry, beside ``file``. Under TSSSM_DATA a file is used as it
        is. In ``data_home`` and the cache it is compared with its checksum: that of the registry, or else
        that of its first download, which shows changes on this disk, but not whether it was the publisher's
        file. Where these differ it is fetched again.

        Raises
        ------
        FileNotFoundError
            Where there is no such file and it cannot, or must not, be downloaded.
        ConnectionError
            Where the publisher does not answer, not in full, not encrypted, or with more than a file of the
            collection may have.
        ValueError
            For a download whose checksum is not that of the registry.
        """
        if self.home is None and (found := self.find(name, file)) is not None:
            return found
        entry = registry()[name]
        target = self.place(name, file)
        checksum = entry["sha256"].get(file) or _first_checksum(target)
        intact = target.exists() and (checksum is None or digest_of(target) == checksum)
        if intact:
            return target
        url = entry["url"] and entry["url"].format(file=file, **fields)
        if not url:
            raise FileNotFoundError(
                _placing(entry["title"], name, file, "cannot be downloaded automatically")
            )
        if not self.download:
            state = "is altered or truncated" if target.exists() else "is not on this machine"
            raise FileNotFoundError(
                f"{name}/{file} of the {entry['title']} {state} and download_if_missing is False: it would "
                f"come from {url}, or from a copy at FOLDER/{name}/{file}, where the environment variable "
                "TSSSM_DATA names FOLDER."
            )
        largest = entry.get("largest", _LARGEST)
        return _downloaded(url, target, checksum, largest, f"{name}/{file}")

    def place(self, name: str, file: str) -> Path:
        """Return where a file that is downloaded, or made here, goes: under ``data_home`` or the cache."""
        import pooch

        home = Path(pooch.os_cache("tsssm") if self.home is None else self.home).expanduser()
        return home / name / file


def members(path: Path, wanted: Callable[[PurePosixPath], bool]) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Yield name and content of the wanted files in a ``.zip``, ``.tar.gz`` or ``.tar.xz`` archive.

    Raises
    ------
    ValueError
        For an archive that is truncated or damaged, or has a member of more than 8 GiB.
    """
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    if not info.is_dir() and wanted(PurePosixPath(info.filename)):
                        _check_size(path, info.filename, info.file_size)
                        yield PurePosixPath(info.filename), archive.read(info)
        else:
            with tarfile.open(path, mode="r:xz" if path.suffix == ".xz" else "r:gz") as tar:
                for member in tar:
                    if member.isfile() and wanted(PurePosixPath(member.name)):
                        _check_size(path, member.name, member.size)
                        file = tar.extractfile(member)
                        assert file is not None  # as of every regular file
                        yield PurePosixPath(member.name), file.read()
    except BROKEN as error:
        raise ValueError(
            f"{path} is truncated or damaged ({error}); delete it and fetch it again."
        ) from error


def _check_size(path: Path, member: str, size: int) -> None:
    if size > _LARGEST_MEMBER:
        raise ValueError(f"{path} is damaged, or not the published file: {member} in it has {size} bytes.")


def _placing(title: str, name: str, file: str, problem: str) -> str:
    """Say what is missing and how to put it in place by hand."""
    folder = os.environ.get("TSSSM_DATA")
    return (
        f"{name}/{file} of the {title} is not on this machine and {problem}. Get it from "
        f"{registry()[name]['source']} and put it at FOLDER/{name}/{file}, where the environment variable "
        f"TSSSM_DATA names FOLDER; it is {f'set to {folder!r}' if folder else 'not set'}."
    )


def _downloaded(url: str, target: Path, checksum: str | None, largest: int, path: str) -> Path:
    """Download to ``target``; without a known checksum, write down that of the first download."""
    target.unlink(missing_ok=True)
    try:
        found = download(url, target, checksum, largest)
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionError(
            f"{path} could not be downloaded from {url} ({error}): without a network, put a copy at "
            f"FOLDER/{path}, where the environment variable TSSSM_DATA names FOLDER."
        ) from error
    if checksum is None:
        _sidecar(target).write_text(found + "\n", encoding="ascii")
    return target


def _sidecar(target: Path) -> Path:
    return target.with_name(target.name + ".sha256")


def _first_checksum(target: Path) -> str | None:
    """Checksum at the first download of a file whose publisher's is not known."""
    sidecar = _sidecar(target)
    return sidecar.read_text(encoding="ascii").strip() if target.exists() and sidecar.exists() else None
