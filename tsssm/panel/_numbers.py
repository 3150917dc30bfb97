"""Arrays of real numbers from whatever holds them, in the precision that a panel keeps.

The wording of one message ("Complex data not supported") is the one that scikit-learn's ``check_estimator``
looks for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

FloatArray = npt.NDArray[np.floating[Any]]

#: From this size on values keep the digits that float64 has beyond float32, a step of which is then 2^-6.
DOUBLE_FROM = 2.0**17


def plain(x: Any, name: str) -> Any:
    """Return a torch tensor as an array, whatever its gradient, device and precision; others as they are.

    Tensors are known by their attributes, so that torch need not be loaded.

    Raises
    ------
    TypeError
        For tensors that hold no array: sparse and nested ones and those without values.
    """
    if not (hasattr(x, "is_nested") and hasattr(x, "detach")):
        return x
    if x.is_nested:
        raise TypeError(f"{name} is a nested tensor; pass the list of its tensors: list({name}.unbind()).")
    if x.device.type == "meta":
        raise TypeError(f"{name} is a tensor of shape {tuple(x.shape)} on the device 'meta', without values.")
    if not str(x.layout).endswith("strided"):
        raise TypeError(f"{name} is a sparse tensor ({x.layout}); pass a dense one: {name}.to_dense().")
    x = x.detach().cpu().resolve_conj().resolve_neg()
    # NumPy has no bfloat16 and nothing smaller than float16.
    return (x.float() if x.is_floating_point() and x.element_size() < 4 else x).numpy()


def reject_sparse(x: Any, name: str) -> None:
    """Raise TypeError for SciPy's sparse containers, known by a method so that SciPy need not be loaded."""
    if hasattr(x, "tocsr"):
        raise TypeError(
            f"{name} is a sparse matrix ({type(x).__name__}); pass a dense array: {name}.toarray()."
        )


def numeric_array(x: Any, name: str) -> npt.NDArray[Any]:
    """Return ``x`` as an array of real numbers in its own precision, any shape; masked entries become NaN.

    Raises
    ------
    TypeError
        For sparse matrices, strings, dates and objects that are not numbers.
    ValueError
        For complex numbers and for nested sequences of unequal lengths.
    """
    reject_sparse(x, name)
    x = plain(x, name)
    if isinstance(x, np.ma.MaskedArray) and x.dtype.kind in "fiubO":
        x = np.ma.filled(x.astype(np.result_type(x.dtype, np.float32)), np.nan)
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise ValueError(f"{name} is a nested sequence of unequal lengths, not an array: {error}") from error
    except (TypeError, RuntimeError) as error:
        raise TypeError(
            f"{name} cannot be converted to an array, got a {type(x).__name__}: {error}"
        ) from error
    if array.dtype.kind == "O":
        array = _numbers_from_objects(array, name)
    if array.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {name} has dtype {array.dtype}.")
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype} with shape {array.shape}.")
    return array


def _numbers_from_objects(array: npt.NDArray[np.object_], name: str) -> npt.NDArray[np.float64]:
    """Convert an object array of numbers; None and pandas.NA become NaN."""
    # float() would accept "1.5": text among the numbers is a mistake in the caller's data, not a number.
    text = next((item for item in array.flat if isinstance(item, (str, bytes))), None)
    if text is not None:
        raise TypeError(
            f"{name} must hold real numbers, nothing categorical; got the text {text!r} in an object array."
        )
    try:
        return np.where(pd.isna(array), np.nan, array).astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        kinds = sorted({type(item).__name__ for item in array.flat})
        raise TypeError(f"{name} must hold real numbers, got an object array of {kinds}: {error}") from error


def to_floats(array: npt.NDArray[Any]) -> FloatArray:
    """Return real numbers as a C-contiguous array of floats, the same memory where possible.

    Each is rounded to float32, unless it is so large, `DOUBLE_FROM`, that a small signal on top of it would
    drown: those keep float64. The array is float64 if there are any, else float32. Each value by itself, so
    that no series depends on others. What overflows in float32 does not change.
    """
    with np.errstate(over="ignore"):  # reported by `validate`
        single = np.ascontiguousarray(array, dtype=np.float32)
        double = np.asarray(array, dtype=np.float64) if array.dtype.itemsize > 8 else array
    if array.dtype.itemsize < (4 if array.dtype.kind in "iu" else 8):
        return single
    if not (
        np.fmax.reduce(single, axis=None) >= DOUBLE_FROM or np.fmin.reduce(single, axis=None) <= -DOUBLE_FROM
    ):
        return single
    large = np.abs(single) >= DOUBLE_FROM
    same = np.array_equal(double[large], single[large])
    return single if same else np.ascontiguousarray(np.where(large, double, single), dtype=np.float64)
