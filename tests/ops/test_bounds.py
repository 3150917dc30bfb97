"""The bound of the liquid input: no transition grows, whatever the gap, and no smaller bound would do."""

from __future__ import annotations

import torch
from torch import Tensor

from tsssm.discretize import discretize_diagonal
from tsssm.ops.bounds import bounded_input, liquid_bound

STEPS = 10.0 ** torch.linspace(-6, 4, 41, dtype=torch.float64)


def random_systems(channels: int, modes: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)

    def draw() -> Tensor:
        return torch.randn(channels, modes, generator=random, dtype=torch.float64)

    A = torch.complex(-(10 ** draw()), 3 * 10 ** draw())
    return A, torch.complex(draw(), draw())


def transitions(A: Tensor, B: Tensor, u: Tensor) -> Tensor:
    """Moduli of Abar + Bbar u at all steps, (steps, H, N)."""
    A_bar, B_bar, _ = discretize_diagonal(A, B, STEPS[:, None, None], "zoh")
    return (A_bar + B_bar * u).abs()


def test_no_transition_leaves_the_disc() -> None:
    A, B = random_systems(50, 4)
    bound = liquid_bound(A, B)
    for u in (bound, -bound, 0.3 * bound):
        assert transitions(A, B, u).max() <= 1 + 1e-12


def test_a_larger_input_would_make_a_mode_grow() -> None:
    """Where the input acts against the decay of a mode alone, as for real numbers, the bound is attained."""
    A, B = random_systems(50, 4)
    A, B = A.real.to(A.dtype), B.real.to(B.dtype)
    bound = liquid_bound(A, B)
    beyond = torch.maximum(transitions(A, B, 1.01 * bound), transitions(A, B, -1.01 * bound))
    assert (beyond.amax(0) > 1).all()


def test_gradient() -> None:
    A, B = random_systems(5, 3)
    torch.autograd.gradcheck(liquid_bound, (A.requires_grad_(), B.requires_grad_()))
    u = torch.linspace(-2, 2, 30, dtype=torch.float64).reshape(6, 5, 1).requires_grad_()
    torch.autograd.gradcheck(bounded_input, (u, liquid_bound(A, B)))


def test_a_mode_without_input_has_no_bound_to_speak_of() -> None:
    A, B = random_systems(1, 3)
    B[:, 1] = 0
    B.requires_grad_()
    bound = liquid_bound(A, B)
    assert bound[0, 1] > 1e9 and bound.isfinite().all()
    (gradient,) = torch.autograd.grad(bound.sum(), B)
    assert gradient.isfinite().all() and gradient[0, 1] == 0
    assert liquid_bound(A.to(torch.complex64), torch.zeros(1, 3, dtype=torch.complex64)).isfinite().all()


def test_an_integrator_takes_no_liquid_term() -> None:
    A, B = random_systems(2, 3)
    A[0, 1] = 2j
    assert torch.equal(liquid_bound(A, B) == 0, A.real == 0)
