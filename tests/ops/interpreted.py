"""The Triton kernels on CPU tensors, by Triton's interpreter; where there is none, importing this skips."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from tsssm.ops import features
from tsssm.ops.autograd import diagonal, dplr, liquid, tridiagonal

if torch.cuda.is_available():
    pytest.skip("the kernels run on the device here: tests/ops/test_gpu_device.py", allow_module_level=True)

# PyTorch, or what is built on it, may have imported Triton for compiling. All but its extension in C, which
# can be loaded only once, is imported anew.
for name in [name for name in sys.modules if name.split(".")[0] == "triton" and "_C" not in name]:
    del sys.modules[name]
# Triton reads it when it is imported and when a kernel is defined; nothing else shall see it.
os.environ["TRITON_INTERPRET"] = "1"
try:
    pytest.importorskip("triton")
    from tsssm.ops.gpu import diagonal as kernels
    from tsssm.ops.gpu import dplr as dplr_kernels
    from tsssm.ops.gpu import features as pooling_kernels
    from tsssm.ops.gpu import lanes, whole
    from tsssm.ops.gpu import liquid as liquid_kernels
    from tsssm.ops.gpu import tridiagonal as tridiagonal_kernels
    from tsssm.ops.gpu.diagonal import scan
    from tsssm.ops.gpu.features import scan as pooling
    from tsssm.ops.gpu.liquid import scan as liquid_scan
finally:
    del os.environ["TRITON_INTERPRET"]


@contextmanager
def on_kernels(samples: int = 4, group: int = 2, modes: int = 2) -> Iterator[None]:
    """Let the public scans run the kernels, cut so small that a short test has several of every part."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        patch.setattr(diagonal, "backend", lambda *_: kernels)
        patch.setattr(lanes, "SAMPLES", samples)
        patch.setattr(scan, "_FORWARD_MODES", modes)
        patch.setattr(scan, "_GROUP", group)
        patch.setattr(scan, "_BACKWARD_GROUP", {"light": group, "heavy": group})
        patch.setattr(liquid, "backend", lambda *_: liquid_kernels)
        patch.setattr(liquid_scan, "_GROUP", group)
        patch.setattr(liquid_scan, "_FORWARD_SLOTS", 2 * modes)
        yield


@contextmanager
def whole_on_kernels(samples: int = 4, tile: int = 8) -> Iterator[None]:
    """Let the scans that run a channel from end to end do so, with few samples between kept states."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        patch.setattr(dplr, "backend", lambda *_: dplr_kernels)
        patch.setattr(tridiagonal, "backend", lambda *_: tridiagonal_kernels)
        patch.setattr(whole, "SAMPLES", samples)
        patch.setattr(whole, "_TILE", tile)
        yield


@contextmanager
def pooled_by_kernels(samples: int = 4, readouts: int = 8, least: int = 1) -> Iterator[None]:
    """Let `pooled_scan` run the kernel, on tiles so small that a short test has several of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        patch.setattr(features, "backend", lambda *_: pooling_kernels)
        patch.setattr(pooling, "_SAMPLES", samples)
        patch.setattr(pooling, "_READOUTS", readouts)
        patch.setattr(pooling, "_LEAST", least)
        yield
