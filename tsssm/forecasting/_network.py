r"""A network whose state runs on after the history, and is read out at any time ahead.

Symbols and shapes, k times tau ahead of the last sample, in grid steps::

    x    (batch, E, P)   the head of the backbone at the last sample: P modes of E systems
    A    (P,)            their rates: a constant, decays, oscillators at the season and over the horizon
    G    (batch, k, E)   what runs on without input, Re sum_p x_p exp(A_p tau)
    f    (batch, k, d)   what is known of the times ahead
    z    (batch, k, q)   answers

The state of a linear system without input is exact at any time, so that no step is taken and an answer does
not depend on which other times are asked.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsssm.backbone import Backbone

_DECAYS, _WAVES, _HARMONICS = 5, 6, 4
_SYSTEMS = 8


def rates(horizon: int, season: int) -> tuple[tuple[float, float], ...]:
    """Decay and angular frequency, in 1 / grid step, of each mode: those that a horizon has room for."""
    decays = [(1 / tau, 0.0) for tau in _spread(1.0, 2.0 * max(horizon, 2), _DECAYS)]
    waves = [(0.0, math.pi * number / max(horizon, 2)) for number in range(1, _WAVES + 1)]
    turns = range(1, min(_HARMONICS, season // 2) + 1) if season > 1 else range(0)
    return ((0.0, 0.0), *decays, *waves, *((0.0, 2 * math.pi * turn / season) for turn in turns))


def _spread(low: float, high: float, count: int) -> list[float]:
    return [low * (high / low) ** (number / (count - 1)) for number in range(count)]


class ForecastNetwork(Backbone):
    """A backbone over the history, and a decoder that reads its state at times ahead.

    Parameters
    ----------
    d_in : int
        Inputs of a sample of the history.
    d_ahead : int
        Inputs of a time ahead.
    n_answers : int
        Outputs for a time ahead.
    horizon, season : int
        In grid steps; they say which rates the decoder has.
    d_hidden : int
        Units between what is read and the answers.
    **config
        The other parameters of `Backbone`.

    Notes
    -----
    The weights of the answers begin with zero: an untrained network answers with its bias.
    """

    decay: Tensor
    turn: Tensor

    def __init__(
        self,
        d_in: int,
        d_ahead: int,
        n_answers: int,
        *,
        horizon: int,
        season: int,
        d_hidden: int = 64,
        **config: Any,
    ) -> None:
        modes = rates(horizon, season)
        columns = sum(2 if turn else 1 for _, turn in modes)
        super().__init__(d_in, _SYSTEMS * columns, **config)
        self.config = {
            name: value for name, value in self.config.items() if name not in ("n_outputs", "pooling")
        }
        self.config |= {
            "d_ahead": d_ahead,
            "n_answers": n_answers,
            "horizon": horizon,
            "season": season,
            "d_hidden": d_hidden,
        }
        decay, turn = torch.tensor(modes, dtype=torch.float64).T
        self.register_buffer("decay", decay.float(), persistent=False)
        self.register_buffer("turn", turn.float(), persistent=False)
        self.hidden = nn.Linear(_SYSTEMS + d_ahead, d_hidden)
        self.answer = nn.Linear(d_hidden, n_answers)
        self.skip = nn.Linear(_SYSTEMS, n_answers, bias=False)
        nn.init.zeros_(self.answer.weight)
        nn.init.zeros_(self.answer.bias)
        nn.init.zeros_(self.skip.weight)

    def basis(self, tau: Tensor) -> Tensor:
        """exp(A tau) (..., P) as real numbers: cosines and sines of the oscillators, decays of the others."""
        free = torch.exp(-tau[..., None] * self.decay)
        angle = tau[..., None] * self.turn
        turning = self.turn > 0
        return torch.cat([free * torch.cos(angle), (free * torch.sin(angle))[..., turning]], dim=-1)

    def forward(self, u: Tensor, dt: Tensor | None = None, at: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Map histories u (batch, L, d_in) to answers (batch, k, n_answers) at ``at``.

        ``at`` has the times tau (batch, k) after the last sample, and what is known of them (batch, k,
        d_ahead).
        """
        assert at is not None
        tau, ahead = at
        h = self.features(u, dt)
        last = h[:, -1] if dt is None else h[torch.arange(len(h), device=h.device), (dt > 0).sum(dim=1) - 1]
        x = self.head(last).unflatten(1, (_SYSTEMS, -1))
        G = torch.einsum("bep,bkp->bke", x, self.basis(tau))
        z = self.answer(F.gelu(self.hidden(torch.cat([G, ahead], dim=-1))))
        return z + self.skip(G)
