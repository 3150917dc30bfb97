"""Deep state-space models for time series."""

from tsssm._version import __version__

__all__ = ["__version__"]
