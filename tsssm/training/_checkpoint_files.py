"""Files of checkpoints: whole or not at all, and with a digest, so that damage is noticed.

A file is a line that names the format, a line with the SHA-256 of the rest, and what ``torch.save`` makes of
the content. The digest is no signature: it tells of damage, not of intent. Nothing in a file is run.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from tsssm.persistence import write_atomically

_FORMAT = b"tsssm checkpoint 1"


def damaged(path: Path, reason: object) -> ValueError:
    """The error about a file that is no good."""
    return ValueError(
        f"{path} is not a checkpoint of tsssm, or is damaged: {reason}. Delete it to start anew."
    )


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a file.

    Raises
    ------
    OSError
        If it cannot be written; an older file of that name then stays.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = buffer.getbuffer()
    write_atomically(path, _FORMAT + b"\n" + hashlib.sha256(data).hexdigest().encode() + b"\n", data)


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
