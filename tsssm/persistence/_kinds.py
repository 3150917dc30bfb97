"""The classes that model files may hold, and the two ways in which a file is no good."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class ModelFileError(ValueError):
    """Raised for a file that is no model file of this package, is damaged, or is too new."""


class UnsavableError(TypeError):
    """Raised for a value that a model file cannot hold."""


class Kind(NamedTuple):
    cls: type
    to_state: Callable[[Any], Mapping[str, Any]]
    from_state: Callable[[dict[str, Any]], Any]


kinds: dict[str, Kind] = {}


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
    kinds[name] = Kind(cls, to_state, from_state)
