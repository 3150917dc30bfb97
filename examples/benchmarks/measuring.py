"""What the benchmarks share: times measured in turns, and peak memory."""

from __future__ import annotations

import ctypes
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

import tsssm

# The parameter of mallopt by that name in glibc's malloc.h.
_MMAP_THRESHOLD = -3


def in_turns(
    runs: Mapping[str, Callable[[], object]], repeats: int, seconds: float = 60
) -> dict[str, list[float]]:
    """Seconds of each run, ``repeats`` times in turns so that all share the machine's mood.

    In its turn each runs twice and the second run counts, as in training, where a network follows itself: the
    first pays for what others have left behind, threads that spin and memory in small pieces. The first round
    is not counted. Rounds end early, but not before the third, when ``seconds`` have passed.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    began = time.perf_counter()
    for done in range(repeats):
        if done >= 3 and time.perf_counter() - began > seconds:
            break
        for name, run in runs.items():
            run()
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    return times


def ratio(times: Mapping[str, list[float]], name: str, to: str) -> float:
    """Median over the rounds of how many times as long ``name`` took as ``to``."""
    return statistics.median(a / b for a, b in zip(times[name], times[to], strict=True))


def peak_bytes(run: Callable[[], object]) -> int | None:
    """Largest growth of the resident memory during one run; None where Linux does not tell.

    Large blocks are taken from the system and given back at once meanwhile, or a run could live on what an
    earlier one has left.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, 2**14)
        libc.malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (AttributeError, OSError):
        return None
    before = _resident("VmRSS")
    run()
    libc.mallopt(_MMAP_THRESHOLD, 2**25)
    return max(0, _resident("VmHWM") - before)


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def machine() -> dict[str, Any]:
    """What a table says about where it was measured."""
    return {
        "threads": torch.get_num_threads(),
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "tsssm": tsssm.__version__,
    }
