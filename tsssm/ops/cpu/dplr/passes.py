"""The kernels of the diagonal plus low-rank scan: the passes of ``tsssm.ops.cpu.passes`` over its cell.

Beside the states before each chunk, the forward pass leaves the coupling v of every sample behind and, where
samples have gaps of their own, the inverses that it was found by.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tsssm.ops.cpu.blocks import (
    CHUNK,
    gather_readout,
    gather_rows,
    load_state,
    read,
    scatter_readout,
    scatter_rows,
    store_state,
    write,
)
from tsssm.ops.cpu.buffers import arrays
from tsssm.ops.cpu.compiling import inline, kernel, maker
from tsssm.ops.cpu.dplr import irregular, regular
from tsssm.ops.cpu.dplr.feedback import Inverse, close_chunk, close_chunk_adjoint, invert, measure
from tsssm.ops.cpu.dplr.system import (
    FIRST,
    add_term,
    discretise,
    discretise_adjoint,
    empty_system,
    gather_system,
    impulse_response,
    scatter_system,
    term,
)
from tsssm.ops.cpu.memory import wipe, zeros
from tsssm.ops.cpu.passes import advance, backward_series, forward_series, make_room, retreat
from tsssm.ops.cpu.simd import load, pair, plus, splat, store, width_of


class Operands(NamedTuple):
    """Operands (H, N, 2), P and Q (R, H, N, 2), C (K, M, H, N, 2) and D (M or 0, H), or gradients."""

    Lambda: Any
    P: Any
    Q: Any
    B: Any
    C: Any
    D: Any


class Work(NamedTuple):
    """Buffers of a chunk: (R, CHUNK, W) the real ones; see ``feedback``, ``regular`` and ``irregular``."""

    w: Any
    q: Any
    v: Any
    M: Any
    inverses: Any
    drive: Any
    t: Any
    gv: Any
    gw: Any
    X: Any
    G: Any
    F: Any


class Coupled(NamedTuple):
    """Cell of a block. ``own`` is None on a regular grid, of which ``fixed``, ``resolvents`` and
    ``response`` are; ``kept`` are the v and the inverses of all samples, and how many series there are."""

    own: Any
    system: Any
    fixed: Any
    resolvents: Any
    response: Any
    alpha: Any
    readouts: Any
    work: Any
    kept: Any
    C: Any
    gradient: Any
    gC: Any


@maker
def _make_work(dt: Any, system: Any, gradient: bool) -> Any:
    own = dt is not None
    rank, modes, like = system.rank, system.modes, system.values
    back, size = 1 if gradient else 0, rank * CHUNK * width_of(like)
    lines = modes if own else 1
    return Work(
        zeros((rank * width_of(like),), like),
        zeros((size,), like),
        zeros((size,), like),
        zeros((rank, rank, width_of(like)), like),
        zeros((rank * size,), like),
        zeros((modes, rank, 2, width_of(like)), like),
        zeros((back * size,), like),
        zeros((rank * width_of(like),), like),
        zeros((back * size,), like),
        zeros((back * CHUNK, 2, width_of(like)), like),
        zeros((back * lines, irregular.ROW, 2, width_of(like)), like),
        zeros((back * lines, irregular.ROW, 2, width_of(like)), like),
    )


@maker
def _open(operands: Any, dt: Any, alpha: float, kept: Any, h0: int, gradient: bool) -> Any:
    own = dt is not None
    system = gather_system(operands, h0)
    work, (fixed, resolvents) = _make_work(dt, system, gradient), discretise(system, alpha)
    response = impulse_response(fixed, 1 if own else CHUNK)
    if dt is None:
        invert(response, alpha, system.rank, Inverse(work.inverses, 0, 1))
    C = zeros((operands.C.shape[1], system.modes, 2, width_of(response)), response)
    gC = zeros(C.shape, C) if gradient else C
    sums, readouts = empty_system(system), C.shape[0]
    return Coupled(dt, system, fixed, resolvents, response, alpha, readouts, work, kept, C, sums, gC)


@inline
def _keep(cell: Any, place: Any, span: Any, writing: bool) -> None:
    """Write v and the inverses of a chunk to where they are kept, or read them."""
    d, b, block = place
    work, (v, inverses, batch), rank = cell.work, cell.kept, cell.system.rank
    h0, size = block * width_of(v), CHUNK * width_of(v)
    for r in range(rank if v.size > 0 else 0):
        row = (d * rank + r) * batch + b
        if writing:
            write(v, row, h0, span, work.v, r * size)
        else:
            read(v, row, h0, span, work.v, r * size)
    for r in range(rank * rank if inverses.size > 0 else 0):
        row = (d * rank * rank + r) * batch + b
        if writing:
            write(inverses, row, h0, span, work.inverses, r * size)
        else:
            read(inverses, row, h0, span, work.inverses, r * size)


@inline
def _advance(dt: Any, cell: Any, room: Any, state: Any, count: int) -> None:
    own = dt is not None
    work, rank = cell.work, cell.system.rank
    measure(cell.system, state, work.w)
    if own:
        irregular.advance(cell, state, room.delta, room.u, room.y, count)
    else:
        regular.run_open(cell, state, room.u, count)
        close_chunk(work, cell.response, Inverse(work.inverses, 0, 1), cell.alpha, rank, count)
        regular.run_closed(cell, state, room.u, room.y, count)


@advance.of(Coupled)
@inline
def _(cell: Any, room: Any, state: Any, place: Any, span: Any) -> None:
    _advance(cell.own, cell, room, state, span.count)
    _keep(cell, place, span, True)


@inline
def _retreat(dt: Any, cell: Any, room: Any, before: Any, carry: Any, count: int) -> None:
    own = dt is not None
    work, rank = cell.work, cell.system.rank
    if own:
        irregular.advance_adjoint(cell, carry, room.delta, room.y, room.gu, count)
    else:
        regular.run_open_adjoint(cell, carry, room.y, count)
        close_chunk_adjoint(work, cell.response, Inverse(work.inverses, 0, 1), cell.alpha, rank, count)
    for n in range(cell.system.modes):
        if own:
            irregular.collect(cell, before, n, room.u, room.y, count)
        else:
            regular.run_closed_adjoint(cell, carry, n, room.y, room.gu, count)
            regular.collect(cell, before, n, room.u, room.y, count)


@retreat.of(Coupled)
@inline
def _(cell: Any, room: Any, before: Any, carry: Any, place: Any, span: Any, final: bool) -> None:
    _keep(cell, place, span, False)
    _retreat(cell.own, cell, room, before, carry, span.count)


@inline
def _back_to_the_first_state(cell: Any, before: Any, carry: Any) -> None:
    """The first v reads the state that the scan starts from, too."""
    system, width = cell.system, width_of(carry)
    for n in range(system.modes):
        h, x = pair(carry, 2 * n * width), pair(before, 2 * n * width)
        for r in range(system.rank):
            g, field = splat(1.0 - cell.alpha, carry) * load(cell.work.gv, r * width), FIRST + system.rank + r
            h = plus(h, g, term(system, n, field))
            add_term(cell.gradient, n, field, x * g)
        store(carry, 2 * n * width, h)


@kernel
def forward_pass(
    signals: Any, operands: Any, times: Any, dt: Any, alpha: float, kept: Any, x: Any, options: Any, cut: Any
) -> None:
    """Outputs, states ``x`` (batch, H, N, 2) renewed, and what the adjoint needs.

    ``dt`` is None on a regular grid. ``kept`` are v (K R batch, L, H) and inverses (K R^2 batch, L, H),
    or empty. ``x`` belongs to the first direction; ``options`` say that it arrives as zeros, and that the
    direction is reversed.
    """
    signals, operands = arrays(signals, times.gaps), arrays(operands, times.gaps)
    v, inverses, x = arrays(kept[0], times.gaps), arrays(kept[1], times.gaps), arrays(x, times.gaps)
    width, readouts, (at_rest, reverse) = width_of(signals.u), operands.C.shape[1], options
    room, kept_here = make_room(signals, readouts, times.gaps, False), (v, inverses, signals.u.shape[0])
    for index in range(cut.first, cut.last):
        h0 = index * width
        cell = _open(operands, dt, alpha, kept_here, h0, False)
        D = gather_rows(operands.D, readouts, False, h0)
        state = zeros((1, cell.system.modes, 2, width), x)
        for d in range(operands.C.shape[0]):
            gather_readout(operands.C, d, h0, cell.C)
            for b in range(cut.b0, cut.b1):
                wipe(state)
                if d == 0 and not at_rest:
                    load_state(x, b, h0, state, 0)
                forward_series(cell, signals, times, dt, room, D, state, (d, b, index), reverse != (d == 1))
                if d == 0:
                    store_state(x, b, h0, state, 0)


@kernel
def backward_pass(
    signals: Any, operands: Any, times: Any, dt: Any, alpha: float, kept: Any, gx: Any, reverse: bool,
    cut: Any, gradients: Any,
) -> None:  # fmt: skip
    """Adjoint of `forward_pass`.

    ``gx`` (batch, H, N, 2) holds the gradient of the final state and is renewed to that of the first one.
    The others are written, those of the system for this range of series.
    """
    signals, operands = arrays(signals, times.gaps), arrays(operands, times.gaps)
    v, inverses, gx = arrays(kept[0], times.gaps), arrays(kept[1], times.gaps), arrays(gx, times.gaps)
    width, readouts = width_of(signals.u), operands.C.shape[1]
    room, kept_here = make_room(signals, readouts, times.gaps, True), (v, inverses, signals.u.shape[0])
    for index in range(cut.first, cut.last):
        h0 = index * width
        cell = _open(operands, dt, alpha, kept_here, h0, True)
        D, gD = gather_rows(operands.D, readouts, False, h0), zeros((readouts, width), gx)
        carry = zeros((1, cell.system.modes, 2, width), gx)
        before = zeros(carry.shape, gx)
        for d in range(operands.C.shape[0]):
            gather_readout(operands.C, d, h0, cell.C)
            for b in range(cut.b0, cut.b1):
                wipe(carry)
                wipe(cell.work.gv)
                if d == 0:
                    load_state(gx, b, h0, carry, 0)
                place = (d, b, index)
                backward_series(
                    cell, signals, times, dt, room, D, gD, before, carry, place, reverse != (d == 1)
                )
                if d == 0:
                    _back_to_the_first_state(cell, before, carry)
                    store_state(gx, b, h0, carry, 0)
            scatter_readout(cell.gC, gradients.C, d, h0)
        if dt is None:
            discretise_adjoint(cell.system, cell.resolvents, cell.gradient, alpha)
        scatter_system(cell.gradient, gradients, h0)
        scatter_rows(gD, gradients.D, False, h0)
