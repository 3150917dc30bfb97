"""A training step three ways on a device, and what an epoch of estimators takes on real series.

A small network is launch after launch: `torch.compile` and a CUDA graph of the whole step are what could make
it faster. The estimators use neither, until a device has shown where they gain.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_measuring import milliseconds, peak_mebibytes, synchronize
from torch import Tensor, nn

from tsssm.backbone import Backbone

#: Series, samples, channels between layers: a small network, and one whose launches no longer matter.
STEP_SHAPES = [(16, 150, 64), (32, 4096, 128)]
#: Backbone, and whether the grid is regular.
STEPS = [("s4d", True), ("liquid-s4", False)]
#: Files of a data set below TSSSM_DATA.
DATA = {"FSDD": "fsdd/recordings.tar.gz", "PhysioNet 2012": "physionet2012/set-a.tar.gz"}
# Steps before anything is measured; a graph wants some beside the default stream.
_WARM = 3

Step = Callable[[], Tensor]


def eager(net: nn.Module, step: Step, device: torch.device) -> Step:
    """The step as it is."""
    return step


def compiled(net: nn.Module, step: Step, device: torch.device) -> Step:
    """With the network compiled; on a CPU by what needs no compiler of C++."""
    net.compile(backend="inductor" if device.type == "cuda" else "aot_eager")
    return step


def graph(net: nn.Module, step: Step, device: torch.device) -> Step:
    """The whole step as one CUDA graph, from inputs that stay where they are."""
    if device.type != "cuda":
        raise RuntimeError("there are no CUDA graphs here")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        loss = step()

    def replay() -> Tensor:
        captured.replay()
        return loss

    return replay


WAYS: dict[str, Callable[[nn.Module, Step, torch.device], Step]] = {
    "eager": eager,
    "torch.compile": compiled,
    "CUDA graph": graph,
}


def training_steps(
    device: torch.device, repeats: int, shapes: list[Any], steps: list[tuple[str, bool]]
) -> Iterator[dict[str, Any]]:
    """Milliseconds of a step each way, and the loss after as many steps, which must be the same."""
    for shape in shapes:
        for backbone, regular in steps:
            row: dict[str, Any] = {"shape": shape, "backbone": backbone, "regular": regular}
            for name, way in WAYS.items():
                try:
                    row[name] = one_way(device, repeats, shape, backbone, regular, way)
                except Exception as error:  # the other ways shall be seen
                    row[name] = {"error": repr(error).splitlines()[0][:300]}
                torch.compiler.reset()
            yield row


def one_way(
    device: torch.device,
    repeats: int,
    shape: tuple[int, int, int],
    backbone: str,
    regular: bool,
    way: Callable[[nn.Module, Step, torch.device], Step],
) -> dict[str, Any]:
    """Seconds until the first step is done, milliseconds of one, peak memory and the loss after ten."""
    batch, length, channels = shape
    torch.manual_seed(0)
    options = {"n_layers": 1 if length < 100 else 4, "d_model": channels, "d_state": 16, "norm": "layer"}
    net = Backbone(3, 2, backbone=backbone, dropout=0.0, **options)
    u, dt = torch.randn(batch, length, 3), torch.rand(batch, length) + 0.1
    net, u, dt = net.to(device), u.to(device), dt.to(device)
    target = (torch.arange(batch) % 2).to(device)
    on_device = device.type == "cuda"
    optimiser = torch.optim.AdamW(net.parameters(), 1e-3, fused=on_device, capturable=on_device)

    def step() -> Tensor:
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(net(u, None if regular else dt), target)
        loss.backward()
        optimiser.step()
        return loss

    started = time.perf_counter()
    run = way(net, step, device)
    # A graph has taken these steps before it was captured.
    for _ in range(0 if way is graph else _WARM):
        run()
    for _ in range(10 - _WARM):
        loss = run()
    last = float(loss.detach())
    synchronize(device)
    first = round(time.perf_counter() - started, 2)
    found = {"ms": round(milliseconds(run, device, repeats), 4), "seconds of the first ten steps": first}
    return found | {"peak MiB": peak_mebibytes(run, device), "loss after ten steps": round(last, 5)}


def found_data() -> list[str]:
    """The data sets that TSSSM_DATA has."""
    folder = os.environ.get("TSSSM_DATA")
    return [name for name, file in DATA.items() if folder and (Path(folder) / file).exists()]


def epochs(device: torch.device, name: str, count: int, limit: int | None) -> dict[str, Any]:
    """Seconds of each epoch of one network of `SSMClassifier` on a data set, where sktime is installed."""
    try:
        import lightning.pytorch as pl

        from tsssm import SSMClassifier
        from tsssm.datasets import fetch_fsdd, fetch_physionet2012
    except ImportError as error:
        return {"left out": str(error)}

    class Clock(pl.Callback):
        """Notes when epochs end."""

        def __deepcopy__(self, memo: dict[int, Any]) -> Clock:
            return self  # fit copies callbacks

        def on_train_epoch_start(self, *args: Any) -> None:
            synchronize(device)
            self.started = time.perf_counter()

        def on_train_epoch_end(self, *args: Any) -> None:
            synchronize(device)
            seconds.append(round(time.perf_counter() - self.started, 3))

    seconds: list[float] = []
    if name == "FSDD":
        X, y = fetch_fsdd(part="train", return_X_y=True)
    else:
        X, y = fetch_physionet2012(return_X_y=True)
    rows = np.linspace(0, len(y) - 1, min(len(y), limit or len(y))).astype(int)
    X, y = X[rows], y[rows]
    wide = {"n_layers": 4, "d_model": 64, "d_state": 16, "bidirectional": False}
    model = SSMClassifier(
        **wide if name == "FSDD" else {},
        n_members=1,
        n_features=0,
        batch_size=32,
        max_epochs=count,
        accelerator="gpu" if device.type == "cuda" else "cpu",
        callbacks=[Clock()],
        random_state=0,
    )
    started = time.perf_counter()
    model.fit(X, y)
    whole = round(time.perf_counter() - started, 2)
    return {"series": len(y), "batch": 32, "seconds of each epoch": seconds, "seconds of the fit": whole}
