"""What model files say of categorical channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from tsssm.encoding import Categories, PanelEncoder
from tsssm.persistence import Fields


def encoder_to_state(encoder: PanelEncoder) -> dict[str, Any]:
    """What a file holds of an encoder: of categorical channels, only where there are any."""
    state = dict(vars(encoder))
    for name in ("categorical", "categories", "numeric"):
        del state[name]
    known = encoder.categories
    if known.size:
        state |= {"categorical": list(known.channels), "categories": list(known.values)}
    return state


def categories_from(fields: Fields, channels: int) -> Categories:
    """Read what is known of the categorical channels of an encoder with so many channels."""
    if not fields.has("categories"):
        return Categories((), ())
    numbers, values = fields.take("categorical"), fields.take("categories")
    if type(numbers) is not list or type(values) is not list or not 0 < len(numbers) == len(values):
        raise fields.refuse("categorical", "as many channels as there are lists of values", numbers)
    if any(type(number) is not int for number in numbers) or not set(numbers) <= set(range(channels)):
        raise fields.refuse("categorical", f"numbers of the {channels} channels", numbers)
    if sorted(set(numbers)) != numbers:
        raise fields.refuse("categorical", "increasing", numbers)
    for known in values:
        good = (
            isinstance(known, np.ndarray) and known.dtype == np.float64 and known.ndim == 1 and len(known) > 0
        )
        if not good or not np.isfinite(known).all() or not (np.diff(known) > 0).all():
            raise fields.refuse("categories", "arrays of increasing numbers", known)
    return Categories(numbers, values)
