"""The classes that model files may hold, and what files hold of each by which names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from tsssm.persistence._fields import Fields

Read = TypeVar("Read", bound=Callable[[Fields], Any])


class UnsavableError(TypeError):
    """Raised for a value that a model file cannot hold."""


class Kind(NamedTuple):
    """A class that files may hold; the attributes are the arguments of `register`."""

    name: str
    cls: type
    holds: Mapping[str, str]
    version: int
    to_state: Callable[[Any], Mapping[str, Any]]
    read: Callable[[Fields], Any]

    def state(self, value: Any) -> dict[str, Any]:
        """What a file holds of an object.

        Raises
        ------
        UnsavableError
            If the object has anything that is not declared.
        """
        state = dict(self.to_state(value))
        if unknown := state.keys() - self.holds.keys():
            raise UnsavableError(
                f"The {self.cls.__name__} has {', '.join(map(repr, sorted(unknown)))}, which no model file "
                "has a name for."
            )
        return state

    def made_of(self, state: Any) -> Any:
        """Return the object that a file holds, all of whose fields have to be read."""
        fields = Fields(self.cls.__name__, state)
        found = self.read(fields)
        fields.end()
        return found


kinds: dict[str, Kind] = {}


def public(attribute: str) -> str:
    """What files call an attribute: its name without a leading underscore."""
    return attribute.removeprefix("_")


def named(value: Any) -> dict[str, Any]:
    """Attributes of an object, or of a named tuple, by what files call them."""
    attributes = vars(value) if hasattr(value, "__dict__") else value._asdict()
    return {public(name): content for name, content in attributes.items()}


def register(
    name: str,
    cls: type,
    holds: Mapping[str, str],
    *,
    version: int = 1,
    to_state: Callable[[Any], Mapping[str, Any]] = named,
) -> Callable[[Read], Read]:
    """Let model files hold objects of a class, which the decorated function makes of their `Fields`.

    Parameters
    ----------
    name : str
        What files call the class; it must not change.
    cls : type
        Exactly this class; a subclass has to be registered itself.
    holds : dict of str
        What a file holds, by public names that must not change, and in a line what each is. Others are not
        written, and refused where they are read.
    version : int
        Of these names and what they mean. Who changes them counts it up, and says how what an earlier version
        holds is brought to this one (`read`).
    to_state : callable
        From an object to values that a file can hold, by these names.
    """

    def reads(read: Read) -> Read:
        kinds[name] = Kind(name, cls, holds, version, to_state, read)
        return read

    return reads
