"""What the pooled scan of the closed-form features costs on a CUDA device and on the CPU beside it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from gpu_measuring import milliseconds, peak_mebibytes
from torch import Tensor

from tsssm.hippo import transition
from tsssm.ops import pooled_scan

#: Series, samples of each, channels, systems and readouts of each: the 12,288 features of `SSMFeatures`.
POOLED_SHAPES = [(1000, 500, 3, 96, 32), (500, 1000, 1, 48, 64)]
#: Systems and distinct steps of the pooled scan.
POOLED_VARIANTS = {"regular": (False, 1), "irregular": (False, 64), "dense": (True, 1)}


def pooled_operands(shape: tuple[int, ...], dense: bool, steps: int) -> dict[str, Tensor]:
    """Arguments of `pooled_scan`: systems of the sizes and timescales that `SSMFeatures` draws."""
    series, length, channels, groups, readouts = shape
    random = torch.Generator().manual_seed(0)
    normal = partial(torch.randn, generator=random)
    total = series * length
    scale = torch.logspace(np.log10(4), np.log10(length), groups, dtype=torch.float64)[:, None]
    if dense:
        A, B = (torch.as_tensor(part).expand(groups, *part.shape) for part in transition("legt", 16))
        A, B = A / scale[..., None], B / scale
        C = normal(groups, readouts, 16, dtype=torch.float64)
    else:
        rate = torch.complex(
            -4.5 * torch.exp(0.5 * normal(groups, 8)), 25 * torch.rand(groups, 8, generator=random)
        )
        A = rate.to(torch.complex128) / scale
        B, C = torch.ones_like(A), normal(groups, readouts, 8, dtype=torch.complex128)
    return {
        "u": normal(channels, total),
        "held": normal(channels, total),
        "offsets": torch.arange(series + 1) * length,
        "steps": torch.arange(1, steps + 1, dtype=torch.float64) / steps,
        "index": torch.randint(steps, (total,), generator=random, dtype=torch.int32),
        "weight": torch.full((total,), 1.0 / length),
        "A": A,
        "B": B,
        "mix_u": normal(groups, channels),
        "mix_held": normal(groups, channels),
        "C": C,
        "D": normal(groups, readouts),
        "thresholds": normal(groups, 2, readouts),
    }


def on_cpu(operands: dict[str, Tensor], threads: int) -> float | None:
    """Milliseconds of one call of the compiled pass of the CPU; None where Numba is not installed."""
    few = {**operands, "offsets": operands["offsets"][:2]}
    end = int(few["offsets"][-1])
    few |= {name: operands[name][..., :end].contiguous() for name in ("u", "held", "index", "weight")}
    try:
        pooled_scan(**few)  # compiles
    except ImportError:
        return None
    started = time.perf_counter()
    pooled_scan(**operands, n_threads=threads)
    return 1e3 * (time.perf_counter() - started)


def pooled(device: torch.device, repeats: int, copy: float, shapes: list[Any]) -> Iterator[dict[str, Any]]:
    """`pooled_scan` at every shape: share of the copy bandwidth, and ratio to the CPU of the machine.

    What is moved is what has to be: the series read and the result written once. The work is arithmetic, some
    thousand operations a sample and system, so that the share says how far it is from being memory.
    """
    threads = os.cpu_count() or 1
    for shape in shapes:
        row: dict[str, Any] = {"shape": shape, "CPU threads": threads}
        for name, (dense, steps) in POOLED_VARIANTS.items():
            operands = pooled_operands(shape, dense, steps)
            there = {key: t.to(device) for key, t in operands.items()}
            run = partial(pooled_scan, **there)
            result = run()
            signals = [there[key] for key in ("u", "held", "index", "weight")]
            moved = sum(t.numel() * t.element_size() for t in [*signals, result])
            ms = milliseconds(run, device, repeats)
            row[name] = {
                "ms": round(ms, 4),
                "GB/s": round(moved / 1e6 / ms, 2),
                "share of copy": round(moved / 1e6 / ms / copy, 5),
                "readouts a second": round(shape[0] * shape[1] * shape[3] * shape[4] / ms * 1e3),
                "peak MiB": peak_mebibytes(run, device),
            }
            alone, together = on_cpu(operands, 1), on_cpu(operands, threads)
            if alone is not None and together is not None:
                row[name] |= {
                    "CPU ms": round(together, 2),
                    "CPU ms, one thread": round(alone, 2),
                    "CPU, ratio to device": round(together / ms, 2),
                    "CPU, one thread, ratio to device": round(alone / ms, 2),
                }
        yield row
