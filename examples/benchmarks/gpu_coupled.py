"""What S4 and LSSL cost on irregular grids on a device, also in PyTorch alone, and a long training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest import mock

import torch
from gpu_measuring import milliseconds, peak_mebibytes
from torch import Tensor

from tsssm.backbone import Backbone
from tsssm.hippo import low_recurrence, nplr
from tsssm.ops import diagonal_scan, dplr_scan, operands, tridiagonal_scan

#: batch, L, channels, real state dimensions.
COUPLED_SHAPES = [(32, 4096, 128, 16), (32, 1024, 64, 64)]
#: Samples, channels and layers of the long training step.
LONG_STEP = (65_536, 64, 4)

Call = tuple[Callable[..., Any], dict[str, Tensor]]


def coupled_calls(shape: tuple[int, int, int, int], device: torch.device) -> dict[str, Call]:
    """The scans of S4 and of a trained LSSL, both of HiPPO-LegS, and a diagonal one beside them."""
    batch, length, channels, d_state = shape
    random = torch.Generator().manual_seed(0)
    u = torch.randn(batch, length, channels, generator=random)
    step = 10 ** (-3 + 2 * torch.rand(channels, generator=random))
    form, modes = nplr("legs", d_state), d_state // 2
    Lambda, P, B = (torch.as_tensor(t, dtype=torch.complex64) for t in (form.Lambda, form.P, form.B))
    C = torch.randn(1, channels, modes, generator=random, dtype=torch.complex64)
    rows = Lambda[:modes].repeat(channels, 1)
    low_rank = P[:, None, :modes].repeat(1, channels, 1)
    given = {
        "Lambda": rows,
        "P": low_rank,
        "Q": 2 * low_rank,
        "B": B[:modes].repeat(channels, 1),
        "C": C,
    }
    trained = low_recurrence("legs", d_state)
    T, D, P, Q, b = (
        torch.as_tensor(t, dtype=torch.float32)
        for t in (trained.T, trained.D, trained.P, trained.Q, trained.B)
    )
    tridiagonal = {
        "T": T[:, None].repeat(1, channels, 1),
        "shift": D.repeat(channels, 1),
        "scale": (P * Q).repeat(channels, 1),
        "B": (Q * b).repeat(channels, 1),
        "C": torch.randn(1, channels, len(b), generator=random),
    }
    diagonal = {"A": rows, "B": given["B"], "C": C}
    scans: dict[str, Call] = {
        "diagonal": (diagonal_scan, diagonal),
        "dplr": (dplr_scan, given),
        "tridiagonal": (tridiagonal_scan, tridiagonal),
    }
    return {
        name: (
            scan,
            {key: t.to(device).requires_grad_() for key, t in ({"u": u, "step": step} | system).items()},
        )
        for name, (scan, system) in scans.items()
    }


def measured(run: Callable[[], Tensor], leaves: list[Tensor], device: torch.device, repeats: int) -> Any:
    """Milliseconds of a call, of the call with its gradient, and the peak memory of the latter."""

    def both() -> Any:
        y = run()
        return torch.autograd.grad(y, leaves, torch.ones_like(y))

    with torch.no_grad():
        forward = milliseconds(run, device, repeats)
    return {
        "forward ms": round(forward, 4),
        "forward and backward ms": round(milliseconds(both, device, repeats), 4),
        "peak MiB": peak_mebibytes(both, device),
    }


def coupled(device: torch.device, repeats: int, copy: float, shapes: list[Any]) -> Iterator[dict[str, Any]]:
    """Each scan on an irregular grid by its kernels and by PyTorch alone."""
    for shape in shapes:
        gaps = 2 * torch.rand(shape[0], shape[1], device=device)
        row: dict[str, Any] = {"shape": shape}
        for name, (scan, given) in coupled_calls(shape, device).items():

            def run(scan: Any = scan, given: Any = given, dt: Tensor = gaps) -> Tensor:
                return scan(**given, dt=dt)[0]

            leaves = list(given.values())
            moved = 2 * given["u"].numel() * given["u"].element_size()
            row[name] = measured(run, leaves, device, repeats)
            row[name]["forward share of copy"] = round(moved / 1e6 / row[name]["forward ms"] / copy, 4)
            with mock.patch.object(operands, "runs_compiled", lambda *_: False):
                try:
                    row[name]["PyTorch alone"] = measured(run, leaves, device, 1)
                except RuntimeError as error:  # out of memory, above all
                    row[name]["PyTorch alone"] = {"error": str(error).splitlines()[0]}
        yield row


def selective_scan(device: torch.device, repeats: int, shape: tuple[int, int, int, int]) -> dict[str, Any]:
    """The scan of mamba-ssm at a shape, whose step, B and C depend on the input, where it is installed."""
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except ImportError as error:
        return {"left out": str(error)}
    batch, length, channels, d_state = shape
    u, delta = (torch.randn(batch, channels, length, device=device, requires_grad=True) for _ in range(2))
    A = -torch.rand(channels, d_state, device=device).requires_grad_()
    B, C = (torch.randn(batch, d_state, length, device=device, requires_grad=True) for _ in range(2))
    run = partial(selective_scan_fn, u, delta, A, B, C, delta_softplus=True)
    return {"shape": shape} | measured(run, [u, delta, B, C], device, repeats)


def long_step(device: torch.device, repeats: int, sizes: tuple[int, int, int]) -> Iterator[dict[str, Any]]:
    """A step of training, optimiser included, on one irregular series, for each kind of system."""
    samples, channels, n_layers = sizes
    for name in ("s4d", "liquid-s4", "s4", "lssl"):
        torch.manual_seed(0)
        options = {"n_layers": n_layers, "d_model": channels, "d_state": 16, "norm": "layer"}
        net = Backbone(3, 2, backbone=name, **options).to(device)
        optimiser = torch.optim.AdamW(net.parameters(), fused=device.type == "cuda")
        u, dt = torch.randn(1, samples, 3, device=device), torch.rand(1, samples, device=device) + 0.1

        def step(net: Any = net, optimiser: Any = optimiser, u: Any = u, dt: Any = dt) -> None:
            optimiser.zero_grad()
            net(u, dt).square().mean().backward()
            optimiser.step()

        row = {"backbone": name, "samples": samples, "channels": channels, "layers": n_layers}
        row["ms"] = round(milliseconds(step, device, repeats), 3)
        yield row | {"peak MiB": peak_mebibytes(step, device)}
