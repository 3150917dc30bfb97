"""The public scans of many fixed systems: arguments are checked and the backend is chosen here."""

from __future__ import annotations

import torch
from torch import Tensor

from tsssm.ops.operands import REAL, backend, plain, runs_compiled

#: Neighbouring readouts that compete with one another.
COMPETITORS = 8
# Modes up to which a system stays in the registers of a program of the GPU.
_MODES_ON_GPU = 64


def pooled_scan(
    u: Tensor,
    held: Tensor,
    offsets: Tensor,
    steps: Tensor,
    index: Tensor,
    weight: Tensor,
    A: Tensor,
    B: Tensor,
    mix_u: Tensor,
    mix_held: Tensor,
    C: Tensor,
    D: Tensor,
    thresholds: Tensor,
    *,
    shares: bool = True,
    competition: bool = True,
    n_threads: int = 1,
) -> Tensor:
    r"""Readouts of many fixed systems over ragged series, pooled over time.

    Group g is a system of its own with one input, a mixture of the channels, and R readouts:

    .. math::
        v = m_g \cdot u + m'_g \cdot w, \qquad \dot x = A_g x + B_g v, \qquad y = \mathrm{Re}(C_g x) + D_g v,

    with the channels u linear between the samples and the channels w constant over the step that leads to a
    sample, which the recurrence integrates exactly (first-order hold), whatever the steps are. A series
    starts from rest, one step before its first sample, and that step is taken with the input of the first
    sample. Kept of each readout, summed over the samples with their weights:

    - the share of the time for which y exceeds either of two thresholds (as MiniRocket pools convolutions,
      arXiv 2012.08791);
    - in blocks of eight neighbouring readouts, the y of the largest, for that readout, and the share of the
      time for which it is the smallest (as Hydra does, arXiv 2203.13652). Of several equal ones each counts.

    Parameters
    ----------
    u : Tensor (H, total), float32 or float64
        Channels that are linear between the samples, one series after another; finite.
    held : Tensor (H', total), dtype of ``u``
        Channels that are constant over a step; H' may be 0.
    offsets : Tensor (n + 1,), int64
        Series i holds the samples ``offsets[i]`` to ``offsets[i + 1]``; increasing.
    steps : Tensor (K,), float64
        Distinct steps, not negative.
    index : Tensor (total,), int32 or int64
        Which of them leads to each sample.
    weight : Tensor (total,), dtype of ``u``
        Weight of each sample; those of a series should sum to 1.
    A : Tensor (G, N), complex128, or (G, N, N), float64
        Diagonal or dense systems in continuous time, in 1 / (unit of the steps).
    B : Tensor (G, N), dtype of ``A``
    mix_u, mix_held : Tensor (G, H) and (G, H'), dtype of ``u``
        Proportions of the channels in the input of each group.
    C : Tensor (G, R, N), dtype of ``A``
        Readouts; R is a multiple of 8.
    D : Tensor (G, R), dtype of ``u``
    thresholds : Tensor (G, 2, R), dtype of ``u``
    shares, competition : bool, default=True
        What is kept; at least one.
    n_threads : int, default=1
        Threads on a CPU. The result does not depend on it.

    Returns
    -------
    Tensor (n, G, 2 or 4, R), dtype of ``u``
        The two shares, the sum of the largest, the share of the smallest. It carries no gradient.

    Raises
    ------
    ValueError
        If shapes or dtypes disagree, offsets do not increase to ``total`` or an index is out of range.

    Notes
    -----
    Memory beside the result is a few tens of KiB a thread and the discretised systems, K G N numbers.

    Compiled on a CPU, and on a CUDA device in float32, where Triton is installed; there the result is the
    same to rounding, so that a sample whose readout is at a threshold may fall on the other side of it.
    Elsewhere, and for systems of more than 64 states there, PyTorch's operations over chunks of samples,
    which keep every readout of every sample in memory.
    """
    _check_signals(u, held, offsets, steps, index)
    check_systems(u, held, A, B, mix_u, mix_held, C, D)
    _check_each(weight=(weight, (u.shape[1],), u.dtype))
    check_thresholds(u, C, thresholds)
    if not (shares or competition):
        raise ValueError("shares, competition or both must be True; got neither.")
    operands = (u, held, offsets, steps, index, weight, A, B, mix_u, mix_held, C, D, thresholds, COMPETITORS)
    with torch.no_grad():
        if runs_compiled(u, on_gpu=C.shape[2] <= _MODES_ON_GPU):
            compiled = backend("features", u.device)
            return compiled.pooled_scan(*operands, shares, competition, n_threads)
        return plain().pooled_scan(*operands, shares, competition)


def readout_scan(
    u: Tensor,
    held: Tensor,
    offsets: Tensor,
    steps: Tensor,
    index: Tensor,
    A: Tensor,
    B: Tensor,
    mix_u: Tensor,
    mix_held: Tensor,
    C: Tensor,
    D: Tensor,
) -> Tensor:
    """The readouts that `pooled_scan` pools, at every sample.

    Parameters
    ----------
    u, held, offsets, steps, index, A, B, mix_u, mix_held, C, D : Tensor
        As in `pooled_scan`.

    Returns
    -------
    Tensor (G, R, total), dtype of ``u``
        It carries no gradient.

    Raises
    ------
    ValueError
        As in `pooled_scan`.
    """
    _check_signals(u, held, offsets, steps, index)
    check_systems(u, held, A, B, mix_u, mix_held, C, D)
    operands = (u, held, offsets, steps, index, A, B, mix_u, mix_held, C, D)
    with torch.no_grad():
        if runs_compiled(u):
            return backend("features", u.device).readout_scan(*operands)
        return plain().readout_scan(*operands)


def _check_signals(u: Tensor, held: Tensor, offsets: Tensor, steps: Tensor, index: Tensor) -> None:
    if u.ndim != 2 or u.shape[1] == 0 or u.dtype not in REAL.values():
        raise ValueError(
            f"u must be float32 or float64 (H, total) with total >= 1; got {u.dtype} {_shape(u)}."
        )
    total = u.shape[1]
    _check_each(
        held=(held, (len(held), total), u.dtype),
        offsets=(offsets, (max(2, offsets.numel()),), torch.int64),
        steps=(steps, (max(1, steps.numel()),), torch.float64),
        index=(index, (total,), torch.int64 if index.dtype == torch.int64 else torch.int32),
    )
    if offsets[0] != 0 or offsets[-1] != total or bool((offsets.diff() <= 0).any()):
        raise ValueError(f"offsets must increase from 0 to {total}; got {offsets.tolist()[:8]} ...")
    # The compiled loops do not look where they read.
    low, high = (int(bound) for bound in index.aminmax())
    if low < 0 or high >= len(steps):
        raise ValueError(f"index must be between 0 and {len(steps) - 1}; got {low} to {high}.")


def check_systems(
    u: Tensor, held: Tensor, A: Tensor, B: Tensor, mix_u: Tensor, mix_held: Tensor, C: Tensor, D: Tensor
) -> None:
    """Raise ValueError unless these are systems, as in `pooled_scan`, for signals u and held."""
    if (A.dtype, A.ndim) not in ((torch.complex128, 2), (torch.float64, 3)) or A.numel() == 0:
        raise ValueError(f"A must be complex128 (G, N) or float64 (G, N, N); got {A.dtype} {_shape(A)}.")
    if C.ndim != 3 or C.shape[1] == 0 or C.shape[1] % COMPETITORS:
        raise ValueError(f"C must be (G, R, N) with R a positive multiple of {COMPETITORS}; got {_shape(C)}.")
    groups, modes, readouts = A.shape[0], A.shape[-1], C.shape[1]
    _check_each(
        A=(A, (groups, *(modes,) * (A.ndim - 1)), A.dtype),
        B=(B, (groups, modes), A.dtype),
        mix_u=(mix_u, (groups, len(u)), u.dtype),
        mix_held=(mix_held, (groups, len(held)), u.dtype),
        C=(C, (groups, readouts, modes), A.dtype),
        D=(D, (groups, readouts), u.dtype),
    )


def check_thresholds(u: Tensor, C: Tensor, thresholds: Tensor) -> None:
    """Raise ValueError unless these are thresholds, as in `pooled_scan`, of the readouts C."""
    _check_each(thresholds=(thresholds, (len(C), 2, C.shape[1]), u.dtype))


def _check_each(**expected: tuple[Tensor, tuple[int, ...], torch.dtype]) -> None:
    for name, (tensor, shape, dtype) in expected.items():
        if _shape(tensor) != shape or tensor.dtype != dtype:
            raise ValueError(f"{name} must be {dtype} {shape}; got {tensor.dtype} {_shape(tensor)}.")


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
