"""Trained networks as ONNX files, which run without Python: over whole series, or sample by sample.

``_graph`` writes operators, ``_cells`` one step of each kind of system, ``_layers`` what stands around them,
``_encoding`` what happens to samples before, ``_model`` joins them, ``_estimators`` is for estimators.
"""

from tsssm.exporting._estimators import to_onnx
from tsssm.exporting._layers import ExportError

__all__ = ["ExportError", "to_onnx"]
