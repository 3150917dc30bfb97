"""How a call is cut into programs and chunks of time, and its operands as the kernels take them."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from tsssm.ops.gpu.chunks import join_chunks
from tsssm.ops.gpu.lanes import LANES, WARPS, by_mode, chunk_length
from tsssm.ops.gpu.rules import FOH, GBT, ZOH

RULES = {"gbt": GBT.value, "zoh": ZOH.value, "foh": FOH.value}
# Chunks of which all loads are issued before the first is needed.
_JOIN_GROUP = 8


class Grid:
    """How a call is cut: sizes and options that the kernels take, and their launch grids.

    ``slots`` is the number of those of a state that passes from chunk to chunk.
    """

    def __init__(
        self, u: Tensor, C: Tensor, dt: Tensor | None, rule: str, alpha: float, slots: int = 1
    ) -> None:
        batch, length, channels = u.shape
        self.directions, readouts, _, modes = C.shape
        self.batch, self.slots = batch, slots
        self.chunk = chunk_length(batch, length, channels, modes * slots)
        self.chunks = -(-length // self.chunk)
        self.sizes = (batch, length, channels, modes, readouts, self.chunk, self.chunks, alpha)
        self.options = {
            "RULE": RULES[rule],
            "REGULAR": dt is None,
            "UNEVEN": length % self.chunk != 0,
            "READOUTS": triton.next_power_of_2(readouts),
            "LANES": LANES,
            "num_warps": WARPS,
        }
        self.lanes = (triton.cdiv(batch * self.chunks * channels, LANES),)
        # The series first: only that axis of a launch may be longer than 65,535.
        self.series = (batch, triton.cdiv(modes * channels, LANES))
        #: Of an array (slot, row, part, mode, channel), with one row for each chunk of each series.
        self.state_shape = (slots, batch, self.chunks, 2, modes, channels)

    def modes(self, at_most: int) -> dict[str, int]:
        """Modes that a thread holds at a time, and how many times that is."""
        modes = self.sizes[3]
        held = min(triton.next_power_of_2(modes), max(1, at_most // self.options["READOUTS"]))
        return {"MODES": held, "BLOCKS": triton.cdiv(modes, held)}

    def join(self, initial: Tensor | None, end: Tensor, product: Tensor, adjoint: bool) -> Tensor:
        """The states that the chunks start from, written over ``end``."""
        batch, _, channels, modes, *_ = self.sizes
        join_chunks[self.series](
            end if initial is None else initial,
            end,
            product,
            end,
            batch,
            self.chunks,
            modes,
            channels,
            ADJOINT=adjoint,
            INITIAL=initial is not None,
            SLOTS=self.slots,
            LANES=LANES,
            GROUP=max(1, _JOIN_GROUP // self.slots),
            num_warps=WARPS,
        )
        return end


def system_by_mode(A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """A and B (2, part, mode, channel), and C (direction, readout, part, mode, channel)."""
    directions, readouts = C.shape[:2]
    together = by_mode(torch.cat([A[None], B[None], C.flatten(0, 1)]))
    return together[:2], together[2:].unflatten(0, (directions, readouts))
