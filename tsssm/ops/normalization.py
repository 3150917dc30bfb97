"""The public batch normalisation over time: arguments are checked and the backend is chosen here."""

from __future__ import annotations

import torch
from torch import Tensor

from tsssm.ops import reference
from tsssm.ops.operands import fills_registers


def batch_norm(
    h: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor,
    bias: Tensor,
    keep: Tensor | None = None,
    *,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    r"""Batch normalisation by the statistics of the batch, over the samples of all series that count.

    .. math:: (h - \mu) / \sqrt{v + \epsilon} \cdot \mathrm{weight} + \mathrm{bias}

    with the mean :math:`\mu` and the variance :math:`v` of each channel (Ioffe and Szegedy, arXiv
    1502.03167).

    Parameters
    ----------
    h : Tensor (batch, L, H), floating point
    running_mean, running_var : Tensor (H,)
        Moved towards the mean and the unbiased variance of the batch, in place.
    weight, bias : Tensor (H,)
    keep : Tensor (batch, L), bool, optional
        Which samples count; the others, padding, become 0. By default all do.
    momentum : float
        How far the running statistics move.
    eps : float
        Added to the variance.

    Returns
    -------
    Tensor (batch, L, H)

    Raises
    ------
    ValueError
        If shapes or dtypes disagree, or fewer than two samples count.

    Notes
    -----
    On other devices than the CPU the samples in ``keep`` are not counted, as the host would have to wait:
    where fewer than two samples count, the running statistics are used, and stay as they are.
    """
    channels = h.shape[-1]
    if h.ndim != 3 or not h.is_floating_point():
        raise ValueError(f"h must be floating point (batch, L, H); got {h.dtype} {tuple(h.shape)}.")
    vectors = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    for name, vector in vectors.items():
        if vector.shape != (channels,):
            raise ValueError(
                f"{name} must be ({channels},) for h {tuple(h.shape)}; got {tuple(vector.shape)}."
            )
    if keep is not None and (keep.shape != h.shape[:2] or keep.dtype != torch.bool):
        raise ValueError(f"keep must be bool {tuple(h.shape[:2])}; got {keep.dtype} {tuple(keep.shape)}.")
    if keep is not None and h.device.type != "cpu":
        return _masked(h, running_mean, running_var, weight, bias, keep, momentum, eps)
    count = h.shape[0] * h.shape[1] if keep is None else int(keep.sum())
    if count < 2:
        raise ValueError(f"h must have at least two samples to keep; got {count} of {tuple(h.shape)}.")
    # Without padding PyTorch's is as fast.
    if keep is not None and fills_registers(h, *vectors.values()):
        # Numba is imported, and its kernels are loaded, when the first CPU tensor arrives.
        from tsssm.ops.autograd import normalization as compiled

        return compiled.BatchNorm.apply(
            h, running_mean, running_var, weight, bias, keep, count, momentum, eps
        )
    return reference.batch_norm(h, running_mean, running_var, weight, bias, keep, momentum, eps)


def _masked(
    h: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor,
    bias: Tensor,
    keep: Tensor,
    momentum: float,
    eps: float,
) -> Tensor:
    """The same by sums over all samples, in which those that do not count are zero."""
    counts = keep[..., None]
    values = torch.where(counts, h, 0).to(running_mean.dtype)
    n = keep.sum().clamp(min=1).to(values.dtype)
    enough = n > 1
    mean = torch.where(enough, values.sum((0, 1)) / n, running_mean)
    centred = torch.where(counts, values - mean, 0)
    variance = torch.where(enough, centred.square().sum((0, 1)) / n, running_var)
    with torch.no_grad():
        unbiased = torch.where(enough, variance * n / (n - 1).clamp(min=1), running_var)
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(unbiased, momentum)
    out = centred * torch.rsqrt(variance + eps) * weight + bias
    return torch.where(counts, out, 0).to(h.dtype)
