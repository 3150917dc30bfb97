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

import torch
from torch import Tensor
from torch.nn.functional import pad

from tsssm.ops.chunked.linear import MATRICES, SAMPLES, chunk_length, over_directions, read, states


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

    def chunk(x: Tensor, C: Tensor, u: Tensor, gaps: Tensor | None) -> tuple[Tensor, Tensor]:
        if alpha < 0.5:
            xs = _by_matrices(x, u, gaps, Lambda, P, Q, B, step, alpha)
            return read(C, xs), xs[:, -1]
        xs = _states(x, u, gaps, Lambda, P, Q, B, step, alpha)
        # Samples that fill up the chunk leave the state as it is.
        return read(C, xs[:, :, : u.shape[1]].transpose(1, 2)), xs[:, :, -1]

    batch, _, channels = u.shape
    start = Lambda.new_zeros(batch, channels, Lambda.shape[1]) if x0 is None else x0
    length = chunk_length(batch, channels, (2 * Lambda.shape[1]) ** 2) if alpha < 0.5 else SAMPLES
    return over_directions(chunk, (u,), (dt,), C, D, start, reverse, length)


def _by_matrices(
    x: Tensor,
    u: Tensor,
    gaps: Tensor | None,
    Lambda: Tensor,
    P: Tensor,
    Q: Tensor,
    B: Tensor,
    step: Tensor,
    alpha: float,
) -> Tensor:
    """All states (batch, T, H, N) of a chunk."""
    s = step[None, None, :, None] if gaps is None else (gaps[..., None] * step)[..., None]
    e = 1 / (1 - alpha * s * Lambda)
    d = 1 + s * Lambda * e
    seen = Q.conj().transpose(0, 1) * e[..., None, :]
    P_s = P.transpose(0, 1) * s[..., None]
    own = torch.eye(len(P), dtype=u.dtype, device=u.device) + alpha * _real_product(seen, P_s)
    inverse = torch.linalg.inv(own)
    fed = P_s * e[..., None, :]
    rotations = torch.cat(
        [
            torch.cat([torch.diag_embed(d.real), torch.diag_embed(-d.imag)], dim=-1),
            torch.cat([torch.diag_embed(d.imag), torch.diag_embed(d.real)], dim=-1),
        ],
        dim=-2,
    )
    back = torch.cat([fed.real, fed.imag], dim=-1).transpose(-2, -1)
    matrix = rotations - back @ inverse @ torch.cat([seen.real, -seen.imag], dim=-1)
    stage = alpha * s * B
    v = torch.matmul(inverse, _real_product(seen, stage[..., None, :]))
    B_bar = e * s * B - (fed * v).sum(-2)
    drive = torch.cat([B_bar.real, B_bar.imag], dim=-1) * u[..., None]
    matrix = matrix.expand(len(matrix), u.shape[1], *matrix.shape[2:])
    xs = states(MATRICES, matrix, drive, torch.cat([x.real, x.imag], dim=-1))
    return torch.complex(*xs.chunk(2, dim=-1))


def _states(
    x: Tensor,
    u: Tensor,
    gaps: Tensor | None,
    Lambda: Tensor,
    P: Tensor,
    Q: Tensor,
    B: Tensor,
    step: Tensor,
    alpha: float,
) -> Tensor:
    """All states of a chunk, (batch, H, T, N) with T a power of two."""
    batch, length, channels = u.shape
    rank = len(P)
    size = 1 << (length - 1).bit_length()
    # Time goes next to the modes: (batch or 1, H, T).
    s = step[:, None].expand(1, channels, length) if gaps is None else gaps[:, None] * step[:, None]
    s, u = pad(s, (0, size - length)), pad(u.transpose(1, 2), (0, size - length))
    z = s[..., None] * Lambda[:, None]
    e = 1 / (1 - alpha * z)
    d = 1 + z * e
    held = e * s[..., None]
    forcing = held * B[:, None] * u[..., None]
    seen = Q.conj().transpose(0, 1)[:, None] * e[..., None, :]
    fed = P.transpose(0, 1)[:, None] * held[..., None, :]
    response, whole = _responses(seen, fed, d)

    own = _real_product(seen, P.transpose(0, 1)[:, None] * s[..., None, None])
    inverse = torch.linalg.inv(torch.eye(rank, dtype=u.dtype, device=u.device) + alpha * own)
    first = forcing[:, :, :1] + d[:, :, :1] * x[:, :, None]
    free = _through(whole, torch.cat([first, forcing[:, :, 1:]], dim=2))
    before = torch.cat([x[:, :, None], free[:, :, :-1]], dim=2)
    stage = before + alpha * (s[..., None] * B[:, None]) * u[..., None]
    right = _real_product(seen, stage[..., None, :])[..., 0]
    right = torch.matmul(inverse, right[..., None]).flatten(2, 3)
    matrix = torch.matmul(inverse, response.unflatten(2, (size, rank))).flatten(2, 3)
    if gaps is None:  # one matrix for the whole batch
        columns = right[..., 0].permute(1, 2, 0)[None]
        v = torch.linalg.solve_triangular(matrix, columns, upper=False, unitriangular=True)[0].permute(
            2, 0, 1
        )
    else:
        v = torch.linalg.solve_triangular(matrix, right, upper=False, unitriangular=True)[..., 0]
    feedback = (fed * v.unflatten(2, (size, rank))[..., None]).sum(3)
    first = first - feedback[:, :, :1]
    return _through(whole, torch.cat([first, forcing[:, :, 1:] - feedback[:, :, 1:]], dim=2))


def _responses(seen: Tensor, fed: Tensor, d: Tensor) -> tuple[Tensor, list[Tensor]]:
    """How each v acts on the later ones, (..., T rank, T rank), and products of d from starts of blocks on.

    The latter, (..., T, N) up to each sample within its block, are one for each size of blocks up to T / 2.
    """
    size, rank = fed.shape[2], fed.shape[3]
    whole: list[Tensor] = []
    upto, before, after = d, torch.ones_like(d), torch.ones_like(d)
    response = d.real.new_zeros(*d.shape[:2], size, rank, rank)
    h = 1
    while h < size:
        whole.append(upto)
        blocks = (size // (2 * h), 2, h)

        def halves(t: Tensor, blocks: tuple[int, int, int] = blocks) -> tuple[Tensor, Tensor]:
            left, right = t.unflatten(2, blocks).unbind(3)
            return left, right

        (upto_l, upto_r), (before_l, before_r), (after_l, after_r) = map(halves, (upto, before, after))
        rows = (halves(seen)[1] * before_r[..., None, :]).flatten(3, 4)
        columns = (halves(fed)[0] * after_l[..., None, :]).flatten(3, 4)
        left, right = response.unflatten(2, (-1, 2)).unbind(3)
        lower = torch.cat([_real_product(rows, columns), right], dim=-1)
        response = torch.cat([torch.cat([left, torch.zeros_like(left)], dim=-1), lower], dim=-2)
        all_l, all_r = upto_l[..., -1:, :], upto_r[..., -1:, :]
        upto, before, after = (
            torch.cat(parts, dim=3).flatten(2, 3)
            for parts in (
                (upto_l, upto_r * all_l),
                (before_l, before_r * all_l),
                (after_l * all_r, after_r),
            )
        )
        h *= 2
    return response[:, :, 0], whole


def _through(whole: list[Tensor], x: Tensor) -> Tensor:
    """States (batch, H, T, N) of the diagonal recurrence from its drive, by blocks of doubling size."""
    for level, upto in enumerate(whole):
        blocks = (-1, 2, 2**level)
        left, right = x.unflatten(2, blocks).unbind(3)
        factor = upto.unflatten(2, blocks)[:, :, :, 1]
        x = torch.cat([left, right + factor * left[..., -1:, :]], dim=3).flatten(2, 3)
    return x


def _real_product(rows: Tensor, columns: Tensor) -> Tensor:
    """Re(rows @ columns^T), as one product of real matrices."""
    rows = torch.cat([rows.real, -rows.imag], dim=-1)
    columns = torch.cat([columns.real, columns.imag], dim=-1)
    return torch.matmul(rows, columns.transpose(-2, -1))
