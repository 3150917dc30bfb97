"""Random systems, gaps and comparisons for the tests of the operations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from tsssm.ops import ScanState, diagonal_scan, operands, reference

METHODS = ("zoh", "foh", "bilinear", "backward-euler", 0.3)
RULES = [
    (method, liquid) for method in METHODS for liquid in (False, True) if not (liquid and method == "foh")
]
GAPS = ("regular", "constant", "few", "distinct", "padded", "gap of zero", "tiny")

# Largest error allowed, relative to the largest entry of what is compared. In float32 the gradients of A and
# of the step are sums over hundreds of samples of terms that cancel.
TOLERANCE = {
    torch.float64: {"y": 1e-10, "state": 1e-10, "gradient": 1e-10},
    torch.float32: {"y": 1e-5, "state": 1e-5, "gradient": 1e-4},
}


class Problem(NamedTuple):
    """Arguments of `diagonal_scan`, in its order; the last two are those of a scan in both directions."""

    u: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    step: Tensor
    dt: Tensor | None
    state: ScanState | None
    D: Tensor | None = None
    C_reverse: Tensor | None = None

    def run(self, **options: Any) -> tuple[Tensor, ScanState]:
        """The scan."""
        C = self.C if self.C_reverse is None else torch.stack([self.C, self.C_reverse])
        return diagonal_scan(*self[:3], C, *self[4:7], D=self.D, **options)

    def differentiable(self) -> dict[str, Tensor]:
        """What has a gradient, by name."""
        names = ("u", "A", "B", "C", "step", "D", "C_reverse")
        named = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.state is not None:
            named |= {"state.x": self.state.x, "state.u": self.state.u}
        return named

    def with_operands(self, named: dict[str, Tensor]) -> Problem:
        """The problem with other tensors in the place of those that have a gradient."""
        named = dict(named)
        if self.state is not None:
            named["state"] = ScanState(named.pop("state.x"), named.pop("state.u"))
        return self._replace(**named)

    def to(self, dtype: torch.dtype) -> Problem:
        """A copy of another precision, with leaves of its own."""

        def convert(t: Tensor) -> Tensor:
            return t.detach().to(dtype.to_complex() if t.is_complex() else dtype, copy=True)

        operands = {name: convert(t) for name, t in self.differentiable().items()}
        return self.with_operands(operands)._replace(dt=None if self.dt is None else convert(self.dt))


def make_gaps(kind: str, batch: int, length: int, random: torch.Generator) -> Tensor | None:
    """Gaps (batch, length) in float64; None for a regular grid."""
    if kind == "regular":
        return None
    distinct = 0.2 + 3 * torch.rand(batch, length, generator=random, dtype=torch.float64)
    if kind == "constant":
        return torch.full_like(distinct, 0.7)
    if kind == "few":
        return torch.tensor([0.5, 1.0, 2.5], dtype=torch.float64)[(distinct % 1 * 3).long()]
    if kind == "tiny":
        return 1e-7 * distinct
    if kind == "gap of zero":
        distinct[:, 1::3] = 0
    if kind == "padded":
        for row in range(batch):
            distinct[row, max(1, length - 2 - 3 * row) :] = 0
    return distinct


def make_problem(
    *,
    batch: int = 2,
    length: int = 11,
    channels: int = 3,
    modes: int = 3,
    readouts: int = 1,
    gaps: str = "regular",
    state: bool = False,
    both: bool = False,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Problem:
    """A system with eigenvalues and timescales of the size that the layers have.

    The numbers are drawn in float64 and rounded to ``dtype``.
    """
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int, dtype: torch.dtype = torch.complex128) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=dtype)

    frequency = math.pi * torch.arange(modes) * (1 + 0.1 * normal(channels, modes, dtype=torch.float64))
    A = torch.complex(-torch.exp(0.5 * normal(channels, modes, dtype=torch.float64)), frequency)
    step = 10 ** (-2 + 2 * torch.rand(channels, generator=random, dtype=torch.float64)) / 2
    problem = Problem(
        normal(batch, length, channels, dtype=torch.float64),
        A,
        normal(channels, modes),
        normal(readouts, channels, modes),
        step,
        make_gaps(gaps, batch, length, random),
        ScanState(normal(batch, channels, modes), normal(batch, channels, dtype=torch.float64))
        if state
        else None,
    )
    if both:
        problem = problem._replace(
            D=normal(readouts, channels, dtype=torch.float64), C_reverse=normal(readouts, channels, modes)
        )
    return problem.to(dtype)


@contextmanager
def by_reference() -> Iterator[None]:
    """Let the public operations run their specification."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operands, "runs_compiled", lambda *_: False)
        patch.setattr(operands, "plain", lambda: reference)
        yield


def results(problem: Problem, *, only: str | None = None, **options: Any) -> dict[str, Tensor]:
    """Outputs, final state and the gradients of a weighted sum of them, of ``only`` one operand or of all."""
    leaves = problem.differentiable()
    wanted = {name: t.requires_grad_() for name, t in leaves.items() if only in (None, name)}
    y, state = problem.run(**options)
    gradients = torch.autograd.grad(
        weighted_sum(y, *state), list(wanted.values()), allow_unused=True, materialize_grads=True
    )
    for t in leaves.values():
        t.requires_grad_(False)
    found = {f"gradient of {name}": g for name, g in zip(wanted, gradients, strict=True)}
    return {"y": y.detach(), "state.x": state.x.detach(), "state.u": state.u.detach()} | found


def weighted_sum(*tensors: Tensor) -> Tensor:
    """A number to differentiate, in which no two entries weigh the same."""
    total = tensors[0].new_zeros(())
    for t in tensors:
        real = torch.view_as_real(t) if t.is_complex() else t
        # Drawn up in float64, such that both precisions have the same; no sine, which is computed by
        # threads that do not survive a fork.
        weights = 0.618034 * torch.arange(real.numel(), dtype=torch.float64) % 1 - 0.4
        total = total + (weights.to(real.dtype).reshape(real.shape) * real).sum()
    return total


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], dtype: torch.dtype) -> None:
    """Compare results to `TOLERANCE`."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        kind = name.split()[0].split(".")[0]
        scale = max(value.abs().max().item(), 1e-30)
        error = (found[name].to(value.dtype) - value).abs().max().item() / scale
        assert error <= TOLERANCE[dtype][kind], f"{name}: relative error {error:.2e} in {dtype}"
