"""Warnings about data that can be read, but look wrong."""

from __future__ import annotations

import sys
import warnings
from types import FrameType


class DataWarning(UserWarning):
    """Data were read as they are, but look wrong.

    Such as a variable that was asked for and a table lacks, a channel without values, or values of another
    unit. Silence them with ``warnings.simplefilter("ignore", tsssm.DataWarning)``; with "error" in place of
    "ignore" they are raised.
    """


def warn_of_data(message: str, category: type[Warning] = DataWarning) -> None:
    """Issue a warning at the line outside of this package from which it was called."""
    level = 1
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "tsssm":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
