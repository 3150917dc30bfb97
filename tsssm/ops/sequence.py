"""What a scan needs to know about time: gaps seen from the other end, and the input before each sample."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class ScanState(NamedTuple):
    """What a scan carries over a cut of the sequence.

    Attributes
    ----------
    x : Tensor (batch, H, N)
        The state after the last sample.
    u : Tensor (batch, H)
        The last input, from which first-order hold starts its next line. Other methods ignore it.
    """

    x: Tensor
    u: Tensor


def reversed_gaps(dt: Tensor) -> Tensor:
    """Gaps for a scan that runs from the last sample to the first.

    Going from sample k+1 to sample k takes the time ``dt[k+1]``. The first sample of a scan has no
    predecessor and uses the sequence's own first gap, in this direction as in the other one, so that
    reversing a series in time reverses the output. Padding (``dt`` = 0 at the end) stays padding.

    Parameters
    ----------
    dt : Tensor (batch, L)

    Returns
    -------
    Tensor (batch, L)
    """
    batch, length = dt.shape
    rows = torch.arange(batch, device=dt.device)
    backward = torch.cat([dt[:, 1:], torch.zeros_like(dt[:, :1])], dim=1)
    return backward.index_put((rows, last_sample(dt)), dt[:, 0])


def last_sample(dt: Tensor) -> Tensor:
    """Index (batch,) of the last sample that time reaches: the last one with a positive gap, or 0."""
    positions = torch.arange(dt.shape[1], device=dt.device)
    return torch.where(dt > 0, positions, torch.zeros_like(positions)).amax(dim=1)


def reached_samples(dt: Tensor) -> Tensor:
    """Which samples (batch, L) belong to their series: all up to `last_sample`; the rest is padding.

    A gap of zero within a series is no padding: it stands between two samples with one time stamp.
    """
    return torch.arange(dt.shape[1], device=dt.device) <= last_sample(dt)[:, None]


def previous_inputs(u: Tensor, u0: Tensor, dt: Tensor | None, reverse: bool) -> Tensor:
    """The input before each sample, (batch, L, H), in the direction of the scan; ``u0`` (batch, H) starts it.

    Samples with a zero gap are passed over: they are padding, and what stands there must not leak.
    ``dt`` are the gaps of that direction.
    """
    if reverse:
        flipped = None if dt is None else dt.flip(1)
        return previous_inputs(u.flip(1), u0, flipped, False).flip(1)
    if dt is None:
        return torch.cat([u0[:, None], u[:, :-1]], dim=1)
    positions = torch.arange(1, dt.shape[1] + 1, device=dt.device)
    latest = torch.where(dt > 0, positions, torch.zeros_like(positions)).cummax(dim=1).values
    before = torch.cat([torch.zeros_like(latest[:, :1]), latest[:, :-1]], dim=1)
    history = torch.cat([u0[:, None], u], dim=1)
    return history.gather(1, before[..., None].expand_as(u))


def final_input(u: Tensor, u0: Tensor, dt: Tensor | None, reverse: bool) -> Tensor:
    """The input (batch, H) that the next piece of the sequence finds as its previous one."""
    if dt is None:
        return u[:, 0] if reverse else u[:, -1]
    if reverse:
        return final_input(u.flip(1), u0, dt.flip(1), False)
    rows = torch.arange(u.shape[0], device=u.device)
    reached = (dt > 0).any(dim=1, keepdim=True)
    return torch.where(reached, u[rows, last_sample(dt)], u0)
