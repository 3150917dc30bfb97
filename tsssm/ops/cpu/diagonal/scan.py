"""`tsssm.ops.reference.diagonal_scan` and ``liquid_scan``, and their adjoints, on CPU tensors.

C (K, M, H, N), dt (K, batch, L) and u_prev (K, batch, L, H) are those of each of K directions, of which the
second runs opposite to the first and from rest.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tsssm.ops.cpu.allocation import empty, empty_like
from tsssm.ops.cpu.calls import contiguous, joined, place, renewed, run_backward, run_forward, signals
from tsssm.ops.cpu.coefficients import FOH, GBT, ZOH, Rule
from tsssm.ops.cpu.diagonal.block import System, any_slow
from tsssm.ops.cpu.diagonal.cells import AsCoupled, AsDriven, AsPlain
from tsssm.ops.cpu.diagonal.chain import AsChain
from tsssm.ops.cpu.diagonal.correlation import AsCorrelation
from tsssm.ops.cpu.diagonal.kernels import Form, backward_pass, forward_pass
from tsssm.ops.cpu.diagonal.rows import AsLinear, AsLiquid
from tsssm.ops.cpu.gaps import MAX_SHARED_MOVES, distinct_gaps, extent, mean_duration
from tsssm.ops.cpu.layout import ranges, samples, saved_states
from tsssm.ops.cpu.passes import Signals, Times

_KINDS = {"gbt": GBT, "zoh": ZOH, "foh": FOH}


class Operands(NamedTuple):
    """Tensors of a scan: (H, N) the system, (H,) the steps; D, dt and bound may be absent."""

    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    step: Tensor
    dt: Tensor | None
    bound: Tensor | None

    def contiguous(self) -> Operands:
        """The same, so that kernels can take them."""
        return Operands._make(None if t is None else contiguous(t) for t in self)

    def places(self) -> System:
        """Where they are, if contiguous."""
        return System(
            place(self.A, 2),
            place(self.B, 2),
            place(self.C, 4),
            place(self.D, 2),
            place(self.step, 1),
            place(self.bound, 2),
        )


def _form(
    u: Tensor, operands: Operands, places: System, rule: Rule, at_rest: bool
) -> tuple[Form, Times, Any]:
    """How a call of the diagonal scan is computed, and its gaps."""
    directions, readouts, _, modes = operands.C.shape
    liquid = operands.bound is not None
    # A sample needs no more than its move, of which more can be shared.
    simple = readouts == 1 and (rule.kind == ZOH if liquid else rule.kind != FOH)
    times, own = _times(u, operands.dt, modes, rule, MAX_SHARED_MOVES if simple and at_rest else None)
    by_modes: Any = (AsDriven() if times.gaps.size == 1 else AsCoupled()) if liquid else AsPlain()
    rows: Any = AsLiquid(rule.kind == GBT) if liquid else AsLinear(rule.kind == FOH)
    if simple and at_rest:
        driven = liquid and times.gaps.size == 1
        slow = any_slow.by(u.dtype)
        if driven or not slow(places.A, places.step, times.gaps, times.duration):
            rows = None
    elif not simple or directions == 1:
        by_modes = None
    return Form(rule, by_modes, rows), times, own


def _times(u: Tensor, dt: Tensor | None, modes: int, rule: Rule, most: int | None) -> tuple[Times, Any]:
    """The gaps of a call, and those of each sample unless some are shared."""
    gaps, index, each = distinct_gaps(u, dt, modes, most)
    times = Times(gaps, index, *extent(u, dt, gaps, rule.kind == ZOH), mean_duration(u, dt))
    return times, each if gaps.size == 0 else None


def _work(u: Tensor, C: Tensor, order: int) -> int:
    directions, readouts, _, modes = C.shape
    return directions * (6 + 2 * readouts + 8 * (order - 1)) * samples(u) * modes


class _Call(NamedTuple):
    """A scan and what it is to be computed by."""

    u: Tensor
    v: Tensor | None
    operands: Operands
    places: System
    form: Form
    times: Times
    own: Any
    at_rest: bool
    reverse: bool

    def inputs(self, by_sample: Signals, x: Tensor) -> tuple[Any, ...]:
        """What kernels take but for cut and gradients; ``x`` (slots, batch, H, N)."""
        options = (self.at_rest, self.reverse)
        return by_sample, self.places, self.times, self.own, self.form, joined(x, 4), *options

    def key(self) -> Hashable:
        """What says of which types those are."""
        return self.u.dtype, self.own is None, type(self.form.modes), type(self.form.rows)

    def forward(self, x: Tensor, save: bool) -> tuple[Tensor, Tensor]:
        """Outputs and saved states; the states ``x`` (slots, batch, H, N) are renewed."""
        u, C = self.u, self.operands.C
        y = empty((C.shape[1], *u.shape), u.dtype)
        saved = empty(saved_states(u, C.shape[0] if save else 0, x.shape[0], x.shape[3]), u.dtype)
        inputs = self.inputs(signals(u, y, saved, self.v), x)
        run_forward(forward_pass, self.key(), inputs, ranges(u, _work(u, C, x.shape[0])))
        return y.transpose(0, 1), saved

    def backward(self, gy: Tensor, gx: Tensor, saved: Tensor) -> tuple[Tensor, ...]:
        """Gradients of u, v, A, B, C, D, step and bound; ``gx`` becomes that of the first states."""
        u, dtype = self.u, self.u.dtype
        gu, gv = empty_like(u), None if self.v is None else empty_like(self.v)
        gy, saved = contiguous(gy.transpose(0, 1)), contiguous(saved)
        inputs = self.inputs(signals(u, gy, saved, self.v, gu, gv), gx)
        cut = ranges(u, 3 * _work(u, self.operands.C, gx.shape[0]))
        gradients = run_backward(backward_pass, self.key(), inputs, self.places, dtype, cut)
        gA, gB, gC, gD, g_step, g_bound = gradients
        system = map(torch.view_as_complex, (gA, gB, gC))
        return gu, u.new_empty((0, 0, 0, 0)) if gv is None else gv, *system, gD, g_step, g_bound


def _call(u: Tensor, v: Tensor | None, operands: Operands, rule: Rule, at_rest: bool, reverse: bool) -> _Call:
    """A diagonal scan."""
    operands = operands.contiguous()
    places = operands.places()
    form = _form(u, operands, places, rule, at_rest)
    v = None if v is None else contiguous(v)
    return _Call(contiguous(u), v, operands, places, *form, at_rest, reverse)


def saved_shape(
    directions: int, batch: int, length: int, channels: int, modes: int, dtype: torch.dtype, save: bool
) -> tuple[int, ...]:
    """Shape of the states kept for the adjoint: those before each chunk, or nothing."""
    u = torch.empty(batch, length, channels, dtype=dtype, device="meta")
    return saved_states(u, directions if save else 0, 1, modes)


def diagonal_scan(
    u: Tensor,
    u_prev: Tensor | None,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    step: Tensor,
    dt: Tensor | None,
    bound: Tensor | None,
    x0: Tensor | None,
    rule: str,
    alpha: float,
    reverse: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs (batch, M, L, H), final states (batch, H, N) and, if ``save``, the states the adjoint needs."""
    shape = (u.shape[0], *A.shape)
    x = A.new_zeros(shape) if x0 is None else renewed(x0)
    operands, how = Operands(A, B, C, D, step, dt, bound), Rule(_KINDS[rule], float(alpha))
    y, saved = _call(u, u_prev, operands, how, x0 is None, reverse).forward(x[None], save)
    return y, x, saved


def diagonal_scan_adjoint(
    gy: Tensor,
    gx: Tensor,
    saved: Tensor,
    u: Tensor,
    u_prev: Tensor | None,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    step: Tensor,
    dt: Tensor | None,
    bound: Tensor | None,
    rule: str,
    alpha: float,
    reverse: bool,
    at_rest: bool,
) -> tuple[Tensor, ...]:
    """Gradients of u, u_prev, A, B, C, D, step, bound and x0 from those of outputs and final states.

    ``at_rest`` says that there was no x0, so that its gradient is of no use. Gradients of absent tensors
    are empty.
    """
    gx = renewed(gx)
    operands, how = Operands(A, B, C, D, step, dt, bound), Rule(_KINDS[rule], float(alpha))
    call = _call(u, u_prev, operands, how, at_rest, reverse)
    return *call.backward(gy, gx[None], saved), gx


def liquid_saved_shape(
    directions: int,
    batch: int,
    length: int,
    channels: int,
    modes: int,
    order: int,
    dtype: torch.dtype,
    save: bool,
) -> tuple[int, ...]:
    """Shape of the states kept for the adjoint: those before each chunk, or nothing."""
    u = torch.empty(batch, length, channels, dtype=dtype, device="meta")
    return saved_states(u, directions if save else 0, order, modes)


def _liquid_call(
    u: Tensor, operands: Operands, kernel: str, order: int, rule: str, alpha: float, reverse: bool
) -> _Call:
    how = Rule(_KINDS[rule], float(alpha))
    if kernel == "exact":
        rows: Any = AsChain(order, rule == "gbt")
    else:
        rows = AsCorrelation(order, kernel == "kb")
    operands = operands.contiguous()
    gaps = _times(u, operands.dt, operands.C.shape[3], how, None)
    form = Form(how, None, rows)
    return _Call(contiguous(u), None, operands, operands.places(), form, *gaps, False, reverse)


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
    rule: str,
    alpha: float,
    reverse: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs (batch, M, L, H), final states (order, batch, H, N) and, if ``save``, what the
    adjoint needs."""
    shape = (order, u.shape[0], *A.shape)
    x = A.new_zeros(shape) if start is None else renewed(start)
    operands = Operands(A, B, C, D, step, dt, bound)
    y, saved = _liquid_call(u, operands, kernel, order, rule, alpha, reverse).forward(x, save)
    return y, x, saved


def liquid_scan_adjoint(
    gy: Tensor,
    gx: Tensor,
    saved: Tensor,
    u: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    step: Tensor,
    dt: Tensor | None,
    bound: Tensor | None,
    kernel: str,
    rule: str,
    alpha: float,
    reverse: bool,
) -> tuple[Tensor, ...]:
    """Gradients of u, A, B, C, D, step, bound and start from those of the outputs and of the final states.

    That of an absent D or bound is empty. Those of A and B leave out the way through the bound.
    """
    gx = renewed(gx)
    operands = Operands(A, B, C, D, step, dt, bound)
    call = _liquid_call(u, operands, kernel, len(gx), rule, alpha, reverse)
    gu, _, *gradients = call.backward(gy, gx, saved)
    return gu, *gradients, gx
