"""The features of a network in both directions, piece by piece, equal to those of the whole.

What a piece needs from outside are the states of each layer at its ends: forwards, after the piece before;
backwards, before the piece after. The backward ones come from a pass of their own, from the last piece to the
first, and each layer needs the whole output of the layer below: two passes per layer. The features between
layers are kept as long as they are few. Otherwise they are computed again from the states at the cuts: the
layers below run once more for every pass, and no more than a piece is ever held.

Symbols and shapes: u (batch, L, d_in) inputs, dt (batch, L) gaps or None, h (batch, piece, d_model) features.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from torch import Tensor

from tsssm.backbone import Backbone, Block
from tsssm.ops import reversed_gaps

#: Features, samples times channels, that are kept between layers: 256 MiB.
MOST_KEPT = 2**26


class BothWays:
    """A bidirectional network in evaluation mode, on long series.

    Parameters
    ----------
    net : Backbone
    piece : int
        Samples of a piece.
    most_kept : int
        Features of a whole batch are kept between layers if there are no more of them.
    """

    def __init__(self, net: Backbone, piece: int, most_kept: int = MOST_KEPT) -> None:
        self._net, self._piece, self._most_kept = net, piece, most_kept
        self._blocks = [cast(Block, block) for block in net.blocks]
        self._ways = [block.layer.directions() for block in self._blocks]

    def features(self, u: Tensor, dt: Tensor | None) -> Iterator[tuple[int, Tensor]]:
        """Yield the first sample of each piece, and the features of the piece, as `Backbone.features`."""
        batch, length, _ = u.shape
        device = self._net.head.weight.device
        cuts = range(0, length, self._piece)
        back = None if dt is None else reversed_gaps(dt)
        # States of each layer before and after each piece. All are made first: small tensors among large ones
        # that come and go would keep the allocator from using the memory of these again.
        before, after = ([[way[k].initial_state(batch) for _ in cuts] for way in self._ways] for k in (0, 1))
        keeps = batch * length * self._net.config["d_model"] <= self._most_kept
        kept: list[Tensor] = []

        def part(whole: Tensor | None, i: int) -> Tensor | None:
            return None if whole is None else whole[:, cuts[i] : cuts[i] + self._piece].to(device)

        def entering(layer: int, i: int) -> Tensor:
            """Features of a piece before a block."""
            if keeps and layer:
                return kept[i]
            h = self._net.encoder(part(u, i))
            for below in range(layer):
                h = through(below, i, h)
            return cast(Tensor, h)

        def forwards(layer: int, i: int, h: Tensor) -> Tensor:
            """The forward part of a block's layer; keeps the state after the piece."""
            x = self._blocks[layer].norm(h)
            y, state = self._ways[layer][0](x, part(dt, i), before[layer][i])
            if i + 1 < len(cuts):
                _put(state, before[layer][i + 1])
            return y

        def backwards(layer: int, i: int, h: Tensor) -> Tensor:
            """The backward part in the order of time; keeps the state before the piece."""
            x, own = self._blocks[layer].norm(h), part(back, i)
            own = None if own is None else own.flip(1)
            y, state = self._ways[layer][1](x.flip(1), own, after[layer][i])
            if i:
                _put(state, after[layer][i - 1])
            return y.flip(1)

        def through(layer: int, i: int, h: Tensor) -> Tensor:
            """Features of a piece after a block; the states around it are known."""
            block = self._blocks[layer]
            return block.mixed(h, block.layer.joined(forwards(layer, i, h), backwards(layer, i, h)))

        last = len(self._blocks) - 1
        for layer in range(last + 1):
            for i in reversed(range(1, len(cuts))):
                backwards(layer, i, entering(layer, i))
            for i, cut in enumerate(cuts):
                h = entering(layer, i)
                if layer == last:
                    yield cut, self._net.norm(through(layer, i, h))
                elif not keeps:
                    forwards(layer, i, h)
                elif layer:
                    kept[i] = through(layer, i, h)
                else:
                    kept.append(through(layer, i, h))


def _put(state: Any, place: Any) -> None:
    """Copy a state to where it is kept; itself it may be a view, which would keep all of a piece."""
    if isinstance(state, Tensor):
        place.copy_(state)
        return
    for part, own in zip(state, place, strict=True):
        own.copy_(part)
