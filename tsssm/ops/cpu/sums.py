r"""Where the gradients of Abar and Bbar at the samples of a chunk go: kept in registers as far as possible.

Rows that samples share get sums of their own (`TABLE`), in registers where there is just one (`ONE`). Where
each sample has a row (`HOLD`: zero-order hold at gaps that are all different, and a mode that is not
`is_slow`), three sums over all samples are enough, with delta the gap of a sample,

.. math::
    T = \sum \delta \bar A^* g_{\bar A}, \qquad
    I = \sum \delta \bar A^* g_{\bar B}, \qquad
    S = \sum P^* g_{\bar B},

from which `collect_hold` has the gradients of the system: a row each would cost more than the recurrence.
"""

from __future__ import annotations

from typing import Any

from tsssm.ops.cpu.compiling import inline, routine
from tsssm.ops.cpu.rows import A, B, accumulate, conj_times, get, put, times
from tsssm.ops.cpu.simd import constant, load, splat, store

TABLE, ONE, HOLD = range(3)
# Complex registers of a mode: T, I, S and one for the readout, which plain scans use.
N_SUMS = 4

# Below this |z| the derivative of phi1 is not taken as a difference.
SLOW = 0.01


@inline
def is_slow(system: Any, steps: Any, n: int, width: int, typical: float) -> bool:
    """Whether a ``typical`` gap moves a mode so little, in some channel, that phi1' needs its series.

    Otherwise phi1'(z) = (exp(z) - phi1(z)) / z, with an error of the rounding unit divided by z.
    """
    for w in range(width):
        if typical * steps[w] * max(abs(system[n, 0, w]), abs(system[n, 1, w])) < SLOW:
            return True
    return False


@inline
def load_sums(way: int, grads: Any, plane: int, base: int, sums: Any, n: int, width: int) -> Any:
    """The sums of mode ``n``, whose first row stands at ``base``, as six registers for `add_to_sums`."""
    if way == HOLD:
        at = 2 * N_SUMS * n * width
        tr, ti = load(sums, at), load(sums, at + width)
        ir, ii = load(sums, at + 2 * width), load(sums, at + 3 * width)
        sr, si = load(sums, at + 4 * width), load(sums, at + 5 * width)
    else:
        tr, ti = get(grads, plane, A, base)
        ir, ii = get(grads, plane, B, base)
        sr, si = ir, ii
    return tr, ti, ir, ii, sr, si


@inline
def add_to_sums(
    held: Any,
    way: int,
    grads: Any,
    plane: int,
    row: int,
    gap: float,
    transition: Any,
    hold: Any,
    g_transition: Any,
    g_input: Any,
) -> Any:
    """Add the gradients of ``transition`` = Abar and of Bbar at one sample; ``hold`` is P."""
    tr, ti, ir, ii, sr, si = held
    gar, gai = g_transition
    gbr, gbi = g_input
    if way == TABLE:
        accumulate(grads, plane, A, row, gar, gai)
        accumulate(grads, plane, B, row, gbr, gbi)
        return tr, ti, ir, ii, sr, si
    if way == ONE:
        return tr + gar, ti + gai, ir + gbr, ii + gbi, sr, si
    d = splat(gap, tr)
    ar, ai = d * transition[0], d * transition[1]
    pr, pi = hold
    # Sums of products on their own, so that each is a chain of fused operations.
    tr, ti = tr + ar * gar + ai * gai, ti + ar * gai - ai * gar
    ir, ii = ir + ar * gbr + ai * gbi, ii + ar * gbi - ai * gbr
    return tr, ti, ir, ii, sr + pr * gbr + pi * gbi, si + pr * gbi - pi * gbr


@inline
def store_sums(held: Any, way: int, grads: Any, plane: int, base: int, sums: Any, n: int, width: int) -> None:
    """The way back of `load_sums`."""
    tr, ti, ir, ii, sr, si = held
    if way == HOLD:
        at = 2 * N_SUMS * n * width
        store(sums, at, tr)
        store(sums, at + width, ti)
        store(sums, at + 2 * width, ir)
        store(sums, at + 3 * width, ii)
        store(sums, at + 4 * width, sr)
        store(sums, at + 5 * width, si)
    elif way == ONE:
        put(grads, plane, A, base, tr, ti)
        put(grads, plane, B, base, ir, ii)


@routine
def collect_hold(sums: Any, system: Any, steps: Any, g_system: Any, g_steps: Any, width: int) -> None:
    """Send the sums of the way `HOLD` to the gradients of the system and of the steps."""
    s = load(steps, 0)
    one = constant(s, "one")
    for n in range(system.shape[0]):
        at, to = 2 * N_SUMS * n * width, 4 * n * width
        lr, li = load(system, to), load(system, to + width)
        br, bi = load(system, to + 2 * width), load(system, to + 3 * width)
        tr, ti = load(sums, at), load(sums, at + width)
        ir, ii = load(sums, at + 2 * width), load(sums, at + 3 * width)
        sr, si = load(sums, at + 4 * width), load(sums, at + 5 * width)
        store(g_system, to + 2 * width, load(g_system, to + 2 * width) + sr)
        store(g_system, to + 3 * width, load(g_system, to + 3 * width) + si)
        # Sums of Bbar lack the input vector, which P does not have.
        ir, ii = conj_times(br, bi, ir, ii)
        sr, si = conj_times(br, bi, sr, si)
        scale = one / (lr * lr + li * li)
        sr, si = times(lr * scale, li * scale, s * ir - sr, s * ii - si)
        store(g_system, to, load(g_system, to) + s * tr + sr)
        store(g_system, to + width, load(g_system, to + width) + s * ti + si)
        store(g_steps, 0, load(g_steps, 0) + lr * tr + li * ti + ir)
