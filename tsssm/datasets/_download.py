"""One file from a publisher over the network: encrypted, in full, bounded, and never half in place.

What can be known without a checksum of the publisher's: that the connection was encrypted all the way, that
the answer came to the end that the publisher gave it, that it is no larger than a file of the collection may
be, and that an archive passes its own checksums. Whether it is what others got from the publisher cannot be
known, only that it has not changed on this disk since.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import lzma
import os
import secrets
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tsssm._locking import FileLock

BROKEN = (EOFError, gzip.BadGzipFile, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, zlib.error)

_TIMEOUT = 60  # s without an answer
_PIECE = 2**20
# Names of this very machine, to which nothing goes over a network.
_HERE = ("127.0.0.1", "::1", "localhost")


class RefusedError(ConnectionError):
    """Raised for a download that fails a check."""


class _EncryptedRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        check_encrypted(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def check_encrypted(url: str) -> None:
    """Raise RefusedError unless an address is one of https, or of this machine."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _HERE):
        raise RefusedError(f"{url} is not encrypted; only https is accepted, also after redirects")


def download(url: str, target: Path, checksum: str | None, largest: int) -> str:
    """Download to ``target``, and return the SHA-256 of what came.

    With a checksum, what came of an interrupted download is kept for the next attempt; without one, nobody
    could tell whether the pieces belong together. Of several processes at once each has a part of its own.

    Parameters
    ----------
    url : str
    target : Path
        Appears when the file is whole and has passed every check.
    checksum : str or None
        SHA-256 that the publisher gave, or that of an earlier download.
    largest : int
        Bytes that the file has at most.

    Raises
    ------
    OSError, http.client.HTTPException
        If the publisher does not answer, or not in full.
    RefusedError
        For an address that is not encrypted, too large a file, or one of which nobody could tell whether it
        is whole.
    ValueError
        If the checksum is not the expected one.
    """
    check_encrypted(url)
    with _part_of(target, shared=checksum is not None) as part:
        _fetch(url, part, largest, resume=checksum is not None)
        found = digest_of(part)
        if checksum is None:
            _check_archive(part, target.name)
        elif found != checksum:
            part.unlink()
            raise ValueError(
                f"The SHA256 hash of {url} is {found}, but the known one is {checksum}: it was altered on "
                "its way, or its publisher has another version now."
            )
        part.replace(target)
    return found


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


@contextlib.contextmanager
def _part_of(target: Path, shared: bool) -> Iterator[Path]:
    """Where a download goes that nobody else writes to.

    That is the part that an earlier one may have left, if it is ``shared`` and no other process is at it, or
    else a part of our own, of which nothing stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    lock = FileLock(part.with_name(part.name + ".lock")) if shared else None
    try:
        if lock is not None and lock.exclusive:
            yield part
            return
        own = part.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
        try:
            yield own
        finally:
            own.unlink(missing_ok=True)
    finally:
        if lock is not None:
            lock.release()


def _fetch(url: str, part: Path, largest: int, *, resume: bool) -> None:
    """Write the answer to ``part``, after what is there if the server can go on from it."""
    have = part.stat().st_size if resume and part.exists() else 0
    headers = {"User-Agent": "tsssm"} | ({"Range": f"bytes={have}-"} if have else {})
    opener = urllib.request.build_opener(_EncryptedRedirects)
    try:
        answer = opener.open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        part.unlink()  # as long as the file or longer, and yet not taken for it: start again
        return _fetch(url, part, largest, resume=False)
    with answer:
        resumes = answer.status == http.client.PARTIAL_CONTENT
        if resumes and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise RefusedError("the server resumed the download at another byte than requested")
        start = have if resumes else 0
        rest = answer.headers.get("Content-Length")
        chunked = answer.headers.get("Transfer-Encoding", "").lower() == "chunked"
        # An answer that ends where the connection does may end anywhere.
        if rest is None and not chunked and not resume:
            raise RefusedError("the server does not say how long the file is, and no checksum is known")
        if rest is not None and start + int(rest) > largest:
            raise RefusedError(f"the file has {start + int(rest)} bytes, more than the {largest} it may have")
        size = start
        with part.open("ab" if resumes else "wb") as file:
            while piece := answer.read(_PIECE):
                size += len(piece)
                if size > largest:
                    raise RefusedError(f"the file has more than the {largest} bytes it may have")
                file.write(piece)
    if rest is not None and size != start + int(rest):
        raise ConnectionError(f"the connection ended after {size} bytes")


def _check_archive(path: Path, name: str) -> None:
    """Raise ConnectionError unless a file passes the checksums inside of it, if it has some."""
    try:
        if name.endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                if (bad := archive.testzip()) is not None:
                    raise zipfile.BadZipFile(f"{bad} has a wrong checksum")
        elif name.endswith((".gz", ".tgz")):
            with gzip.open(path) as file:
                while file.read(_PIECE):
                    pass
    except BROKEN as error:
        raise ConnectionError(f"the download is damaged: {error}") from error
