"""Devices by the names that users give them."""

from __future__ import annotations

import torch


def resolve_device(accelerator: str) -> torch.device:
    """Return the device that ``accelerator`` means on this machine.

    "auto" is CUDA where there is one, else the CPU; "gpu" and "cuda" are CUDA.

    Raises
    ------
    ValueError
        If a CUDA device is asked for where there is none.
    """
    available = torch.cuda.is_available()
    if accelerator == "cpu" or (accelerator == "auto" and not available):
        return torch.device("cpu")
    if not available:
        raise ValueError(
            f"accelerator={accelerator!r} needs a CUDA device, and PyTorch finds none; 'auto' uses the CPU "
            "in that case."
        )
    return torch.device("cuda")


def prediction_device(accelerator: str) -> torch.device:
    """Return the device to predict on: what ``accelerator`` means, or the CPU where there is no such device.

    A model that was fitted on a GPU thereby serves on machines without one.
    """
    return resolve_device(accelerator if torch.cuda.is_available() else "cpu")
