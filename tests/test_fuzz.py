"""Some dozens of the panels of ``fuzz.py``, which by itself tries thousands."""

from __future__ import annotations

import fuzz

PANELS = 36


def test_hostile_panels_are_answered_or_refused() -> None:
    # Other networks are for the thousands: their kernels take long to compile.
    models = fuzz.Models(("s4d",))
    counts, found = fuzz.run(PANELS, seed=0, models=models)
    assert not found, "\n".join(found)
    assert sum(counts.values()) == PANELS
    assert counts["valid, answered"] > PANELS / 3 and counts["container, refused"] > 0
