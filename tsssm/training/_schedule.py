"""What learning rates are multiplied by in each step of a run."""

from __future__ import annotations

import math
from collections.abc import Callable

_WARMUP_SHARE = 0.1


def warmed_cosine(total_steps: int) -> Callable[[int], float]:
    """From a step to a factor: it rises to 1 in the first tenth of the steps, then falls along a cosine."""
    warmup = max(1, round(_WARMUP_SHARE * total_steps))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total_steps - warmup)))

    return factor
