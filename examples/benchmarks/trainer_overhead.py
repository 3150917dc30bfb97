"""What the training machinery costs over a bare torch loop that does the same steps.

One hundred epochs of four batches of sixteen series of 150 samples, with the estimators' default network:
once through ``tsssm.training.train`` (Lightning's Trainer), once through a loop of a dozen lines with the
same batches, optimiser, clipping and schedule. The two take turns, so that a busy machine slows both.
Prints JSON::

    python examples/benchmarks/trainer_overhead.py [--epochs 100] [--repeats 3] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from pathlib import Path

import torch
from torch.nn import functional as F

from tsssm.backbone import Backbone
from tsssm.encoding import PanelEncoder
from tsssm.panel import Panel
from tsssm.training import Batches, TrainingOptions, train

SERIES, BATCH, LENGTH, CLASSES = 64, 16, 150, 2
ALLOWED = 0.25


def problem() -> Batches:
    """Four batches an epoch of random series and labels."""
    generator = torch.Generator().manual_seed(0)
    panel = Panel.from_numpy(torch.randn(SERIES, 1, LENGTH, generator=generator).numpy())
    target = torch.randint(CLASSES, (SERIES,), generator=generator)
    return Batches(PanelEncoder().fit(panel).encode(panel), target, batch_size=BATCH, generator=generator)


def network() -> Backbone:
    """The default network of the estimators, with its usual range of timescales."""
    torch.manual_seed(0)
    return Backbone(1, CLASSES, dt_min=0.5 / LENGTH, dt_max=50 / LENGTH)


def loss(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each series."""
    return F.cross_entropy(outputs, target, reduction="none")


def bare_loop(net: Backbone, batches: Batches, options: TrainingOptions) -> None:
    """The same steps with nothing around them."""
    assert options.max_epochs is not None
    steps = options.max_epochs * len(batches)
    groups = net.parameter_groups(options.learning_rate, options.ssm_learning_rate, options.weight_decay)
    optimizer = torch.optim.AdamW(groups, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps))
    )
    net.train()
    for _ in range(options.max_epochs):
        for u, dt, target, _ in batches:
            optimizer.zero_grad()
            loss(net(u, dt), target).mean().backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()


def seconds(run: str, epochs: int) -> float:
    """Wall time of one run, construction of the network left out."""
    net, batches, options = network(), problem(), TrainingOptions(max_epochs=epochs, accelerator="cpu")
    start = time.perf_counter()
    if run == "trainer":
        train(net, loss, batches, options)
    else:
        bare_loop(net, batches, options)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the result here")
    arguments = parser.parse_args()

    for run in ("bare", "trainer"):  # compiles the kernels, imports Lightning
        seconds(run, 1)
    times = {"bare": [], "trainer": []}
    for _ in range(arguments.repeats):
        for run, measured in times.items():
            measured.append(seconds(run, arguments.epochs))
    bare, trainer = (statistics.median(times[run]) for run in ("bare", "trainer"))
    result = {
        "epochs": arguments.epochs,
        "batches": SERIES // BATCH,
        "series_a_batch": BATCH,
        "samples_a_series": LENGTH,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "bare_seconds": round(bare, 3),
        "trainer_seconds": round(trainer, 3),
        "overhead": round(trainer / bare - 1, 3),
        "allowed": ALLOWED,
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(text + "\n")
    if result["overhead"] > ALLOWED:
        raise SystemExit(f"The Trainer costs {result['overhead']:.0%} more than a bare loop.")


if __name__ == "__main__":
    main()
