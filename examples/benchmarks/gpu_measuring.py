"""Time and memory of calls on a device, which do not wait for it by themselves."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def milliseconds(run: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Median time of a call, after two that are not counted; a fast call is repeated within a measurement."""
    for _ in range(2):
        run()
    synchronize(device)
    started = time.perf_counter()
    run()
    synchronize(device)
    inner = max(1, min(20, int(5e-3 / max(1e-6, time.perf_counter() - started))))
    times = []
    for _ in range(repeats):
        synchronize(device)
        started = time.perf_counter()
        for _ in range(inner):
            run()
        synchronize(device)
        times.append(1e3 * (time.perf_counter() - started) / inner)
    return statistics.median(times)


def peak_mebibytes(run: Callable[[], Any], device: torch.device) -> float | None:
    """Growth of the memory that tensors take during a call; None on a CPU."""
    if device.type != "cuda":
        return None
    synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    synchronize(device)
    return round((torch.cuda.max_memory_allocated(device) - before) / 2**20, 1)
