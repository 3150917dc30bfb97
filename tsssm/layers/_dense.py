"""The scan of a dense system by its discretised matrices: right for every rule, and O(N^2) a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tsssm.discretize import discretize_dense
from tsssm.ops.chunked.linear import MATRICES, SAMPLES, states

# Entries of all discretised matrices that exist at one time: 64 MiB in float64.
MATRIX_ENTRIES = 2**23


def dense_scan(
    u: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    step: Tensor,
    dt: Tensor | None,
    x0: Tensor | None,
    method: str | float,
) -> tuple[Tensor, Tensor]:
    """State-space model with a dense matrix, from the first sample to the last.

    Each distinct gap is discretised once, or, where the matrices of all of them exceed `MATRIX_ENTRIES`, once
    in each block of samples. The matrices of the samples of a block stay below that number, or the block is
    a single sample; what a block computes is computed again for its gradient. On other devices than the CPU a
    block has at least 64 samples, and no step of Python for each of them.

    Parameters
    ----------
    u : Tensor (batch, L, H), real
    A : Tensor (H or 1, N, N), float64
    B : Tensor (H or 1, N), float64
    C : Tensor (M, H, N), of the dtype of u
    step : Tensor (H,), float64
        Timescale Delta of each channel.
    dt : Tensor (batch, L), optional
        Elapsed time since the previous sample; None is a regular grid of step 1, 0 is padding.
    x0 : Tensor (batch, H, N), of the dtype of u, optional
        State to start from; zero by default.
    method : {"zoh", "bilinear", "backward-euler", "euler"} or float
        As in `discretize_dense`.

    Returns
    -------
    y : Tensor (batch, M, L, H)
    x : Tensor (batch, H, N)
    """
    batch, length, channels = u.shape
    entries = channels * A.shape[-1] ** 2
    x = u.new_zeros(batch, channels, A.shape[-1]) if x0 is None else x0
    system = (A, B, step, method)
    matrices = None
    if dt is None:
        matrices = _matrices(*system, step.new_ones(1), u.dtype)
        block, samples = length, None
    else:
        block, samples = MATRIX_ENTRIES // (max(1, batch) * entries), dt.to(step.dtype)
        block = max(SAMPLES if _folds(u) else 1, block)
        distinct, index = _distinct(samples)
        if len(distinct) * entries <= MATRIX_ENTRIES:
            matrices, samples = _matrices(*system, distinct, u.dtype), index
    ys = []
    for start in range(0, length, block):
        part = slice(start, start + block)
        arguments = (None if samples is None else samples[:, part], u[:, part], C, x)
        y, x = _run(_advance, *matrices, *arguments) if matrices else _run(_block, *system, *arguments)
        ys.append(y)
    return torch.cat(ys, dim=2), x


def _run(function: Callable[..., tuple[Tensor, Tensor]], *arguments: Any) -> tuple[Tensor, Tensor]:
    """A call whose intermediate results are computed again for the gradient, and not kept."""
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return function(*arguments)
    return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)


def _matrices(
    A: Tensor, B: Tensor, step: Tensor, method: str | float, distinct: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """A_bar (U, H, N, N) and B_bar (U, H, N) of the gaps (U,)."""
    A_bar, B_bar, _ = discretize_dense(A, B, distinct[:, None] * step, method)
    return A_bar.to(dtype), B_bar.to(dtype)


def _block(
    A: Tensor,
    B: Tensor,
    step: Tensor,
    method: str | float,
    dt: Tensor,
    u: Tensor,
    C: Tensor,
    x: Tensor,
) -> tuple[Tensor, Tensor]:
    distinct, index = _distinct(dt)
    return _advance(*_matrices(A, B, step, method, distinct, u.dtype), index, u, C, x)


def _advance(
    A_bar: Tensor, B_bar: Tensor, index: Tensor | None, u: Tensor, C: Tensor, x: Tensor
) -> tuple[Tensor, Tensor]:
    """The recurrence, with the matrices of ``index`` (batch, L) or, without one, the only ones."""
    if _folds(u):
        transition = A_bar.expand(1, u.shape[1], *A_bar.shape[1:]) if index is None else A_bar[index]
        xs = states(MATRICES, transition, (B_bar if index is None else B_bar[index]) * u[..., None], x)
        return torch.einsum("mhn,bthn->bmth", C, xs), xs[:, -1]
    ys = []
    for k in range(u.shape[1]):
        if index is None:
            x = torch.einsum("hij,bhj->bhi", A_bar[0], x) + B_bar[0] * u[:, k, :, None]
        else:
            rows = index[:, k]
            x = torch.einsum("bhij,bhj->bhi", A_bar[rows], x) + B_bar[rows] * u[:, k, :, None]
        ys.append(torch.einsum("mhn,bhn->bmh", C, x))
    return torch.stack(ys, dim=2), x


def _folds(u: Tensor) -> bool:
    """Whether products of matrices beat a loop over the samples: where each of its steps is a launch."""
    return u.device.type != "cpu"


def _distinct(dt: Tensor) -> tuple[Tensor, Tensor]:
    """Gaps (U,), and which of them each sample has, (batch, L)."""
    if torch.compiler.is_compiling() or dt.requires_grad:
        # A traced graph cannot depend on how many are distinct, and unique has no derivative.
        return dt.flatten(), torch.arange(dt.numel(), device=dt.device).view_as(dt)
    return dt.unique(return_inverse=True)
