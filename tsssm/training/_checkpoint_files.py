"""Files of checkpoints: whole or not at all, and with a digest, so that damage is noticed.

A file is a line that names the format, a line with the SHA-256 of the rest, and what ``torch.save`` makes of
the content. The digest is no signature: it tells of damage, not of intent. Nothing in a file is run.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import secrets
from pathlib import Path
from typing import Any

import torch

_FORMAT = b"tsssm checkpoint 1"


def damaged(path: Path, reason: object) -> ValueError:
    """The error about a file that is no good."""
    return ValueError(
        f"{path} is not a checkpoint of tsssm, or is damaged: {reason}. Delete it to start anew."
    )


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a file, by way of a part beside it that is this call's own.

    Raises
    ------
    OSError
        If it cannot be written; an older file of that name then stays.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = buffer.getbuffer()
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(_FORMAT + b"\n" + hashlib.sha256(data).hexdigest().encode() + b"\n")
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a file, on the CPU.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no checkpoint, or another than was written.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path} to resume from.")
    head, _, rest = path.read_bytes().partition(b"\n")
    digest, _, data = rest.partition(b"\n")
    if head != _FORMAT:
        raise damaged(path, "it does not start with the format name")
    if digest != hashlib.sha256(data).hexdigest().encode():
        raise damaged(path, "its digest is not that of its content")
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        raise damaged(path, error) from error
    if type(content) is not dict:
        raise damaged(path, f"it holds a {type(content).__name__}")
    return content
