"""`tsssm.ops.reference.pooled_scan` on CUDA tensors."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from tsssm.discretize import discretize_dense, discretize_diagonal
from tsssm.ops.gpu.features.pooling import pool_series

# Samples and readouts that a program has in its registers: with one warp 16 numbers a thread, and as many for
# each kind of sum. Larger tiles would leave room for too few warps, smaller ones would run the systems too
# often.
_SAMPLES = 16
_READOUTS = 32
# The product of states and coefficients takes no smaller tiles.
_LEAST = 16
# States for which a program gets one more warp, so that their matrix stays in its registers.
_STATES_OF_A_WARP = 16


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
    competitors: int,
    shares: bool,
    competition: bool,
    n_threads: int,
) -> Tensor:
    """What the reference computes, in float32; ``n_threads`` means nothing here."""
    groups, readouts, modes = C.shape
    diagonal = A.ndim == 2
    series = len(offsets) - 1
    out = torch.empty(series, groups, 2 * (shares + competition), readouts, device=u.device)
    states = max(_LEAST, triton.next_power_of_2(2 * modes if diagonal else modes))
    width = max(_LEAST, min(_READOUTS, triton.next_power_of_2(readouts)))
    # All in one axis of the launch, the only one that may be longer than 65,535.
    programs = series * groups * triton.cdiv(readouts, width)
    channel, share = used_channels(mix_u)
    held_channel, held_share = used_channels(mix_held)
    with torch.cuda.device_of(u):
        pool_series[(programs,)](
            u.contiguous(),
            held.contiguous(),
            offsets.contiguous(),
            index.int().contiguous(),
            weight.contiguous(),
            channel,
            share,
            held_channel,
            held_share,
            step_table(A, B, steps),
            readout_coefficients(C),
            D.contiguous(),
            thresholds.contiguous(),
            out,
            u.shape[1],
            groups,
            share.shape[1],
            held_share.shape[1],
            modes,
            readouts,
            DIAGONAL=diagonal,
            SHARES=shares,
            COMPETITION=competition,
            COMPETITORS=competitors,
            MODES=states // 2 if diagonal else states,
            READOUTS=width,
            SAMPLES=_SAMPLES,
            num_warps=min(8, max(1, states // _STATES_OF_A_WARP)),
            # Loads of a tile wait for one another, which other programs fill, and not for a product.
            num_stages=1,
        )
    return out


def used_channels(mix: Tensor) -> tuple[Tensor, Tensor]:
    """Channels (G, used) that the groups take, int32, and their shares, 0 where a group takes fewer."""
    taken = mix != 0
    used = int(taken.sum(1).max()) if mix.shape[1] else 0
    # The same order as in ``mix``.
    channel = taken.byte().argsort(dim=1, descending=True, stable=True)[:, :used]
    return channel.int().contiguous(), mix.gather(1, channel).contiguous()


def step_table(A: Tensor, B: Tensor, steps: Tensor) -> Tensor:
    """The discretised system of every distinct step, float32 (K, G, planes, N).

    The planes of a diagonal system are A_bar, B_prev and B_bar, real and imaginary parts; those of a dense
    one the columns of A_bar, then B_prev and B_bar.
    """
    step = steps.to(B.real.dtype)
    if A.ndim == 2:
        A_bar, B_bar, B_prev = discretize_diagonal(A, B, step[:, None, None], "foh")
        assert B_prev is not None
        planes = [part for value in (A_bar, B_prev, B_bar) for part in (value.real, value.imag)]
    else:
        A_bar, B_bar, B_prev = discretize_dense(A, B, step[:, None], "foh")
        assert B_prev is not None
        planes = [*A_bar.unbind(-1), B_prev, B_bar]
    return torch.stack([plane.float() for plane in planes], dim=2)


def readout_coefficients(C: Tensor) -> Tensor:
    """Coefficients of the states, float32 (G, states, R); of complex ones the parts take turns."""
    if C.is_complex():
        C = torch.view_as_real(C.conj().resolve_conj()).flatten(2)
    return C.float().transpose(1, 2).contiguous()
