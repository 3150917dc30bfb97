r"""The truncated recurrence and the kernels of Liquid-S4 (arXiv 2209.12951) in plain PyTorch.

Per mode and sample, :math:`w_k = \bar B_k u_k` is what the input sends to the state. The sums over orders of
input correlation are written the way Horner writes a polynomial.

A state is (slots, B, H, N): for ``kernel="exact"`` the chain :math:`x^{(1)}, \ldots, x^{(p)}`, for the others
the state x and then the last p - 1 values of :math:`\pi(w)`, newest first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tsssm.discretize import discretize_diagonal
from tsssm.ops.bounds import bounded_input
from tsssm.ops.reference.diagonal import project_to_disc

#: A linear map of states, whatever their leading axes.
Map = Callable[[Tensor], Tensor]
#: Sample k and the state before it -> the state after it and what the readout sees.
Step = Callable[[int, Tensor], tuple[Tensor, Tensor]]


def liquid_scan(
    u: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    step: Tensor,
    dt: Tensor | None,
    bound: Tensor | None,
    start: Tensor | None,
    kernel: str,
    order: int,
    method: str | float,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    r"""Run one of the forms over a diagonal system, in one direction or in both.

    C (K, M, H, N) and dt (K, B, L) are those of each direction, as in `diagonal_scan`; ``start`` and the
    second result are states.

    The coupling of neighbours in the chain is what the liquid term adds to the transition of the full
    recurrence, :math:`G_k = \Pi(\bar A_k + \bar B_k \tilde u_k) - \bar A_k`, so that the sum over all orders
    is the latter. It alone needs the ``bound`` (H, N) of the input.
    """
    shape = (u.shape[0], u.shape[1], *A.shape)

    def system(dt: Tensor | None) -> Step:
        s = step if dt is None else dt[..., None] * step
        A_bar, B_bar, _ = discretize_diagonal(A, B, s[..., None], method)
        A_bar, B_bar = A_bar.expand(shape), B_bar.expand(shape)

        def advance(k: int, state: Tensor) -> tuple[Tensor, Tensor]:
            A_k, w = A_bar[:, k], B_bar[:, k] * u[:, k, :, None]
            if kernel == "exact":
                assert bound is not None  # by the public scan
                coupling = B_bar[:, k] * bounded_input(u[:, k, :, None], bound)
                if method != "zoh":
                    coupling = liquid_term(A_k, coupling)
                return _chain(state, lambda x: A_k * x, w, coupling)
            return _correlation(state, lambda x: A_k * x, w, kernel, _valid(dt, k))

        return advance

    return _scan(u, C, D, dt, start, order, reverse, system)


def liquid_dplr_scan(
    u: Tensor,
    Lambda: Tensor,
    P: Tensor,
    Q: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    step: Tensor,
    dt: Tensor | None,
    start: Tensor | None,
    kernel: str,
    order: int | None,
    alpha: float,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    r"""The same over the system A x = Lambda x - sum_r P_r Re(Q_r^* x), whose operands are as in `dplr_scan`.

    With ``order`` None and ``kernel="exact"``, the full recurrence
    :math:`x_k = \bar A_k x_{k-1} + w_k \circ x_{k-1} + w_k`, whose first two terms are shortened together to
    the length of :math:`x_{k-1}`. The chain has :math:`\pi(w_k)` in the place of G.
    """
    Q_star = Q.conj()

    def system(dt: Tensor | None) -> Step:
        # Coefficients (B, L, H, N) of every sample; (1, 1, H, N) on a regular grid.
        s = (step[None, None] if dt is None else dt[..., None] * step)[..., None]
        # (I - alpha s A)^-1 by the Woodbury identity, as in the reference of `dplr_scan`.
        E = 1 / (1 - alpha * s * Lambda)
        middle = torch.einsum("rhn,bkhn,qhn->bkhrq", Q_star, E, P).real
        identity = torch.eye(len(P), dtype=u.dtype, device=u.device)
        inverse = torch.linalg.inv(identity + alpha * s[..., None] * middle)

        def solve(r: Tensor, at: Any) -> Tensor:
            v = (inverse[at] * coupling(E[at] * r)[..., None, :]).sum(-1)
            return E[at] * (r - alpha * s[at] * low_rank(v))

        def transition(x: Tensor, at: Any) -> Tensor:
            return solve(x + (1 - alpha) * s[at] * (Lambda * x - low_rank(coupling(x))), at)

        B_bar = solve(s * B, ...)

        def advance(k: int, state: Tensor) -> tuple[Tensor, Tensor]:
            at = (slice(None), 0 if dt is None else k)
            w = B_bar[at] * u[:, k, :, None]
            if kernel != "exact":
                return _correlation(state, lambda x: transition(x, at), w, kernel, _valid(dt, k))
            if order is not None:
                return _chain(state, lambda x: transition(x, at), w, project_to_disc(w))
            x = no_longer(state[0], lambda x: transition(x, at) + w * x) + w
            return x[None], x

        return advance

    def coupling(x: Tensor) -> Tensor:
        return torch.einsum("rhn,...hn->...hr", Q_star, x).real

    def low_rank(v: Tensor) -> Tensor:
        return torch.einsum("rhn,...hr->...hn", P, v.to(P.dtype))

    return _scan(u, C, D, dt, start, order or 1, reverse, system)


def liquid_term(A_bar: Tensor, w: Tensor) -> Tensor:
    r"""What the liquid term adds to the transition, :math:`\Pi(\bar A + w) - \bar A`: w inside the disc."""
    F = A_bar + w
    # Written out inside the disc, where the difference would cancel for a small w.
    return torch.where(F.abs() > 1, project_to_disc(F) - A_bar, w)


def _chain(state: Tensor, transition: Map, w: Tensor, coupling: Tensor) -> tuple[Tensor, Tensor]:
    r"""States by order, :math:`x^{(q)}_k = \bar A x^{(q)}_{k-1} + G_k x^{(q-1)}_{k-1}`, and their sum."""
    x = transition(state) + torch.cat([w[None], coupling * state[:-1]])
    return x, x.sum(0)


def _correlation(
    state: Tensor, transition: Map, w: Tensor, kernel: str, valid: Tensor | None
) -> tuple[Tensor, Tensor]:
    r"""The linear state, and :math:`z_k = w_k (\pi(w_{k-1}) + \pi(w_{k-1}) \pi(w_{k-2}) + \ldots)`.

    It goes into the state (kernel K-B) or to the readout alone (kernel P-B).
    """
    x, history = state[0], state[1:]
    past = torch.zeros_like(w)
    for earlier in reversed(history.unbind()):
        past = earlier * (1 + past)
    z = w * past
    x = transition(x) + w
    if kernel == "kb":
        x = x + z
    shifted = torch.cat([project_to_disc(w)[None], history[:-1]])
    if valid is not None:
        # A sample of zero gap is none: it must not stand between its neighbours either.
        shifted = torch.where(valid, shifted, history)
    return torch.cat([x[None], shifted]), x if kernel == "kb" else x + z


def _valid(dt: Tensor | None, k: int) -> Tensor | None:
    """Which series have a sample at k, to broadcast with (B, H, N); None is all."""
    return None if dt is None else (dt[:, k] > 0)[:, None, None]


def _scan(
    u: Tensor,
    C: Tensor,
    D: Tensor | None,
    dt: Tensor | None,
    start: Tensor | None,
    slots: int,
    reverse: bool,
    system: Callable[[Tensor | None], Step],
) -> tuple[Tensor, Tensor]:
    """Run the steps of ``system`` in each direction; the second one is opposite and starts from rest."""
    batch, length, _ = u.shape
    y = u.new_zeros(()) if D is None else D[:, None] * u[:, None]
    ends = []
    for d in range(C.shape[0]):
        advance = system(None if dt is None else dt[d])
        state = C.new_zeros(slots, batch, *C.shape[-2:]) if d == 1 or start is None else start
        ys = [u] * length
        for k in reversed(range(length)) if reverse != (d == 1) else range(length):
            state, seen = advance(k, state)
            ys[k] = torch.einsum("mhn,bhn->bmh", C[d], seen).real
        y = y + torch.stack(ys, dim=2)
        ends.append(state)
    return y, ends[0]


def no_longer(x: Tensor, linear: Map) -> Tensor:
    """A linear map of x, shortened to the length of x over the modes where it is longer."""
    size = largest(x)
    # The result is of first degree in x: at size one, nothing overflows on the way.
    x = divided(x, size)
    v = linear(x)
    length, limit = norm(v), norm(x)
    longer = length > limit
    factor = torch.where(longer, limit, 1) / torch.where(longer, length, 1)
    return size * (factor * v)


def norm(x: Tensor) -> Tensor:
    """Euclidean norm over the modes, (..., 1), whose squares cannot overflow."""
    size = largest(x)
    return size * torch.linalg.vector_norm(torch.view_as_real(divided(x, size)), dim=(-2, -1))[..., None]


def largest(x: Tensor) -> Tensor:
    """The size of the largest part of a number over the modes, (..., 1), or 1 if all are zero.

    It is rounded to a power of two, so that a division by it changes no digit, and a constant to autograd.
    """
    size = torch.view_as_real(x).detach().abs().amax((-2, -1))[..., None]
    exponent = torch.frexp(torch.where(size > 0, size, 1)).exponent
    return torch.ldexp(torch.ones_like(size), exponent - 1)


def divided(x: Tensor, size: Tensor) -> Tensor:
    # Part by part: a complex division would square the modulus and overflow.
    return torch.view_as_complex(torch.view_as_real(x) / size[..., None])
