"""Predictions that are brought up to date with every sample, in constant memory."""

from tsssm.streaming._stream import Stream, StreamState

__all__ = ["Stream", "StreamState"]
