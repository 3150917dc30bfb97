"""How an object that is read from a file checks what it is made of: fields by name, type, shape and range.

What a file says may come from anybody. A class that model files can hold reads its fields one by one through
`Fields`, each against the others, and says at last that there are no more; then whatever was written into
the file by hand is refused with the field, what it held, and what was expected.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

T = TypeVar("T")
Shape = tuple[int | None, ...]

_LARGEST_COUNT = 2**53


class ModelFileError(ValueError):
    """Raised for a file that is no model file of this package, is damaged, or is too new."""


class Fields:
    """The fields of an object, as a file gives them.

    Parameters
    ----------
    owner : str
        Whose fields they are, for messages.
    state : dict
        By name.

    Raises
    ------
    ModelFileError
        By every method, for a field that is missing or not as expected.
    """

    def __init__(self, owner: str, state: Any) -> None:
        self.owner = owner
        if type(state) is not dict or not all(type(name) is str for name in state):
            raise ModelFileError(f"its {owner} is a {type(state).__name__} and not a set of fields.")
        self._left = dict(state)

    def take(self, name: str, expected: str = "there") -> Any:
        """Return a field as it is."""
        if name not in self._left:
            raise ModelFileError(f"its {self.owner} has no {name!r}, which has to be {expected}.")
        return self._left.pop(name)

    def has(self, name: str) -> bool:
        """Whether there is a field of a name that nothing has asked for."""
        return name in self._left

    def given(self, name: str) -> bool:
        """Whether a field that may be left out is there and not None, which has then been asked for."""
        if self._left.get(name, ...) is None:
            del self._left[name]
        return name in self._left

    def rest(self) -> dict[str, Any]:
        """Return what no method has asked for."""
        left, self._left = self._left, {}
        return left

    def end(self) -> None:
        """Raise unless every field has been asked for."""
        if self._left:
            raise ModelFileError(
                f"its {self.owner} has {', '.join(map(repr, sorted(self._left)))}, which this version of "
                "tsssm does not know."
            )

    def refuse(self, name: str, expected: str, value: Any) -> ModelFileError:
        """Return the error about a field."""
        return ModelFileError(f"its {self.owner}.{name} must be {expected}; got {_shown(value)}.")

    def flag(self, name: str) -> bool:
        """True or False."""
        value = self.take(name, "True or False")
        if type(value) not in (bool, np.bool_):
            raise self.refuse(name, "True or False", value)
        return bool(value)

    def count(self, name: str, least: int = 0, most: int = _LARGEST_COUNT) -> int:
        """An integer in a range."""
        expected = f"an integer from {least} to {most}"
        value = self.take(name, expected)
        if isinstance(value, bool) or not isinstance(value, Integral) or not least <= int(value) <= most:
            raise self.refuse(name, expected, value)
        return int(value)

    def exactly(self, name: str, value: Any) -> Any:
        """What follows from other fields."""
        found = self.take(name, repr(value))
        if type(found) is not type(value) or found != value:
            raise self.refuse(name, repr(value), found)
        return found

    def number(self, name: str, least: float = -math.inf, most: float = math.inf) -> float:
        """A finite number in a range."""
        expected = f"a finite number from {least:g} to {most:g}"
        return self._number(name, self.take(name, expected), least, most, expected)

    def positive(self, name: str) -> float:
        """A positive number that may well divide others."""
        return self.number(name, 1e-300, 1e300)

    def numbers(self, name: str, length: int | None = None) -> list[float]:
        """A list of numbers, which need not be finite."""
        expected = f"a list of {'' if length is None else f'{length} '}numbers"
        values = self.take(name, expected)
        if type(values) is not list or length not in (None, len(values)):
            raise self.refuse(name, expected, values)
        if not all(isinstance(value, Real) and not isinstance(value, bool) for value in values):
            raise self.refuse(name, expected, values)
        return values

    def choice(self, name: str, among: Collection[Any]) -> Any:
        """One of some values."""
        expected = f"one of {', '.join(map(repr, among))}"
        value = self.take(name, expected)
        if not isinstance(value, (str, int, type(None))) or value not in among:
            raise self.refuse(name, expected, value)
        return value

    def texts(self, name: str, length: int) -> tuple[str, ...] | None:
        """A tuple of so many strings, or None."""
        expected = f"None or a tuple of {length} strings"
        value = self.take(name, expected)
        if value is not None and (
            type(value) is not tuple or len(value) != length or not all(isinstance(v, str) for v in value)
        ):
            raise self.refuse(name, expected, value)
        return value

    def names(self, name: str, length: int) -> npt.NDArray[np.object_]:
        """An array of so many strings, as objects."""
        expected = f"an array ({length},) of strings"
        value = self.take(name, expected)
        if not isinstance(value, np.ndarray) or value.dtype != object or value.shape != (length,):
            raise self.refuse(name, expected, value)
        if not all(isinstance(one, str) for one in value):
            raise self.refuse(name, expected, value)
        return value

    def instance(self, name: str, *classes: type[T]) -> T:
        """An object of exactly one of some classes."""
        expected = " or ".join(f"a {cls.__name__}" for cls in classes)
        value = self.take(name, expected)
        if type(value) not in classes:
            raise self.refuse(name, expected, value)
        return value

    def maybe(self, name: str, *classes: type[T]) -> T | None:
        """As `instance`, or None, also where there is no such field."""
        return self.instance(name, *classes) if self.given(name) else None

    def tuple_of(self, name: str, cls: type[Any] = object) -> tuple[Any, ...]:
        """A tuple of objects of exactly one class, or of any."""
        expected = f"a tuple{'' if cls is object else f' of {cls.__name__}'}"
        value = self.take(name, expected)
        if type(value) is not tuple or not all(cls is object or type(one) is cls for one in value):
            raise self.refuse(name, expected, value)
        return value

    def mapping(self, name: str) -> Fields:
        """Fields of a dict inside."""
        return Fields(f"{self.owner}.{name}", self.take(name, "a dict"))

    def array(
        self, name: str, shape: Shape, dtype: Any, least: float = -math.inf, most: float = math.inf
    ) -> npt.NDArray[Any]:
        """An array of finite numbers in a range; None in the shape is any length but 0."""
        expected = f"an array {_lengths(shape)} of {np.dtype(dtype)}"
        value = self.take(name, expected)
        if not isinstance(value, np.ndarray) or value.dtype != dtype or not _fits(value.shape, shape):
            raise self.refuse(name, expected, value)
        if not (np.isfinite(value) & (value >= least) & (value <= most)).all():
            raise self.refuse(name, f"finite, from {least:g} to {most:g}", value)
        return value

    def scales(self, name: str, shape: Shape) -> npt.NDArray[np.float64]:
        """An array of positive numbers, which may be scales of numbers in float32."""
        return self.array(name, shape, np.float64, 2.0**-150, 2.0**128)

    def tensor(self, name: str, shape: Shape, dtype: torch.dtype, most: float = math.inf) -> Tensor:
        """A tensor of finite numbers, none larger than ``most``; None in the shape is any length but 0."""
        expected = f"a tensor {_lengths(shape)} of {dtype}"
        value = self.take(name, expected)
        if not isinstance(value, Tensor) or value.dtype != dtype or not _fits(tuple(value.shape), shape):
            raise self.refuse(name, expected, value)
        if not bool(torch.isfinite(value).all()):
            raise self.refuse(name, "finite", value)
        if bool((value.abs() > most).any()):
            raise self.refuse(name, f"at most {most:g}", value)
        return value

    def tensors(self, name: str, like: Mapping[str, Tensor], most: float) -> dict[str, Tensor]:
        """A dict of tensors with the names, shapes and dtypes of others, no number larger than ``most``."""
        fields = self.mapping(name)
        found = {key: fields.tensor(key, tuple(one.shape), one.dtype, most) for key, one in like.items()}
        fields.end()
        return found

    def _number(self, name: str, value: Any, least: float, most: float, expected: str) -> float:
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise self.refuse(name, expected, value)
        if not least <= float(value) <= most:
            raise self.refuse(name, expected, value)
        return float(value)


def _fits(found: tuple[int, ...], expected: Shape) -> bool:
    return len(found) == len(expected) and all(
        got == want if want is not None else got > 0 for got, want in zip(found, expected, strict=True)
    )


def _lengths(shape: Shape) -> str:
    return f"({', '.join('any' if length is None else str(length) for length in shape)})"


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {value.dtype}"
    if isinstance(value, np.ndarray):
        return f"an array {value.shape} of {value.dtype}"
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."
