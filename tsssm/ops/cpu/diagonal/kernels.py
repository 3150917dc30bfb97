"""The kernels of the diagonal scan and of the forms of Liquid-S4 over it: a forward and a backward pass."""

from __future__ import annotations

from typing import Any, NamedTuple

from tsssm.ops.cpu.blocks import (
    GROUP,
    gather_readout,
    gather_rows,
    load_state,
    padded,
    scatter_readout,
    scatter_rows,
    scatter_system,
    store_state,
)
from tsssm.ops.cpu.buffers import arrays
from tsssm.ops.cpu.coefficients import collect_table, fill_table
from tsssm.ops.cpu.compiling import Choice, inline, kernel, maker
from tsssm.ops.cpu.diagonal import chain, correlation  # noqa: F401  (parts of what is chosen by type)
from tsssm.ops.cpu.diagonal.block import collect_hold, open_block
from tsssm.ops.cpu.diagonal.modes import advance_group, open_modes, rescale, retreat_group, settle, weigh
from tsssm.ops.cpu.diagonal.rows import advance_mode, open_rows, retreat_mode
from tsssm.ops.cpu.memory import wipe, zeros
from tsssm.ops.cpu.passes import advance, backward_series, forward_series, make_room, retreat
from tsssm.ops.cpu.simd import width_of


class Mixed(NamedTuple):
    """Cell of a whole block: quick groups of modes by ``modes``, the others by ``rows``; either
    may be None."""

    block: Any
    modes: Any
    rows: Any


class Form(NamedTuple):
    """How to discretise, and by which cells, said by their types, so that no others are compiled."""

    rule: Any
    modes: Any
    rows: Any


@maker
def _open(form: Any, operands: Any, times: Any, dt: Any, h0: int, gradient: bool) -> Any:
    block = open_block(form, operands, times, dt, h0, gradient)
    cell = Mixed(
        block,
        open_modes(form.modes, block.system, block.steps, block.bounds, times.gaps, form.rule, gradient),
        open_rows(form.rows, block),
    )
    _share_rows(form.rows, block, times.gaps, gradient)
    return cell


@Choice
def _share_rows(rows: Any, block: Any, gaps: Any, gradient: bool) -> None:
    """Compute the rows that samples share."""


@_share_rows.of(object)
@inline
def _(rows: Any, block: Any, gaps: Any, gradient: bool) -> None:
    fill_table(block.rows, gaps, block.rule, gradient, block.system, block.steps)


@Choice
def _settle_rows(rows: Any, block: Any, gaps: Any) -> None:
    """Send what rows have gathered in one direction to the gradients of the block."""


@_settle_rows.of(object)
@inline
def _(rows: Any, block: Any, gaps: Any) -> None:
    if not block.plain[0]:
        collect_hold(block)
    collect_table(block.rows, gaps, block.rule.kind, block.system, block.steps, block.g_system, block.g_steps)


@advance.of(Mixed)
@inline
def _(cell: Any, room: Any, state: Any, place: Any, span: Any) -> None:
    block = cell.block
    for g in range(block.count // GROUP):
        if block.plain[0] and block.quick[g]:
            advance_group(cell.modes, block, room, state, g, span.count)
        else:
            for n in range(GROUP * g, min(GROUP * g + GROUP, block.modes)):
                advance_mode(cell.rows, room, state, n, span.count)


@retreat.of(Mixed)
@inline
def _(cell: Any, room: Any, before: Any, carry: Any, place: Any, span: Any, final: bool) -> None:
    block = cell.block
    for g in range(block.count // GROUP):
        if block.plain[0] and block.quick[g]:
            retreat_group(cell.modes, block, room, before, carry, g, span.count, final)
        else:
            for n in range(GROUP * g, min(GROUP * g + GROUP, block.modes)):
                retreat_mode(cell.rows, room, before, carry, n, span.count)


@kernel
def forward_pass(
    signals: Any,
    operands: Any,
    times: Any,
    dt: Any,
    form: Any,
    x: Any,
    at_rest: bool,
    reverse: bool,
    cut: Any,
) -> None:
    """Outputs, states ``x`` (slots batch, H, N, 2) renewed, and the states that the adjoint needs.

    ``x`` belongs to the first direction; ``at_rest`` says that it arrives as zeros.
    """
    signals, operands = arrays(signals, times.gaps), arrays(operands, times.gaps)
    x, width, readouts = arrays(x, times.gaps), width_of(signals.u), operands.C.shape[1]
    room, batch = make_room(signals, readouts, times.gaps, False), signals.u.shape[0]
    slots = x.shape[0] // max(1, batch)
    state = zeros((slots, padded(operands.A.shape[1]), 2, width), x)
    for index in range(cut.first, cut.last):
        h0 = index * width
        cell = _open(form, operands, times, dt, h0, False)
        block = cell.block
        D = gather_rows(operands.D, readouts, False, h0)
        for d in range(operands.C.shape[0]):
            block.plain[0] = form.modes is not None and (at_rest or d == 1)
            gather_readout(operands.C, d, h0, block.C)
            weigh(cell.modes, block)
            for b in range(cut.b0, cut.b1):
                wipe(state)
                if d == 0 and not at_rest:
                    for q in range(slots):
                        load_state(x, q * batch + b, h0, state, q)
                forward_series(cell, signals, times, dt, room, D, state, (d, b, index), reverse != (d == 1))
                if d == 0:
                    if block.plain[0]:
                        rescale(cell.modes, block, state)
                    for q in range(slots):
                        store_state(x, q * batch + b, h0, state, q)


@kernel
def backward_pass(
    signals: Any,
    operands: Any,
    times: Any,
    dt: Any,
    form: Any,
    gx: Any,
    at_rest: bool,
    reverse: bool,
    cut: Any,
    gradients: Any,
) -> None:
    """Adjoint of `forward_pass`.

    ``gx`` (slots batch, H, N, 2) holds the gradient of the final state and is renewed to that of the first
    one, unless that was ``at_rest``. The others are written, those of the system for this range of series.
    """
    signals, operands = arrays(signals, times.gaps), arrays(operands, times.gaps)
    gx, width, readouts = arrays(gx, times.gaps), width_of(signals.u), operands.C.shape[1]
    room, batch = make_room(signals, readouts, times.gaps, True), signals.u.shape[0]
    slots = gx.shape[0] // max(1, batch)
    carry = zeros((slots, padded(operands.A.shape[1]), 2, width), gx)
    before = zeros(carry.shape, gx)
    for index in range(cut.first, cut.last):
        h0 = index * width
        cell = _open(form, operands, times, dt, h0, True)
        block = cell.block
        D, gD = gather_rows(operands.D, readouts, False, h0), zeros((readouts, width), gx)
        for d in range(operands.C.shape[0]):
            block.plain[0] = form.modes is not None and (at_rest or d == 1)
            gather_readout(operands.C, d, h0, block.C)
            weigh(cell.modes, block)
            for b in range(cut.b0, cut.b1):
                wipe(carry)
                for q in range(slots if d == 0 else 0):
                    load_state(gx, q * batch + b, h0, carry, q)
                place = (d, b, index)
                backward_series(
                    cell, signals, times, dt, room, D, gD, before, carry, place, reverse != (d == 1)
                )
                for q in range(slots if d == 0 else 0):
                    store_state(gx, q * batch + b, h0, carry, q)
            if block.plain[0]:
                settle(cell.modes, block)
            _settle_rows(form.rows, block, times.gaps)
            wipe(block.sums)
            scatter_readout(block.gC, gradients.C, d, h0)
        scatter_system(block.g_system, block.g_steps, gradients.A, gradients.B, gradients.step, h0)
        scatter_rows(gD, gradients.D, False, h0)
        scatter_rows(block.g_bounds, gradients.bound, True, h0)
