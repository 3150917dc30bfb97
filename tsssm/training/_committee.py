"""Several networks trained as one: each leaves out a fold of the series, and their outputs are averaged.

Symbols and shapes: u (batch, L, d_in) inputs, dt (batch, L) elapsed time since the previous sample, fold
(batch,) the number of the member that leaves a series out, -1 where none does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from tsssm.backbone import Backbone
from tsssm.encoding import moved
from tsssm.training._augment import Augmentation
from tsssm.training._batches import LabelledBatch
from tsssm.training._dropped import VariableDropout


class Committee(nn.Module):
    """The mean of the outputs of several networks.

    The out-of-fold predictions of the members show how good they are, at no cost beyond their training
    (Wolpert, *Stacked generalization*, Neural Networks 5 (1992)).

    Parameters
    ----------
    members : sequence of Backbone
        At least two, of one shape.
    """

    def __init__(self, members: Sequence[Backbone]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, u: Tensor, dt: Tensor | None = None) -> Tensor:
        """Map u (batch, L, d_in) to the mean of the outputs of the members, (batch, n_outputs)."""
        return torch.stack([member(u, dt) for member in self.members]).mean(dim=0)

    def set_dropout_generator(self, generator: torch.Generator | None) -> None:
        """As `Backbone.set_dropout_generator`, the same generator for all members."""
        for member in members_of(self):
            member.set_dropout_generator(generator)

    def parameter_groups(
        self, learning_rate: float, ssm_learning_rate: float, weight_decay: float
    ) -> list[dict[str, Any]]:
        """As `Backbone.parameter_groups`, of all members."""
        rates = (learning_rate, ssm_learning_rate, weight_decay)
        groups = [member.parameter_groups(*rates) for member in members_of(self)]
        return [
            {**alike[0], "params": [parameter for group in alike for parameter in group["params"]]}
            for alike in zip(*groups, strict=True)
        ]


def members_of(net: Backbone | Committee) -> list[Backbone]:
    """The networks of a committee, or the one network."""
    return [cast(Backbone, member) for member in net.members] if isinstance(net, Committee) else [net]


def shares_of(
    net: Backbone | Committee,
    batch: LabelledBatch,
    changed: Augmentation | VariableDropout | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[tuple[Backbone, LabelledBatch]]:
    """Yield each member with the series of a batch that it learns from, if there are any.

    Those of each are ``changed`` in another way, as the generator draws.
    """
    for number, member in enumerate(members_of(net)):
        share = batch
        if batch.fold is not None:
            rows = torch.nonzero(batch.fold != number)[:, 0]
            if len(rows) == 0:
                continue
            rows = moved(rows, batch.target.device)
            dt, weight = (None if part is None else part[rows] for part in (batch.dt, batch.weight))
            share = LabelledBatch(batch.u[rows], dt, batch.target[rows], weight)
        yield member, share if changed is None else changed(share, generator)


def zero_of(net: Backbone | Committee) -> Tensor:
    """A loss that is zero, and so is its gradient, for every parameter."""
    return sum((parameter.sum() * 0.0 for parameter in net.parameters()), torch.zeros(()))


def clip_members(net: Backbone | Committee, largest: float) -> None:
    """Clip the norm of the gradient of each member to its share of ``largest``."""
    members = members_of(net)
    for member in members:
        torch.nn.utils.clip_grad_norm_(member.parameters(), largest / len(members))
