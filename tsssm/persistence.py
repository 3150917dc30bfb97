"""Model files: numbers as safetensors, everything else as JSON in the header of the same file, and no pickle.

Reading a file builds nothing but plain values, arrays, tensors and objects of registered classes, so that a
file from a stranger can at worst be refused or predict nonsense. What is written::

    8 bytes            length of the header
    header             JSON of safetensors: name, dtype, shape and place of every array, and ``__metadata__``
                       with format, format_version, versions, state (a JSON tree) and digest
    arrays             one after another

The tree holds null, booleans, strings, integers, finite floats and lists as JSON does, and everything else as
an object with one key, the row of ``_READERS`` that reads it. The digest (SHA-256 of tree and arrays) tells
damage from intent as little as any checksum without a key: it is no signature.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import math
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import safetensors
import safetensors.numpy
import torch

from tsssm._version import __version__

__all__ = [
    "FORMAT_VERSION",
    "SUFFIX",
    "ModelFileError",
    "UnsavableError",
    "can_hold",
    "read",
    "register",
    "write",
]

T = TypeVar("T")
Arrays = dict[str, npt.NDArray[Any]]

#: What is written; older formats are read, newer ones refused.
FORMAT_VERSION = 1
#: How the name of a model file ends.
SUFFIX = ".safetensors"

_FORMAT = "tsssm"
_PACKAGES = ("torch", "numpy", "scikit-learn", "sktime")


class ModelFileError(ValueError):
    """Raised for a file that is no model file of this package, is damaged, or is too new."""


class UnsavableError(TypeError):
    """Raised for a value that a model file cannot hold."""


class _Kind(NamedTuple):
    cls: type
    to_state: Callable[[Any], Mapping[str, Any]]
    from_state: Callable[[dict[str, Any]], Any]


_kinds: dict[str, _Kind] = {}


def register(
    name: str,
    cls: type[T],
    to_state: Callable[[T], Mapping[str, Any]],
    from_state: Callable[[dict[str, Any]], T],
) -> None:
    """Let model files hold objects of a class.

    Parameters
    ----------
    name : str
        What files call the class; it must not change.
    cls : type
        Exactly this class; a subclass has to be registered itself.
    to_state : callable
        From an object to a dict from names to values that a file can hold.
    from_state : callable
        From such a dict, which may come from anybody, to an object.
    """
    _kinds[name] = _Kind(cls, to_state, from_state)


def write(path: str | os.PathLike[str], obj: Any) -> None:
    """Write an object of a registered class to a file, which appears complete or not at all.

    Raises
    ------
    UnsavableError
        If the object holds a value that a file cannot hold; the message says where.
    OSError
        If the file cannot be written; an older file of that name then stays.
    """
    arrays: Arrays = {}
    state = json.dumps(_to_tree(obj, type(obj).__name__, arrays), allow_nan=False, separators=(",", ":"))
    metadata = {
        "format": _FORMAT,
        "format_version": str(FORMAT_VERSION),
        "versions": json.dumps({"tsssm": __version__, **_installed(_PACKAGES)}),
        "state": state,
        "digest": _digest(state, arrays),
    }
    write_atomically(Path(path), safetensors.numpy.save(arrays, metadata))


def read(path: str | os.PathLike[str]) -> Any:
    """Return the object that `write` wrote; every tensor is on the CPU.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is no model file, is damaged, of a newer format, or holds a class that is not registered.
    """
    path = Path(path)
    metadata, arrays = _contents(path, path.read_bytes())
    try:
        return _from_tree(json.loads(metadata["state"]), arrays)
    except ModelFileError as error:
        raise ModelFileError(f"{path} cannot be read: {error}") from None
    # Whatever nonsense a forged state leads to, the answer is that the file is no good.
    except Exception as error:
        raise ModelFileError(f"{path} holds no valid model: {type(error).__name__}: {error}") from error


def can_hold(value: Any) -> bool:
    """Whether a model file can hold the value."""
    try:
        _to_tree(value, "", {})
    except UnsavableError:
        return False
    return True


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that appears under its name only when it is complete and on the disk."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
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
    if data[:2] == b"PK":
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


# From objects to a tree


def _to_tree(value: Any, where: str, arrays: Arrays) -> Any:
    """Return the JSON tree of a value, and add its arrays to ``arrays``."""
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if type(value) is list:
        return _items_to_tree(value, where, arrays)
    if type(value) is tuple:
        return {"tuple": _items_to_tree(value, where, arrays)}
    if type(value) is dict:
        return {"dict": [_items_to_tree(item, f"{where}[{item[0]!r}]", arrays) for item in value.items()]}
    for name, kind in _kinds.items():
        if type(value) is kind.cls:
            state = kind.to_state(value)
            return {
                "object": [name, {key: _to_tree(v, f"{where}.{key}", arrays) for key, v in state.items()}]
            }
    for cls, tag, convert in _WRITERS:
        if isinstance(value, cls):
            return {tag: _items_to_tree(convert(value), where, arrays)}
    if isinstance(value, np.ndarray):
        return _array_to_tree(value, where, arrays)
    raise UnsavableError(f"{where} is of type {type(value).__name__}, which a model file cannot hold.")


def _items_to_tree(items: Any, where: str, arrays: Arrays) -> list[Any]:
    return [_to_tree(item, where, arrays) for item in items]


def _array_to_tree(array: npt.NDArray[Any], where: str, arrays: Arrays) -> Any:
    if array.dtype.kind in "biuf" and array.dtype.itemsize <= 8:
        name = f"{where}#{len(arrays)}"
        arrays[name] = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")).reshape(array.shape)
        return {"array": name}
    if array.dtype.kind == "c" and array.dtype.itemsize <= 16:
        return {"complex array": _array_to_tree(np.stack([array.real, array.imag], -1), where, arrays)}
    if array.dtype.kind in "mM":
        return {"time array": [str(array.dtype), _array_to_tree(array.view(np.int64), where, arrays)]}
    if array.dtype.kind in "UO":
        items = _items_to_tree(array.ravel().tolist(), where, arrays)
        tag = "text array" if array.dtype.kind == "U" else "object array"
        return {tag: [array.dtype.str, list(array.shape), items]}
    raise UnsavableError(f"{where} is an array of {array.dtype}, which a model file cannot hold.")


def _random_state(state: np.random.RandomState) -> list[Any]:
    return list(state.get_state())


# What neither JSON nor safetensors knows: its type, its tag, and its parts.
_WRITERS: tuple[tuple[type, str, Callable[[Any], list[Any]]], ...] = (
    (torch.Tensor, "tensor", lambda tensor: [tensor.detach().cpu().numpy()]),
    (np.generic, "scalar", lambda scalar: [np.asarray(scalar)]),
    (pd.Index, "index", lambda index: [index.tolist(), list(index.names)]),
    (np.random.RandomState, "random state", _random_state),
)


# From a tree to objects


def _from_tree(tree: Any, arrays: Arrays) -> Any:
    if isinstance(tree, list):
        return [_from_tree(item, arrays) for item in tree]
    if not isinstance(tree, dict):
        return tree
    ((tag, content),) = tree.items()
    if tag not in _READERS:
        raise ModelFileError(f"it holds {tag!r}, which this version of tsssm does not know.")
    return _READERS[tag](content, arrays)


def _object(content: Any, arrays: Arrays) -> Any:
    name, state = content
    if name not in _kinds:
        raise ModelFileError(
            f"it holds a {name!r}, which is not known here. Import the module that defines it, or update "
            "tsssm."
        )
    return _kinds[name].from_state({key: _from_tree(value, arrays) for key, value in state.items()})


def _complex_array(content: Any, arrays: Arrays) -> npt.NDArray[Any]:
    parts = _from_tree(content, arrays)
    # A sum of both parts would lose signs of zero, and infinities.
    return parts.view(np.result_type(parts, np.complex64))[..., 0]


def _time_array(content: Any, arrays: Arrays) -> npt.NDArray[Any]:
    dtype, values = content
    if np.dtype(dtype).kind not in "mM":
        raise ModelFileError(f"it holds times of dtype {dtype!r}.")
    return _from_tree(values, arrays).view(dtype)


def _text_array(content: Any, arrays: Arrays) -> npt.NDArray[np.str_]:
    dtype, shape, items = content
    if np.dtype(dtype).kind != "U":
        raise ModelFileError(f"it holds text of dtype {dtype!r}.")
    return np.array(items, dtype=dtype).reshape(shape)


def _object_array(content: Any, arrays: Arrays) -> npt.NDArray[np.object_]:
    _, shape, items = content
    array = np.empty(len(items), dtype=object)
    array[:] = _from_tree(items, arrays)
    return array.reshape(shape)


def _index(content: Any, arrays: Arrays) -> pd.Index:
    items, names = _from_tree(content, arrays)
    if len(names) > 1:
        return pd.MultiIndex.from_tuples(items, names=names)
    return pd.Index(items, name=names[0])


def _restored_random_state(content: Any, arrays: Arrays) -> np.random.RandomState:
    name, key, position, has_gauss, gauss = _from_tree(content, arrays)
    # NumPy 1.26 takes a damaged state as it is, and crashes when it draws from it.
    whole = isinstance(key, np.ndarray) and key.dtype == np.uint32 and key.shape == (624,)
    if not whole or name != "MT19937" or type(position) is not int or not 0 <= position <= 624:
        raise ModelFileError("a random state in it is damaged")
    state = np.random.RandomState()
    state.set_state((name, key, position, int(has_gauss), float(gauss)))
    return state


_READERS: dict[str, Callable[[Any, Arrays], Any]] = {
    "float": lambda content, arrays: {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[content],
    "tuple": lambda content, arrays: tuple(_from_tree(content, arrays)),
    "dict": lambda content, arrays: dict(_from_tree(content, arrays)),
    "object": _object,
    # A copy, because what safetensors hands out may be read-only, and views of one buffer.
    "array": lambda content, arrays: arrays[content].copy(),
    "complex array": _complex_array,
    "time array": _time_array,
    "text array": _text_array,
    "object array": _object_array,
    "tensor": lambda content, arrays: torch.from_numpy(_from_tree(content[0], arrays)),
    "scalar": lambda content, arrays: _from_tree(content[0], arrays)[()],
    "index": _index,
    "random state": _restored_random_state,
}
