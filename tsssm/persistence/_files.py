"""Model files: how they are written, and which are refused before anything is built from them."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from tsssm._version import __version__
from tsssm.persistence._fields import ModelFileError
from tsssm.persistence._kinds import UnsavableError
from tsssm.persistence._trees import Arrays, TreeReader, Upgrade, to_tree

#: What is written; older formats are read, newer ones refused.
FORMAT_VERSION = 2
#: How the name of a model file ends.
SUFFIX = ".safetensors"

_FORMAT = "tsssm"
_PACKAGES = ("torch", "numpy", "scikit-learn", "sktime")


def write(path: str | os.PathLike[str], obj: Any, name: str | None = None) -> None:
    """Write an object of a registered class to a file, which appears complete or not at all.

    What error messages call it is its ``name``, by default that of its class.

    Raises
    ------
    UnsavableError
        If the object holds a value that a file cannot hold, or is not as it was when it was fitted, so that
        `read` would refuse it; the message says where.
    OSError
        If the file cannot be written; an older file of that name then stays.
    """
    arrays: Arrays = {}
    name = type(obj).__name__ if name is None else name
    tree = to_tree(obj, name, arrays)
    state = json.dumps(tree, allow_nan=False, separators=(",", ":"))
    metadata = {
        "format": _FORMAT,
        "format_version": str(FORMAT_VERSION),
        "versions": json.dumps({"tsssm": __version__, **_installed(_PACKAGES)}),
        "state": state,
        "digest": _digest(state, arrays),
    }
    data = safetensors.numpy.save(arrays, metadata)
    try:
        TreeReader(arrays, len(data)).read(tree)
    except Exception as error:
        raise UnsavableError(f"A file of this {name} could not be loaded again: {error}") from error
    write_atomically(Path(path), data)


def read(path: str | os.PathLike[str], upgrade: Upgrade | None = None) -> Any:
    """Return the object that `write` wrote; every tensor is on the CPU.

    ``upgrade(kind, version, state)`` returns what a kind holds today, of what it held in an earlier version.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is no model file, is damaged, of a newer format, or holds a class that is not registered, or
        that is of a newer version.
    """
    path = Path(path)
    data = path.read_bytes()
    metadata, arrays = _contents(path, data)
    try:
        return TreeReader(arrays, len(data), upgrade).read(json.loads(metadata["state"]))
    except ModelFileError as error:
        raise ModelFileError(f"{path} cannot be read: {error}") from None
    # Whatever nonsense a forged state leads to, the answer is that the file is no good.
    except Exception as error:
        raise ModelFileError(f"{path} holds no valid model: {type(error).__name__}: {error}") from error


def can_hold(value: Any) -> bool:
    """Whether a model file can hold the value."""
    try:
        to_tree(value, "", {})
    except UnsavableError:
        return False
    return True


def write_atomically(path: Path, *parts: bytes | memoryview) -> None:
    """Write a file of some parts, which appears under its name only when it is complete and on the disk.

    What a program leaves that is killed meanwhile is called ``.NAME.*.part``.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def _installed(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _digest(state: str, arrays: Arrays) -> str:
    digest = hashlib.sha256(state.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\0{name} {array.dtype.str} {array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _contents(path: Path, data: bytes) -> tuple[dict[str, str], Arrays]:
    """Return the metadata and the arrays of a file that is whole and of a known format."""
    # Four bytes, since two may also be the length of a header.
    if data[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        raise ModelFileError(
            f"{path} is a zip archive, not a model file of tsssm. If sktime's save wrote it, it holds "
            "pickles, which can run any code: read it with sktime.base.load if you trust where it comes from."
        )
    try:
        arrays = safetensors.numpy.load(data)
        # What safetensors has accepted has a header of this length.
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata = dict(header.get("__metadata__") or {})
    except Exception as error:
        raise ModelFileError(f"{path} is no model file of tsssm, or is cut off or damaged: {error}") from None
    if metadata.get("format") != _FORMAT or not str(metadata.get("format_version")).isdecimal():
        raise ModelFileError(f"{path} is a safetensors file, but no model file of tsssm.")
    if int(metadata["format_version"]) > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} has format {metadata['format_version']}, but this version of tsssm ({__version__}) "
            f"reads formats up to {FORMAT_VERSION}. It was written with {metadata.get('versions')}: update "
            "tsssm."
        )
    if metadata.get("digest") != _digest(metadata.get("state", ""), arrays):
        raise ModelFileError(f"{path} is damaged: its digest is not that of its contents. Save it again.")
    return metadata, arrays
