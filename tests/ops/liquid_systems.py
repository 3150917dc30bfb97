"""Problems, calls and results of the forms of Liquid-S4."""

from __future__ import annotations

from typing import Any

import torch
from systems import Problem, make_problem, weighted_sum
from torch import Tensor

from tsssm.ops import LiquidState, liquid_scan

KERNELS = ("exact", "kb", "pb")
FORMS = [(kernel, order) for kernel in KERNELS for order in (2, 3, 6)]
METHODS = ("zoh", "bilinear", 0.7)


def make_liquid(kernel: str, order: int, *, state: bool = False, **sizes: Any) -> tuple[Problem, Any]:
    """A problem in which the bounds are active at some of the samples, and a state to start from.

    Each mode clips about half of the inputs.
    """
    problem = make_problem(**sizes)
    problem = problem._replace(B=2 * problem.B)
    if not state:
        return problem, None
    random = torch.Generator().manual_seed(3)
    chain = order if kernel == "exact" else 1
    shapes = [(len(problem.u), count, *problem.A.shape) for count in (chain, order - chain)]
    parts = [0.5 * torch.randn(*shape, generator=random, dtype=torch.complex128) for shape in shapes]
    return problem, LiquidState(*(part.to(problem.A.dtype) for part in parts))


def run(problem: Problem, state: LiquidState | None = None, **options: Any) -> tuple[Tensor, LiquidState]:
    C = problem.C if problem.C_reverse is None else torch.stack([problem.C, problem.C_reverse])
    return liquid_scan(*problem[:3], C, *problem[4:6], state, D=problem.D, **options)


def leaves_of(problem: Problem, state: LiquidState | None) -> dict[str, Tensor]:
    """Copies of what has a gradient, by name."""
    named = problem.differentiable() | ({} if state is None else {"x": state.x, "history": state.history})
    return {name: t.detach().clone().requires_grad_() for name, t in named.items()}


def with_leaves(
    problem: Problem, state: LiquidState | None, leaves: dict[str, Tensor]
) -> tuple[Problem, LiquidState | None]:
    leaves = dict(leaves)
    if state is not None:
        state = LiquidState(leaves.pop("x"), leaves.pop("history"))
    return problem.with_operands(leaves), state


def results(problem: Problem, state: LiquidState | None, **options: Any) -> dict[str, Tensor]:
    """Outputs, final state and the gradients of a weighted sum of them."""
    leaves = leaves_of(problem, state)
    y, end = run(*with_leaves(problem, state, leaves), **options)
    total = weighted_sum(y, *end)
    gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True)
    named = {"y": y, "state.x": end.x, "state.history": end.history}
    named |= {f"gradient of {name}": g for name, g in zip(leaves, gradients, strict=True)}
    return {name: value.detach() for name, value in named.items() if value.numel()}
