"""Variables that are dropped from the inputs of a network in training."""

from __future__ import annotations

from typing import NamedTuple

import torch

from tsssm.training._batches import LabelledBatch


class VariableDropout(NamedTuple):
    """Leaves each variable out of a series, at all of its samples, with some probability.

    A network that relies on one variable fails where that was not measured; one trained without each of
    them now and then does not (Srivastava et al., *Dropout*, JMLR 15 (2014)).

    Attributes
    ----------
    first, n_variables : int
        The inputs from the first on are kinds of what is known of the variables, one kind after the other.
    share : float
        Of the variables, below 1; what is left is as much larger as is missing.
    """

    first: int
    n_variables: int
    share: float

    def __call__(self, batch: LabelledBatch, generator: torch.Generator | None) -> LabelledBatch:
        """Return the batch without some variables."""
        u = batch.u
        others, own = u[..., : self.first], u[..., self.first :]
        kept = torch.rand(len(u), 1, 1, self.n_variables, device=u.device, generator=generator) >= self.share
        own = own.unflatten(-1, (-1, self.n_variables)) * (kept / (1 - self.share))
        return batch._replace(u=torch.cat([others, own.flatten(-2)], dim=-1))
