"""Trained networks as files that run elsewhere: ONNX without Python, and programs of `torch.export`.

``_graph`` writes operators of ONNX, ``_cells`` one step of each kind of system, ``_layers`` what stands
around them, ``_encoding`` what happens to samples before, ``_model`` joins them, ``_estimators`` is for
estimators; ``_torch`` is all of it for PyTorch.
"""

from tsssm.exporting._checks import ExportError
from tsssm.exporting._estimators import to_onnx
from tsssm.exporting._torch import load_torch_export, to_torch_export

__all__ = ["ExportError", "load_torch_export", "to_onnx", "to_torch_export"]
