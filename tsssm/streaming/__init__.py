"""Predictions that are brought up to date with every sample, in constant memory.

``_stream`` is what users hold, ``_models`` what it feeds: ``_samples`` encodes, ``_layerwise`` steps the
blocks of any network, ``_compiled`` those of diagonal layers in one call, ``_forecasts`` a forecaster.
"""

from tsssm.streaming._stream import Stream, StreamState

__all__ = ["Stream", "StreamState"]
