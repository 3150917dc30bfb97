"""One step of a state-space system as ONNX operators: what a layer does between two samples.

Symbols and shapes: B series, H channels, N modes, M readouts::

    u    (B, H)      inputs of a sample
    dt   (B, 1)      elapsed time since the sample before, 0 where there is none: the state stays as it is
    y    (B, M H)    what the state says, readouts slowest
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tsssm.exporting._graph import Complex, Graph

Array = npt.NDArray[Any]


class Cell(Protocol):
    """A system that says how one step goes."""

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the tensors of its state, without the axis of the series."""
        ...

    def step(self, g: Graph, u: str, dt: str, state: list[str]) -> tuple[str, list[str]]:
        """Add one step to a graph; returns y and the new state."""
        ...


class DiagonalCell(NamedTuple):
    """A system per channel with complex modes: A, B (H, N), C (M, H, N), step (H,), as `ops.diagonal_scan`.

    ``alpha`` is that of a generalised bilinear transform, None for zero-order hold; ``bound`` (H, N) is that
    of a liquid transition, None for a linear system.
    """

    A: Array
    B: Array
    C: Array
    step_size: Array
    alpha: float | None
    bound: Array | None

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [self.A.shape] * 2

    def step(self, g: Graph, u: str, dt: str, state: list[str]) -> tuple[str, list[str]]:
        x, inputs = Complex(*state), g.axis(u, 2)
        s = g.axis(g.mul(dt, g.constant(self.step_size)), 2)
        transition, weight = _discrete(g, self.A, self.B, s, self.alpha)
        if self.bound is not None:
            high = g.constant(self.bound)
            bounded = g.op("Min", g.op("Max", inputs, g.op("Neg", high)), high)
            transition = g.cadd(transition, g.scale(weight, bounded))
            if self.alpha is not None:
                transition = _in_disc(g, transition)
        x = g.cadd(g.cmul(transition, x), g.scale(weight, inputs))
        return _read(g, self.C, x), [*x]


class CorrelationCell(NamedTuple):
    """A diagonal system with the products of ``order`` neighbours, the kernels of `ops.liquid_scan`.

    ``into_state`` says whether they go into the state (K-B) or to the readout alone (P-B).
    """

    A: Array
    B: Array
    C: Array
    step_size: Array
    alpha: float | None
    order: int
    into_state: bool

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [self.A.shape] * (2 * self.order)

    def step(self, g: Graph, u: str, dt: str, state: list[str]) -> tuple[str, list[str]]:
        x, *history = (Complex(*pair) for pair in zip(state[::2], state[1::2], strict=True))
        s = g.axis(g.mul(dt, g.constant(self.step_size)), 2)
        transition, weight = _discrete(g, self.A, self.B, s, self.alpha)
        w = g.scale(weight, g.axis(u, 2))
        past = history[-1]
        for earlier in history[-2::-1]:
            past = g.cmul(earlier, g.shift(past, 1.0))
        products = g.cmul(w, past)
        x = g.cadd(g.cmul(transition, x), w)
        seen = g.cadd(x, products)
        # A sample of zero gap is none: it must not stand between its neighbours either.
        counts = g.axis(g.op("Greater", dt, g.constant(0.0)), 2)
        shifted = [
            g.op("Where", counts, new, old)
            for after, before in zip([_in_disc(g, w), *history[:-1]], history, strict=True)
            for new, old in zip(after, before, strict=True)
        ]
        return _read(g, self.C, seen), [*(seen if self.into_state else x), *shifted]


class SharedCell(NamedTuple):
    """A system of P complex modes that all channels drive and read: A (P,), B (P, H), C (H, P), step (P,)."""

    A: Array
    B: Array
    C: Array
    step_size: Array
    alpha: float | None

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [self.A.shape] * 2

    def step(self, g: Graph, u: str, dt: str, state: list[str]) -> tuple[str, list[str]]:
        s = g.mul(dt, g.constant(self.step_size))
        transition, weight = _discrete(g, self.A, np.ones_like(self.A), s, self.alpha)
        driven = Complex(g.linear(u, self.B.real), g.linear(u, self.B.imag))
        x = g.cadd(g.cmul(transition, Complex(*state)), g.cmul(weight, driven))
        return g.sub(g.linear(x.re, self.C.real), g.linear(x.im, self.C.imag)), [*x]


class LowRankCell(NamedTuple):
    """A system A x = Lambda x - sum_r P_r Re(Q_r^* x) a channel, as `ops.dplr_scan`; of rank 1 or 2."""

    Lambda: Array
    P: Array
    Q: Array
    B: Array
    C: Array
    step_size: Array
    alpha: float

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [self.Lambda.shape] * 2

    def step(self, g: Graph, u: str, dt: str, state: list[str]) -> tuple[str, list[str]]:
        x, Lambda = Complex(*state), g.complex(self.Lambda)
        P, Q = [g.complex(one) for one in self.P], [g.complex(one.conj()) for one in self.Q]
        s = g.axis(g.mul(dt, g.constant(self.step_size)), 2)
        E = g.inverse(g.shift(g.scale(Lambda, g.mul(s, -self.alpha)), 1.0))
        moved = g.cmul(Lambda, x)
        for p, q in zip(P, Q, strict=True):
            moved = g.csub(moved, g.scale(p, g.axis(g.product(q, x), 2)))
        right = g.cadd(x, g.scale(moved, g.mul(s, 1 - self.alpha)))
        right = g.cmul(E, g.cadd(right, g.scale(g.complex(self.B), g.mul(s, g.axis(u, 2)))))
        weights = self._coupled(g, P, Q, E, right, g.op("Squeeze", s, g.constant([2], np.int64)))
        x = right
        for p, w in zip(P, weights, strict=True):
            x = g.csub(x, g.scale(g.cmul(E, p), g.mul(s, g.mul(g.axis(w, 2), self.alpha))))
        return _read(g, self.C, x), [*x]

    def _coupled(
        self, g: Graph, P: list[Complex], Q: list[Complex], E: Complex, right: Complex, s: str
    ) -> list[str]:
        """The numbers w (B, H) of each rank: (I + alpha s Re(Q^* E P)) w = Re(Q^* E r)."""
        inner = [g.product(q, right) for q in Q]
        scaled = g.mul(s, self.alpha)
        middle = [[g.mul(scaled, g.product(q, g.cmul(E, p))) for p in P] for q in Q]
        if len(P) == 1:
            return [g.div(inner[0], g.add(1.0, middle[0][0]))]
        a, d = g.add(1.0, middle[0][0]), g.add(1.0, middle[1][1])
        b, c = middle[0][1], middle[1][0]
        determinant = g.sub(g.mul(a, d), g.mul(b, c))
        first = g.sub(g.mul(d, inner[0]), g.mul(b, inner[1]))
        second = g.sub(g.mul(a, inner[1]), g.mul(c, inner[0]))
        return [g.div(first, determinant), g.div(second, determinant)]


class TridiagonalCell(NamedTuple):
    """A system A = diag(scale) (diag(shift) + T^-1) a channel, as `ops.tridiagonal_scan`; T (3, H, N)."""

    T: Array
    shift: Array
    scale: Array
    B: Array
    C: Array
    step_size: Array
    alpha: float

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [self.shift.shape]

    def step(self, g: Graph, u: str, dt: str, state: list[str]) -> tuple[str, list[str]]:
        (x,) = state
        s = g.axis(g.mul(dt, g.constant(self.step_size)), 2)
        forcing = g.mul(g.constant(self.B), g.axis(u, 2))
        F = g.constant(self.scale)
        taken = g.mul(g.mul(s, self.alpha), F)
        kept = g.sub(1.0, g.mul(taken, g.constant(self.shift)))
        below, main, above = (g.mul(kept, g.constant(diagonal)) for diagonal in self.T)
        right = g.add(x, g.mul(g.mul(s, self.alpha), forcing))
        zeta = _solve(g, below, g.sub(main, taken), above, right, self.shift.shape[1])
        stage = self._times_T(g, zeta)
        rate = g.mul(F, g.add(g.mul(g.constant(self.shift), stage), zeta))
        x = g.add(x, g.mul(s, g.add(rate, forcing)))
        parts = [g.total(g.mul(g.constant(C), x)) for C in self.C]
        return (parts[0] if len(parts) == 1 else g.op("Concat", *parts, axis=1)), [x]

    def _times_T(self, g: Graph, zeta: str) -> str:
        ends = [g.constant([k], np.int64) for k in (0, 1, -1, np.iinfo(np.int64).max, 2)]
        first, second, last, end, axis = ends
        none = g.mul(g.op("Slice", zeta, first, second, axis), 0.0)
        before = g.op("Concat", none, g.op("Slice", zeta, first, last, axis), axis=2)
        after = g.op("Concat", g.op("Slice", zeta, second, end, axis), none, axis=2)
        parts = zip(self.T, (before, zeta, after), strict=True)
        a, b, c = (g.mul(g.constant(diagonal), part) for diagonal, part in parts)
        return g.add(g.add(a, b), c)


def _discrete(g: Graph, A: Array, B: Array, s: str, alpha: float | None) -> tuple[Complex, Complex]:
    """Coefficients of the state and of the input over steps s, as `discretize.discretize_diagonal`."""
    z = g.scale(g.complex(A), s)
    if alpha is None:
        grown = g.expm1(z)
        return g.shift(grown, 1.0), g.cmul(grown, g.complex(B / A))
    inverse = g.inverse(g.shift(g.scale(z, -alpha), 1.0))
    transition = g.cmul(g.shift(g.scale(z, 1 - alpha), 1.0), inverse)
    return transition, g.cmul(g.scale(g.complex(B), s), inverse)


def _in_disc(g: Graph, a: Complex) -> Complex:
    """a / max(1, |a|)."""
    modulus = g.op("Sqrt", g.add(g.mul(a.re, a.re), g.mul(a.im, a.im)))
    return g.scale(a, g.div(1.0, g.op("Max", modulus, g.constant(1.0))))


def _read(g: Graph, C: Array, x: Complex) -> str:
    """Re(C x) (B, M H) of readouts (M, H, N)."""
    parts = [g.product(g.complex(one), x) for one in C]
    return parts[0] if len(parts) == 1 else g.op("Concat", *parts, axis=1)


def _solve(g: Graph, below: str, main: str, above: str, right: str, n: int) -> str:
    """Solutions (B, H, N) of tridiagonal systems of n rows, by elimination without exchange of rows."""
    rows = [g.ops("Split", n, part, axis=2) if n > 1 else [part] for part in (below, main, above, right)]
    a, b, c, r = rows
    slopes, values = [g.div(c[0], b[0])], [g.div(r[0], b[0])]
    for k in range(1, n):
        pivot = g.sub(b[k], g.mul(a[k], slopes[-1]))
        values.append(g.div(g.sub(r[k], g.mul(a[k], values[-1])), pivot))
        slopes.append(g.div(c[k], pivot))
    found = [values[-1]]
    for k in range(n - 2, -1, -1):
        found.append(g.sub(values[k], g.mul(slopes[k], found[-1])))
    return g.op("Concat", *found[::-1], axis=2) if n > 1 else found[0]
