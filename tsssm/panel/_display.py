"""What a panel says of itself: one line of text, and a table for notebooks."""

from __future__ import annotations

from html import escape

import numpy as np

from tsssm.panel._checks import Parts

_MOST_CHANNELS = 12  # in a notebook; the others are counted


def text(parts: Parts) -> str:
    """One line: series, channels, lengths, missing share, range of the times with their unit."""
    facts = _facts(parts)
    plural = "" if facts["channels"] == "1" else "s"
    words = {
        "series": "{} series",
        "channels": f"{{}} channel{plural}",
        "length": "length {}",
        "missing": "{} missing",
        "times": "{} times" if parts.times is None else "times {}",
    }
    return f"Panel({', '.join(words[label].format(fact) for label, fact in facts.items())})"


def html(parts: Parts) -> str:
    """A table of the same facts, and of the channels with their missing shares; every label is escaped."""
    rows = [f"<tr><th>{label}</th><td>{escape(fact)}</td></tr>" for label, fact in _facts(parts).items()]
    if parts.ids is not None and len(parts.ids):
        first, last = str(parts.ids[0]), str(parts.ids[-1])
        rows.append(f"<tr><th>ids</th><td>{escape(first)} to {escape(last)}, in this order</td></tr>")
    n_channels = parts.values.shape[1]
    names = parts.channel_names or tuple(str(j) for j in range(n_channels))
    listed = [
        f"<tr><td>{escape(name)}</td><td>{_percent(missing)}</td></tr>"
        for name, missing in zip(names[:_MOST_CHANNELS], _missing_by_channel(parts), strict=False)
    ]
    if n_channels > _MOST_CHANNELS:
        listed.append(f"<tr><td colspan='2'>and {n_channels - _MOST_CHANNELS} more</td></tr>")
    return (
        f"<div><strong>Panel</strong><table>{''.join(rows)}</table>"
        f"<details><summary>channels</summary><table><tr><th>channel</th><th>missing</th></tr>"
        f"{''.join(listed)}</table></details></div>"
    )


def _facts(parts: Parts) -> dict[str, str]:
    n = len(parts.offsets) - 1
    facts = {"series": str(n), "channels": str(parts.values.shape[1])}
    if n:
        lengths = np.diff(parts.offsets)
        facts["length"] = f"{lengths.min()}-{np.median(lengths):g}-{lengths.max()} (min-median-max)"
        facts["missing"] = _percent(np.count_nonzero(np.isnan(parts.values)) / parts.values.size)
    if parts.times is None:
        facts["times"] = "no"
    elif n:
        unit = "" if parts.time_unit is None else f" {parts.time_unit}"
        facts["times"] = f"{parts.times.min():g} to {parts.times.max():g}{unit}"
    return facts


def _missing_by_channel(parts: Parts) -> list[float]:
    shown = parts.values[:, :_MOST_CHANNELS]
    return (np.isnan(shown).sum(axis=0) / max(len(shown), 1)).tolist()


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
