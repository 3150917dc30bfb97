r"""The scan of a diagonal plus low-rank system over chunks of time.

With :math:`z = s \Lambda`, :math:`e = 1 / (1 - \alpha z)`, :math:`d = 1 + z e` and the numbers
:math:`v_k = \mathrm{Re}\,Q^* g_k` that the stage :math:`g_k = (1 - \alpha)\,x_{k-1} + \alpha\,x_k` of a
step feeds back,

.. math::
    x_k = d_k x_{k-1} + e_k s_k\,(B u_k - P v_k), \qquad
    (I + \alpha s_k\,\mathrm{Re}\,Q^* e_k P)\,v_k = \mathrm{Re}\,Q^* e_k\,(x_{k-1} + \alpha s_k B u_k),

whose first equation is diagonal. So the v of a chunk solve one triangular system, of the response of each v
to every earlier one, and no matrix of N x N appears. For :math:`\alpha \ge 1/2` and a system that does not
expand the feedback is passive, which bounds the inverse by 1.

The responses :math:`Q^* e_k\,d_{k-1} \cdots d_{j+1}\,e_j s_j P` are products of rows and columns about a
sample between j and k, one such product for each block of the halves of the chunk, of their halves, and so
on: no factor is above one, and nothing is divided. For :math:`\alpha < 1/2` a mode on its own can be unstable
where the system is stable; the steps are folded as real matrices of 2 N x 2 N then.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from tsssm.ops.chunked.linear import MATRICES, chunk_length, over_directions, read, states

# Samples of a block, a power of two. What is kept for the gradient of one are some dozens of tensors.
_BLOCK = 64
_TENSORS = 8


def dplr_scan(
    u: Tensor,
    Lambda: Tensor,
    P: Tensor,
    Q: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    step: Tensor,
    dt: Tensor | None,
    x0: Tensor | None,
    alpha: float,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """`tsssm.ops.reference.dplr_scan`."""

    def chunk(x: Tensor, C: Tensor, u: Tensor, dt: Tensor | None) -> tuple[Tensor, Tensor]:
        if alpha >= 0.5:
            xs = _states(x, u, dt, Lambda, P, Q, B, step, alpha)
        else:
            d, rows, columns, B_bar = steps_of(dt, Lambda, P, Q, B, step, alpha)
            xs = states_by_matrices(d, rows, columns, B_bar * u[..., None], x)
        return read(C, xs), xs[:, -1]

    batch, _, channels = u.shape
    modes = Lambda.shape[1]
    start = Lambda.new_zeros(batch, channels, modes) if x0 is None else x0
    length = samples_of_chunk(batch, channels, modes, alpha)
    return over_directions(chunk, (u,), (dt,), C, D, start, reverse, length)


def samples_of_chunk(batch: int, channels: int, modes: int, alpha: float) -> int:
    """Samples of a chunk: whole blocks, or as many as there may be matrices."""
    if alpha < 0.5:
        return chunk_length(batch, channels, (2 * modes) ** 2)
    return -(-chunk_length(batch, channels, modes, _TENSORS) // _BLOCK) * _BLOCK


class Steps(NamedTuple):
    r"""What steps do: :math:`x_k = d_k x_{k-1} - \sum_r c_{kr} \mathrm{Re}(r_{kr} x_{k-1}) + \bar B_k u_k`.

    Attributes
    ----------
    d, B_bar : Tensor (batch or 1, T or 1, H, N)
    rows, columns : Tensor (batch or 1, T or 1, H, rank, N)
    """

    d: Tensor
    rows: Tensor
    columns: Tensor
    B_bar: Tensor


def steps_of(
    dt: Tensor | None, Lambda: Tensor, P: Tensor, Q: Tensor, B: Tensor, step: Tensor, alpha: float
) -> Steps:
    """The steps of samples of some dt (batch, T), one of all samples of a regular grid."""
    s = step[None, None, :, None] if dt is None else (dt[..., None] * step)[..., None]
    e = 1 / (1 - alpha * s * Lambda)
    d = 1 + s * Lambda * e
    seen = Q.conj().transpose(0, 1) * e[..., None, :]
    P_s = P.transpose(0, 1) * s[..., None]
    own = torch.eye(len(P), dtype=s.dtype, device=s.device) + alpha * _real_product(seen, P_s)
    inverse = torch.linalg.inv(own)
    columns = P_s * e[..., None, :]
    rows = torch.complex(inverse @ seen.real, inverse @ seen.imag)
    v = _real_product(rows, (alpha * s * B)[..., None, :])
    return Steps(d, rows, columns, e * s * B - (columns * v).sum(-2))


def states_by_matrices(d: Tensor, rows: Tensor, columns: Tensor, drive: Tensor, x: Tensor) -> Tensor:
    """`low_rank_states` by products of real matrices of 2 N x 2 N, whatever d is."""
    rotations = torch.cat(
        [
            torch.cat([torch.diag_embed(d.real), torch.diag_embed(-d.imag)], dim=-1),
            torch.cat([torch.diag_embed(d.imag), torch.diag_embed(d.real)], dim=-1),
        ],
        dim=-2,
    )
    back = torch.cat([columns.real, columns.imag], dim=-1).transpose(-2, -1)
    matrix = rotations - back @ torch.cat([rows.real, -rows.imag], dim=-1)
    drive, x = (torch.cat([t.real, t.imag], dim=-1) for t in (drive, x))
    matrix = matrix.expand(len(matrix), drive.shape[1], *matrix.shape[2:])
    return torch.complex(*states(MATRICES, matrix, drive, x).chunk(2, dim=-1))


class _Blocks(NamedTuple):
    """Coefficients of blocks of T samples, (batch or 1, blocks, H, T[, rank], N) if not said otherwise.

    Attributes
    ----------
    seen, fed : Tensor
        Q^* e and e s P.
    inverse : Tensor (..., T, rank, rank)
        Of what a v does to itself.
    matrix : Tensor (..., T rank, T rank)
        Of the triangular system, divided by that.
    whole : list of Tensor
        Products of d up to each sample from the start of its part of 1, 2, ..., T / 2 samples.
    upto, before, after : Tensor
        The same from the start of the block; up to the sample before; and from the next sample to the end.
    """

    seen: Tensor
    fed: Tensor
    inverse: Tensor
    matrix: Tensor
    whole: list[Tensor]
    upto: Tensor
    before: Tensor
    after: Tensor


def _states(
    x: Tensor,
    u: Tensor,
    dt: Tensor | None,
    Lambda: Tensor,
    P: Tensor,
    Q: Tensor,
    B: Tensor,
    step: Tensor,
    alpha: float,
) -> Tensor:
    """All states (batch, T, H, N) of a chunk: of all blocks at once, given those that blocks start from."""
    batch, length, channels = u.shape
    size = block_length(length)
    count = -(-length // size)
    # Samples that fill up the last block have a step of zero, which leaves the state as it is.
    fill = (0, size * count - length)
    s = step[:, None].expand(1, channels, length) if dt is None else dt[:, None] * step[:, None]
    s, u = (pad(t, fill).unflatten(2, (count, size)).transpose(1, 2) for t in (s, u.transpose(1, 2)))
    blocks, held = _blocks(s[..., None], Lambda, P, Q, alpha)
    forcing = held * B[:, None] * u[..., None]
    stage = alpha * (s[..., None] * B[:, None]) * u[..., None]
    return _all_blocks(blocks, forcing, stage, x)[:, :length]


def low_rank_states(d: Tensor, rows: Tensor, columns: Tensor, drive: Tensor, x: Tensor) -> Tensor:
    r"""All states (batch, T, H, N) of the recurrence of `Steps`, with a drive :math:`b_k` as its last term.

    Parameters
    ----------
    d : Tensor (batch or 1, T or 1, H, N)
        Products of them over a block of samples must not overflow.
    rows, columns : Tensor (batch or 1, T or 1, H, rank, N)
    drive : Tensor (batch, T, H, N)
    x : Tensor (batch, H, N)
        The state before.
    """
    length, rank = drive.shape[1], rows.shape[-2]
    size = block_length(length)
    d, rows, columns = (t.expand(len(t), length, *t.shape[2:]) for t in (d, rows, columns))
    d, rows, columns, drive = (_in_blocks(t, size) for t in (d, rows, columns, drive))
    response, whole, products = _responses(rows, columns, d)
    inverse = torch.eye(rank, dtype=response.dtype, device=response.device)
    blocks = _Blocks(rows, columns, inverse.expand(*d.shape[:-1], rank, rank), response, whole, *products)
    return _all_blocks(blocks, drive, torch.zeros_like(drive[:1, :1, :, :1]), x)[:, :length]


def block_length(length: int) -> int:
    """Samples of a block of a chunk of so many."""
    return min(_BLOCK, 1 << (length - 1).bit_length())


def _in_blocks(t: Tensor, size: int) -> Tensor:
    """Samples (batch, T, H, ...) as (batch, blocks, H, size, ...), filled up by zeros."""
    fill = -t.shape[1] % size
    filled = torch.cat([t, t.new_zeros(len(t), fill, *t.shape[2:])], dim=1) if fill else t
    return filled.unflatten(1, (-1, size)).transpose(2, 3)


def _all_blocks(blocks: _Blocks, forcing: Tensor, stage: Tensor, x: Tensor) -> Tensor:
    """All states (batch, T, H, N) of a chunk, block after block, from the one before it."""
    start = x[:, None]
    count = forcing.shape[1]
    if count > 1:
        ends = _run(blocks, forcing, stage, torch.zeros_like(start))[..., -1, :]
        starts = [x]
        for k in range(count - 1):
            starts.append(ends[:, k] + _carried(blocks, k, starts[-1]))
        start = torch.stack(starts, dim=1)
    return _run(blocks, forcing, stage, start).transpose(2, 3).flatten(1, 2)


def _blocks(s: Tensor, Lambda: Tensor, P: Tensor, Q: Tensor, alpha: float) -> tuple[_Blocks, Tensor]:
    """The coefficients of steps s (..., H, T, 1), and e s."""
    size, rank = s.shape[-2], len(P)
    z = s * Lambda[:, None]
    e = 1 / (1 - alpha * z)
    d = 1 + z * e
    held = e * s
    seen = Q.conj().transpose(0, 1)[:, None] * e[..., None, :]
    fed = P.transpose(0, 1)[:, None] * held[..., None, :]
    own = _real_product(seen, P.transpose(0, 1)[:, None] * s[..., None])
    inverse = torch.linalg.inv(torch.eye(rank, dtype=s.dtype, device=s.device) + alpha * own)
    response, whole, products = _responses(seen, fed, d)
    matrix = torch.matmul(inverse, response.unflatten(-2, (size, rank))).flatten(-3, -2)
    return _Blocks(seen, fed, inverse, matrix, whole, *products), held


def _responses(
    seen: Tensor, fed: Tensor, d: Tensor
) -> tuple[Tensor, list[Tensor], tuple[Tensor, Tensor, Tensor]]:
    """How each v acts on the later ones, (..., T rank, T rank), and products of d, as in `_Blocks`."""
    size, rank = fed.shape[-3], fed.shape[-2]
    whole: list[Tensor] = []
    upto, before, after = d, torch.ones_like(d), torch.ones_like(d)
    response = d.real.new_zeros(*d.shape[:-2], size, rank, rank)
    h = 1
    while h < size:
        whole.append(upto)
        (upto_l, upto_r), (before_l, before_r), (after_l, after_r) = (
            _halves(t, h, -2) for t in (upto, before, after)
        )
        rows = (_halves(seen, h, -3)[1] * before_r[..., None, :]).flatten(-3, -2)
        columns = (_halves(fed, h, -3)[0] * after_l[..., None, :]).flatten(-3, -2)
        left, right = response.unflatten(-3, (-1, 2)).unbind(-3)
        lower = torch.cat([_real_product(rows, columns), right], dim=-1)
        response = torch.cat([torch.cat([left, torch.zeros_like(left)], dim=-1), lower], dim=-2)
        all_l, all_r = upto_l[..., -1:, :], upto_r[..., -1:, :]
        upto = torch.cat([upto_l, upto_r * all_l], dim=-2).flatten(-3, -2)
        before = torch.cat([before_l, before_r * all_l], dim=-2).flatten(-3, -2)
        after = torch.cat([after_l * all_r, after_r], dim=-2).flatten(-3, -2)
        h *= 2
    return response[..., 0, :, :], whole, (upto, before, after)


def _halves(t: Tensor, h: int, axis: int) -> tuple[Tensor, Tensor]:
    """The first and the second h of every 2 h samples along an axis, which becomes two: (T / 2h, h)."""
    left, right = t.unflatten(axis, (-1, 2, h)).unbind(axis - 1)
    return left, right


def _run(blocks: _Blocks, forcing: Tensor, stage: Tensor, start: Tensor) -> Tensor:
    """All states of the blocks, from the one before each (batch, blocks or 1, H, N)."""
    first = forcing[..., :1, :] + blocks.upto[..., :1, :] * start[..., None, :]
    free = _through(blocks.whole, torch.cat([first, forcing[..., 1:, :]], dim=-2))
    ahead = torch.cat([start[..., None, :].expand_as(first), free[..., :-1, :]], dim=-2)
    right = _real_product(blocks.seen, (ahead + stage)[..., None, :])
    feedback = (blocks.fed * _solved(blocks.inverse, blocks.matrix, right)).sum(-2)
    rest = forcing - feedback
    first = first - feedback[..., :1, :]
    return _through(blocks.whole, torch.cat([first, rest[..., 1:, :]], dim=-2))


def _carried(blocks: _Blocks, k: int, x: Tensor) -> Tensor:
    """What becomes of the state x (batch, H, N) before block k until its end, without any input."""
    seen, fed, inverse, matrix, before, after, upto = (
        t[:, k]
        for t in (
            blocks.seen,
            blocks.fed,
            blocks.inverse,
            blocks.matrix,
            blocks.before,
            blocks.after,
            blocks.upto,
        )
    )
    right = _real_product(seen, (before * x[:, :, None])[..., None, :])
    v = _solved(inverse, matrix, right)
    return upto[..., -1, :] * x - (fed * after[..., None, :] * v).sum((-3, -2))


def _solved(inverse: Tensor, matrix: Tensor, right: Tensor) -> Tensor:
    """The v (..., T, rank, 1) of right-hand sides of that shape."""
    size, rank = right.shape[-3:-1]
    given = torch.matmul(inverse, right).flatten(-3, -2)
    v = torch.linalg.solve_triangular(matrix, given, upper=False, unitriangular=True)
    return v.unflatten(-2, (size, rank))


def _through(whole: list[Tensor], x: Tensor) -> Tensor:
    """States (..., T, N) of the diagonal recurrence from its drive, by parts of doubling size."""
    for level, upto in enumerate(whole):
        left, right = _halves(x, 2**level, -2)
        factor = _halves(upto, 2**level, -2)[1]
        x = torch.cat([left, right + factor * left[..., -1:, :]], dim=-2).flatten(-3, -2)
    return x


def _real_product(rows: Tensor, columns: Tensor) -> Tensor:
    """Re(rows @ columns^T), as one product of real matrices."""
    rows = torch.cat([rows.real, -rows.imag], dim=-1)
    columns = torch.cat([columns.real, columns.imag], dim=-1)
    return torch.matmul(rows, columns.transpose(-2, -1))
