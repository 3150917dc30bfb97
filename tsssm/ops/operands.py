"""Checks of what an operation is given, and which backend takes it."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from numbers import Real
from types import ModuleType

import torch
from torch import Tensor

from tsssm.ops import chunked
from tsssm.ops.sequence import reversed_gaps


def _has_triton() -> bool:
    """Whether there is a Triton that compiles the kernels; it comes with PyTorch where that is for CUDA.

    They use tuples, which 3.2 (of PyTorch 2.6) does not know.
    """
    if find_spec("triton") is None:
        return False
    try:
        found = version("triton")
    except PackageNotFoundError:  # under another name, for other makes of device
        return True
    return tuple(map(int, found.split(".")[:2])) >= (3, 3)


_HAS_TRITON = _has_triton()


def has_kernels(device: torch.device) -> bool:
    """Whether a device has compiled kernels: those for the CPU, or those for CUDA where Triton is."""
    return device.type == "cpu" or (_HAS_TRITON and device.type == "cuda")


def path_on(device: torch.device) -> str:
    """What runs the scans on a device, in words."""
    if device.type == "cpu":
        return "compiled by Numba"
    if has_kernels(device):
        return "Triton kernels in float32, else PyTorch over chunks of time"
    return "PyTorch over chunks of time"


def runs_compiled(u: Tensor, dt: Tensor | None = None, on_gpu: bool = False) -> bool:
    """Whether a compiled backend takes a call; none gives a gradient of the gaps.

    ``on_gpu`` says that the operation has Triton kernels, which compute in float32.
    """
    if dt is not None and dt.requires_grad:
        return False
    if u.device.type == "cpu":
        return True
    return on_gpu and has_kernels(u.device) and u.dtype == torch.float32


def fills_registers(*tensors: Tensor) -> bool:
    """Whether the compiled passes over all entries take a call: float32, on a CPU, 16 k channels.

    A compiler of whole graphs fuses the plain operations itself.
    """
    return (
        all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)
        and tensors[0].shape[-1] % 16 == 0
        and tensors[0].numel() > 0
        and not torch.compiler.is_compiling()
    )


def backend(operation: str, device: torch.device) -> ModuleType:
    """The compiled backend of an operation, imported when the first tensor of a device arrives."""
    return import_module(f"tsssm.ops.{'cpu' if device.type == 'cpu' else 'gpu'}.{operation}")


# What the registers of a warp hold of a coupled system, and how far its readouts are unrolled.
_MODES_OF_A_WARP = 128
_READOUTS_OF_A_WARP = 8


def fits_a_warp(modes: int, readouts: int) -> bool:
    """Whether the Triton kernels of coupled systems take one of so many modes and readouts."""
    return modes <= _MODES_OF_A_WARP and readouts <= _READOUTS_OF_A_WARP


def plain() -> ModuleType:
    """The backend in plain PyTorch, for calls that no compiled one takes."""
    return chunked


# dtype.to_real is not known to torch.compile.
REAL = {torch.complex64: torch.float32, torch.complex128: torch.float64}
Expected = dict[str, tuple[Tensor, tuple[int, ...], torch.dtype]]


def check_input(u: Tensor) -> tuple[int, int, int]:
    """Batch, length and channels of an input; ValueError unless it is one."""
    if u.ndim != 3 or u.shape[1] == 0 or u.shape[2] == 0 or not u.is_floating_point():
        raise ValueError(
            f"u must be real floating point (batch, L, H) with L, H >= 1; got {u.dtype} {tuple(u.shape)}."
        )
    batch, length, channels = u.shape
    return batch, length, channels


def check_eigenvalues(name: str, A: Tensor) -> tuple[torch.dtype, int]:
    """The real dtype that the operation computes in, and the number of modes."""
    if A.dtype not in REAL or A.ndim != 2 or A.shape[1] == 0:
        raise ValueError(
            f"{name} must be complex64 or complex128 (H, N) with N >= 1; got {A.dtype} {tuple(A.shape)}."
        )
    return REAL[A.dtype], A.shape[1]


def check(u: Tensor, expected: Expected) -> None:
    """Raise ValueError unless every tensor, by name, has its shape and dtype."""
    for name, (tensor, shape, dtype) in expected.items():
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            got = f"{tensor.dtype} {tuple(tensor.shape)}"
            raise ValueError(f"{name} must be {dtype} {shape} for u {tuple(u.shape)}; got {got}.")


def needs_gradient(*operands: Tensor | None) -> bool:
    """Whether autograd will want the adjoint."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in operands)


def check_readouts(C: Tensor) -> None:
    """Raise ValueError unless C is (M, H, N) or (K, M, H, N) with one or two directions K and M >= 1."""
    if C.ndim not in (3, 4) or (C.ndim == 4 and C.shape[0] not in (1, 2)) or C.shape[-3] == 0:
        raise ValueError(
            f"C must be (M, H, N) or (K, M, H, N) with M >= 1 and K = 1 or 2; got {tuple(C.shape)}."
        )


def check_rank(P: Tensor) -> None:
    """Raise ValueError unless P is (rank, H, N) with at least one row of the low-rank part."""
    if P.ndim != 3 or P.shape[0] == 0:
        raise ValueError(f"P must be (rank, H, N) with rank >= 1; got {tuple(P.shape)}.")


def check_alpha(alpha: float) -> float:
    """The alpha of a generalised bilinear transform; ValueError unless it is a number in [0, 1]."""
    if isinstance(alpha, bool) or not isinstance(alpha, Real) or not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be a number in [0, 1]; got {alpha!r}.")
    return float(alpha)


def stacked_gaps(dt: Tensor | None, directions: int, reverse: bool, dtype: torch.dtype) -> Tensor | None:
    """Gaps (K, batch, L) as the scan of each direction meets them; the second direction is opposite."""
    if dt is None:
        return None
    dt = dt.to(dtype)
    orders = (reverse, not reverse)[:directions]
    return torch.stack([reversed_gaps(dt) if backwards else dt for backwards in orders])
