"""Objects as trees of JSON, beside arrays, and back; what is read takes a bounded multiple of its file."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from tsssm._version import __version__
from tsssm.persistence._fields import ModelFileError
from tsssm.persistence._kinds import Kind, UnsavableError, kinds

Arrays = dict[str, npt.NDArray[Any]]
#: Brings what an earlier version of a kind held, in files of that version, to what this one holds.
Upgrade = Callable[[Kind, int, Any], Any]

# Every text in an array is as wide as the longest. So many bytes may come of a byte of the file, and so many
# of any file.
_WIDEST, _LEAST = 64, 2**20


# From objects to a tree


def to_tree(value: Any, where: str, arrays: Arrays) -> Any:
    """Return the JSON tree of a value, and add its arrays to ``arrays``."""
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if type(value) is list:
        return _itemsto_tree(value, where, arrays)
    if type(value) is tuple:
        return {"tuple": _itemsto_tree(value, where, arrays)}
    if type(value) is dict:
        return {"dict": [_itemsto_tree(item, f"{where}[{item[0]!r}]", arrays) for item in value.items()]}
    for name, kind in kinds.items():
        if type(value) is kind.cls:
            state = {k: to_tree(v, f"{where}.{k}", arrays) for k, v in kind.state(value).items()}
            return {"object": [name, kind.version, state]}
    for cls, tag, convert in _WRITERS:
        if isinstance(value, cls):
            return {tag: _itemsto_tree(convert(value), where, arrays)}
    if isinstance(value, np.ndarray):
        return _arrayto_tree(value, where, arrays)
    raise UnsavableError(f"{where} is of type {type(value).__name__}, which a model file cannot hold.")


def _itemsto_tree(items: Any, where: str, arrays: Arrays) -> list[Any]:
    return [to_tree(item, where, arrays) for item in items]


def _arrayto_tree(array: npt.NDArray[Any], where: str, arrays: Arrays) -> Any:
    if array.dtype.kind in "biuf" and array.dtype.itemsize <= 8:
        name = f"{where}#{len(arrays)}"
        arrays[name] = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")).reshape(array.shape)
        return {"array": name}
    if array.dtype.kind == "c" and array.dtype.itemsize <= 16:
        return {"complex array": _arrayto_tree(np.stack([array.real, array.imag], -1), where, arrays)}
    if array.dtype.kind in "mM":
        return {"time array": [str(array.dtype), _arrayto_tree(array.view(np.int64), where, arrays)]}
    if array.dtype.kind in "UO":
        items = _itemsto_tree(array.ravel().tolist(), where, arrays)
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


class TreeReader:
    """Reads the tree of a file.

    Parameters
    ----------
    arrays : dict
        The arrays of the file. The tree may name each of them once: one that is named again and again would
        fill the memory.
    size : int
        Bytes of the file.
    upgrade : callable, optional
        For objects of earlier versions, which are refused without it.
    """

    def __init__(self, arrays: Arrays, size: int, upgrade: Upgrade | None = None) -> None:
        self._arrays = dict(arrays)
        self._room = _LEAST + _WIDEST * size
        self._upgrade = upgrade

    def read(self, tree: Any) -> Any:
        """Return what a tree stands for.

        Raises
        ------
        ModelFileError
            If it holds what is not known, or more than its file allows.
        Exception
            Any, for a tree that `to_tree` did not make.
        """
        if isinstance(tree, list):
            return [self.read(item) for item in tree]
        if not isinstance(tree, dict):
            return tree
        ((tag, content),) = tree.items()
        if tag not in _READERS:
            raise ModelFileError(f"it holds {tag!r}, which this version of tsssm does not know.")
        return _READERS[tag](self, content)

    def array(self, name: Any) -> npt.NDArray[Any]:
        """Return an array of the file, and let go of it."""
        if name not in self._arrays:
            raise ModelFileError(f"it names the array {name!r}, which it does not hold or has named before.")
        # A copy, because what safetensors hands out may be read-only, and views of one buffer.
        return self._arrays.pop(name).copy()

    def numbers(self, tree: Any, kinds: str) -> npt.NDArray[Any]:
        """Return what a tree stands for, which has to be an array of a dtype of one of some kinds."""
        array = self.read(tree)
        if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
            raise ModelFileError(f"it holds {_described(array)} in place of an array of numbers.")
        return array

    def claim(self, size: int) -> None:
        """Take so many bytes of what the text of the file may become."""
        self._room -= size
        if self._room < 0:
            raise ModelFileError("it would take far more memory than its size allows.")

    def object(self, content: Any) -> Any:
        # Files of the first format say no version.
        name, version, tree = content if len(content) == 3 else (*content[:1], 0, *content[1:])
        if name not in kinds:
            raise ModelFileError(
                f"it holds a {name!r}, which is not known here. Import the module that defines it, or update "
                "tsssm."
            )
        kind = kinds[name]
        state = {key: self.read(value) for key, value in tree.items()}
        if type(version) is not int or version > kind.version:
            raise ModelFileError(
                f"it holds a {name!r} of version {version}, but this version of tsssm ({__version__}) reads "
                f"versions up to {kind.version}: update tsssm."
            )
        if version < kind.version:
            if self._upgrade is None:
                raise ModelFileError(f"it holds a {name!r} of version {version}, which nothing here reads.")
            state = self._upgrade(kind, version, state)
        return kind.made_of(state)

    def complex_array(self, content: Any) -> npt.NDArray[Any]:
        parts = self.numbers(content, "f")
        # A sum of both parts would lose signs of zero, and infinities.
        return parts.view(np.result_type(parts, np.complex64))[..., 0]

    def time_array(self, content: Any) -> npt.NDArray[Any]:
        dtype, values = content
        if np.dtype(dtype).kind not in "mM":
            raise ModelFileError(f"it holds times of dtype {dtype!r}.")
        return self.numbers(values, "i").view(dtype)

    def text_array(self, content: Any) -> npt.NDArray[np.str_]:
        dtype, shape, items = content
        width = re.fullmatch(r"[<>]U(\d{1,10})", dtype)
        if width is None or not all(type(item) is str for item in items):
            raise ModelFileError(f"it holds text of dtype {dtype!r}.")
        self.claim(4 * int(width[1]) * max(1, len(items)))
        return np.array(items, dtype=dtype).reshape(shape)

    def object_array(self, content: Any) -> npt.NDArray[np.object_]:
        _, shape, items = content
        array = np.empty(len(items), dtype=object)
        array[:] = self.read(items)
        return array.reshape(shape)

    def tensor(self, content: Any) -> torch.Tensor:
        (tree,) = content
        return torch.from_numpy(self.numbers(tree, "biufc"))

    def scalar(self, content: Any) -> Any:
        (tree,) = content
        array = self.read(tree)
        if not isinstance(array, np.ndarray) or array.ndim:
            raise ModelFileError(f"it holds {_described(array)} in place of a single number.")
        return array[()]

    def index(self, content: Any) -> pd.Index:
        items, names = self.read(content)
        if len(names) > 1:
            return pd.MultiIndex.from_tuples(items, names=names)
        return pd.Index(items, name=names[0])

    def random_state(self, content: Any) -> np.random.RandomState:
        name, key, position, has_gauss, gauss = self.read(content)
        # NumPy 1.26 takes a damaged state as it is, and crashes when it draws from it.
        whole = isinstance(key, np.ndarray) and key.dtype == np.uint32 and key.shape == (624,)
        if not whole or name != "MT19937" or type(position) is not int or not 0 <= position <= 624:
            raise ModelFileError("a random state in it is damaged")
        state = np.random.RandomState()
        state.set_state((name, key, position, int(has_gauss), float(gauss)))
        return state


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {value.shape}"
    return f"a {type(value).__name__}"


_READERS: dict[str, Callable[[TreeReader, Any], Any]] = {
    "float": lambda reader, content: {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[content],
    "tuple": lambda reader, content: tuple(reader.read(content)),
    "dict": lambda reader, content: dict(reader.read(content)),
    "array": TreeReader.array,
    "object": TreeReader.object,
    "complex array": TreeReader.complex_array,
    "time array": TreeReader.time_array,
    "text array": TreeReader.text_array,
    "object array": TreeReader.object_array,
    "tensor": TreeReader.tensor,
    "scalar": TreeReader.scalar,
    "index": TreeReader.index,
    "random state": TreeReader.random_state,
}
