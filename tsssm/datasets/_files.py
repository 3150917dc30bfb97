"""Where the files of a collection come from: a copy of the user's, the cache, or the publisher.

Archives are read member by member and never unpacked to disk, so that no name in one can reach out of a
folder.
"""

from __future__ import annotations

import functools
import gzip
import http.client
import os
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from tsssm.datasets._registry import registry

BROKEN = (EOFError, gzip.BadGzipFile, tarfile.TarError, zipfile.BadZipFile, zlib.error)

_TIMEOUT = 60  # s without an answer


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

    def get(self, name: str, file: str, **fields: Any) -> Path:
        """Return where a file of the collection ``name`` lies, after downloading it if need be.

        ``fields`` fill in the address of the registry, beside ``file``. Under TSSSM_DATA a file is used as it
        is. In ``data_home`` and the cache it is compared with its checksum: that of the registry, or else
        that of its first download. Where these differ it is fetched again.

        Raises
        ------
        FileNotFoundError
            Where there is no such file and it cannot, or must not, be downloaded.
        ConnectionError
            Where the publisher does not answer, or not in full.
        ValueError
            For a download whose checksum is not that of the registry.
        """
        if self.home is None and (found := self.find(name, file)) is not None:
            return found
        import pooch

        entry = registry()[name]
        target = self.place(name, file)
        checksum = entry["sha256"].get(file) or _first_checksum(target)
        intact = target.exists() and (checksum is None or pooch.file_hash(str(target)) == checksum)
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
        return _downloaded(url, target, checksum, f"{name}/{file}")

    def place(self, name: str, file: str) -> Path:
        """Return where a file that is downloaded, or made here, goes: under ``data_home`` or the cache."""
        import pooch

        home = Path(pooch.os_cache("tsssm") if self.home is None else self.home).expanduser()
        return home / name / file


def members(path: Path, wanted: Callable[[PurePosixPath], bool]) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Yield name and content of the wanted files in a ``.zip`` or ``.tar.gz`` archive, in its order.

    Raises
    ------
    ValueError
        For an archive that is truncated or damaged.
    """
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    if not info.is_dir() and wanted(PurePosixPath(info.filename)):
                        yield PurePosixPath(info.filename), archive.read(info)
        else:
            with tarfile.open(path, mode="r:gz") as tar:
                for member in tar:
                    if member.isfile() and wanted(PurePosixPath(member.name)):
                        file = tar.extractfile(member)
                        assert file is not None  # as of every regular file
                        yield PurePosixPath(member.name), file.read()
    except BROKEN as error:
        raise ValueError(
            f"{path} is truncated or damaged ({error}); delete it and fetch it again."
        ) from error


def _placing(title: str, name: str, file: str, problem: str) -> str:
    """Say what is missing and how to put it in place by hand."""
    folder = os.environ.get("TSSSM_DATA")
    return (
        f"{name}/{file} of the {title} is not on this machine and {problem}. Get it from "
        f"{registry()[name]['source']} and put it at FOLDER/{name}/{file}, where the environment variable "
        f"TSSSM_DATA names FOLDER; it is {f'set to {folder!r}' if folder else 'not set'}."
    )


def _downloaded(url: str, target: Path, checksum: str | None, path: str) -> Path:
    """Download to ``target``; keep what came of an interrupted download for the next attempt."""
    import pooch

    part = target.with_name(target.name + ".part")
    target.unlink(missing_ok=True)
    try:
        pooch.retrieve(
            url,
            None if checksum is None else f"sha256:{checksum}",
            fname=target.name,
            path=target.parent,
            downloader=functools.partial(_resumed, part=part),
        )
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionError(
            f"{path} could not be downloaded from {url} ({error}): without a network, put a copy at "
            f"FOLDER/{path}, where the environment variable TSSSM_DATA names FOLDER."
        ) from error
    if checksum is None:
        _sidecar(target).write_text(pooch.file_hash(str(target)) + "\n", encoding="ascii")
    return target


def _resumed(url: str, output_file: str, pooch: Any, *, part: Path) -> None:
    """Downloader for pooch that goes on where an earlier one stopped, if the server can."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "tsssm"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        part.unlink()  # as long as the file or longer, and yet not taken for it: start again
        return _resumed(url, output_file, pooch, part=part)
    with answer:
        resumes = answer.status == http.client.PARTIAL_CONTENT
        with part.open("ab" if resumes else "wb") as file:
            shutil.copyfileobj(answer, file, 2**20)
        rest = answer.headers.get("Content-Length")
    size = part.stat().st_size
    if rest is not None and size != int(rest) + (have if resumes else 0):
        raise ConnectionError(f"the connection ended after {size} bytes")
    shutil.move(part, output_file)


def _sidecar(target: Path) -> Path:
    return target.with_name(target.name + ".sha256")


def _first_checksum(target: Path) -> str | None:
    """Checksum at the first download of a file whose publisher's is not known."""
    sidecar = _sidecar(target)
    return sidecar.read_text(encoding="ascii").strip() if target.exists() and sidecar.exists() else None
