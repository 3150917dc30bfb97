"""Ragged, irregular, partly missing time series in one container, and the converter that builds it.

A :class:`Panel` holds n series of unequal length with the same channels; :func:`as_panel` makes one from
everything that scikit-learn and sktime users pass as X. NumPy and pandas only: no torch, no sktime.
"""

from tsssm.panel._checks import LARGEST_TIME
from tsssm.panel._convert import as_panel
from tsssm.panel._numbers import DOUBLE_FROM, plain, to_floats
from tsssm.panel._panel import Panel, panel_like
from tsssm.panel._warnings import DataWarning, warn_of_data

__all__ = [
    "DOUBLE_FROM",
    "LARGEST_TIME",
    "DataWarning",
    "Panel",
    "as_panel",
    "panel_like",
    "plain",
    "to_floats",
    "warn_of_data",
]
