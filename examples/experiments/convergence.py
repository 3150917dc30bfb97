"""How fast layers learn, and which parts of them matter: accuracy after so many steps, at equal steps.

Two tables on sequential MNIST (784 samples a series), judged on images of the training part that no model is
trained on:

- *layers*: LSSL with A, B and timescales trained and fixed (the convergence figure of arXiv 2110.13985),
  S4D, and a GRU of as many channels in plain PyTorch.
- *liquid*: Liquid-S4 by the order p of its correlations and by its kernel, exact, K-B and P-B, beside S4D,
  which is order 1 (the ablation of arXiv 2209.12951).

Run as

    TSSSM_DATA=FOLDER OMP_NUM_THREADS=1 python examples/experiments/convergence.py --json convergence.json

The papers' size: ``--layers 6 --channels 256 --state 64 --steps 30000 --images 55000 --device cuda``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from experiment import ALONE, parser, spread, write
from torch import Tensor, nn

from tsssm import SSMClassifier
from tsssm.datasets import fetch_mnist
from tsssm.layers import LiquidS4

LAYERS = {"LSSL": "lssl", "LSSL, fixed": "lssl-fixed", "S4D": "s4d"}
# Name, backbone and order; "exact" without an order is the recurrence itself.
LIQUID = {
    "S4D": ("s4d", None),
    "exact": ("liquid-s4", None),
    "exact, p = 2": ("liquid-s4", 2),
    "exact, p = 3": ("liquid-s4", 3),
    "K-B, p = 2": ("liquid-s4-kb", 2),
    "K-B, p = 3": ("liquid-s4-kb", 3),
    "P-B, p = 2": ("liquid-s4-pb", 2),
    "P-B, p = 3": ("liquid-s4-pb", 3),
}
JUDGED = 2000  # images, the last of the training part

Part = tuple[Tensor, Tensor]  # standardised series (n, length, 1), digits (n,)


class Judge(pl.Callback):
    """Keeps the accuracy of a network at some steps, and gives its liquid layers an order before."""

    def __init__(self, marks: Sequence[int], judged: Part, order: int | None) -> None:
        self.marks, self.judged, self.order = set(marks), judged, order
        self.found: dict[int, float] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Judge:
        return self  # fit copies callbacks; the figures are wanted here

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Set the order of the liquid layers."""
        for layer in pl_module.net.modules():
            if isinstance(layer, LiquidS4) and self.order is not None:
                layer.order = self.order

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Judge the network, if it is time to."""
        if trainer.global_step in self.marks and trainer.global_step not in self.found:
            training = pl_module.net.training
            self.found[trainer.global_step] = accuracy(pl_module.net.eval(), self.judged)
            pl_module.net.train(training)


@torch.no_grad()
def accuracy(net: nn.Module, judged: Part) -> float:
    """Share of right answers."""
    X, y = judged
    device = next(net.parameters()).device
    right = [
        (net(x.to(device)).argmax(dim=-1).cpu() == digit).sum()
        for x, digit in zip(X.split(200), y.split(200), strict=True)
    ]
    return int(sum(right)) / len(y)


class GRU(nn.Module):
    """Gated recurrent units and a linear readout of their mean."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.units = nn.GRU(1, channels, layers, batch_first=True)
        self.head = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, 10) of series (batch, length, 1)."""
        return self.head(self.units(x)[0].mean(dim=1))


def gru(train: Part, judged: Part, options: Any, marks: Sequence[int], seed: int) -> dict[int, float]:
    """Accuracies of a GRU by the steps it was trained for, with the schedule of the estimators."""
    torch.manual_seed(seed)
    device = "cuda" if options.device in ("auto", "cuda") and torch.cuda.is_available() else "cpu"
    net = GRU(options.channels, options.layers).to(device)
    optimizer = torch.optim.AdamW(net.parameters(), options.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, total_steps=options.steps, pct_start=0.1
    )
    found = {}
    for step in range(1, options.steps + 1):
        rows = torch.randint(len(train[1]), (options.batch_size,))
        loss = nn.functional.cross_entropy(net(train[0][rows].to(device)), train[1][rows].to(device))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step in marks:
            found[step] = accuracy(net.eval(), judged)
            net.train()
    return found


def draw(path: Path, results: dict[str, Any], marks: Sequence[int]) -> None:
    """Draw accuracy against steps, one picture a table."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for ax, (table, rows) in zip(
        figure.subplots(1, len(results), squeeze=False)[0], results.items(), strict=True
    ):
        for name, row in rows.items():
            ax.plot(marks, [row["accuracy"][str(mark)]["mean"] for mark in marks], label=name)
        ax.set(title=table, xlabel="steps", ylabel="accuracy")
        ax.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> None:
    arguments_of = parser(__doc__, seeds=(0,))
    arguments_of.add_argument(
        "--tables", nargs="+", choices=["layers", "liquid"], default=["layers", "liquid"]
    )
    arguments_of.add_argument("--layers", type=int, default=2)
    arguments_of.add_argument("--channels", type=int, default=32)
    arguments_of.add_argument("--state", type=int, default=16)
    arguments_of.add_argument("--batch-size", type=int, default=32)
    arguments_of.add_argument("--steps", type=int, default=600)
    arguments_of.add_argument("--images", type=int, default=20_000, help="images to train on")
    arguments_of.add_argument("--learning-rate", type=float, default=1e-2)
    arguments_of.add_argument("--figure", type=Path, help="file for a picture")
    options = arguments_of.parse_args(arguments)
    X, y = fetch_mnist(part="train", return_X_y=True)
    X, y = np.asarray(X, dtype=np.float32), np.asarray(y)
    train, judged = (X[: options.images], y[: options.images]), (X[-JUDGED:], y[-JUDGED:])
    centre, scale = train[0].mean(), train[0].std()

    def tensors(part: tuple[np.ndarray, np.ndarray]) -> Part:
        series = torch.from_numpy((part[0] - centre) / scale).swapaxes(1, 2).contiguous()
        return series, torch.from_numpy(part[1].astype(np.int64))

    standard = tensors(judged)
    marks = sorted({max(1, round(options.steps * share)) for share in (0.1, 0.2, 0.35, 0.5, 0.75, 1.0)})
    results: dict[str, Any] = {}

    def of_estimator(backbone: str, order: int | None, seed: int) -> dict[int, float]:
        judge = Judge(marks, standard, order)
        SSMClassifier(
            backbone,
            **ALONE,
            n_layers=options.layers,
            d_model=options.channels,
            d_state=options.state,
            bidirectional=False,
            dropout=0.0,
            label_smoothing=0.0,
            batch_size=options.batch_size,
            max_steps=options.steps,
            learning_rate=options.learning_rate,
            accelerator=options.device,
            verbose=options.verbose,
            callbacks=[judge],
            random_state=seed,
        ).fit(*train)
        return judge.found

    for table in options.tables:
        rows: dict[str, Any] = {name: (backbone, None) for name, backbone in LAYERS.items()}
        rows = {**rows, "GRU": None} if table == "layers" else LIQUID
        results[table] = {}
        for name, choice in rows.items():
            runs, seconds = [], []
            for seed in options.seeds:
                started = time.perf_counter()
                if choice is None:
                    runs.append(gru(tensors(train), standard, options, marks, seed))
                else:
                    runs.append(of_estimator(*choice, seed))
                seconds.append(time.perf_counter() - started)
            found = {str(mark): spread([run[mark] for run in runs]) for mark in marks}
            results[table][name] = {"accuracy": found, "seconds": spread(seconds)}
            told = "  ".join(f"{mark}: {row['mean']:.3f}" for mark, row in found.items())
            print(f"{table:8}{name:16}{told}  {np.mean(seconds):.0f} s", flush=True)
            write(
                options.json,
                results,
                paper={"source": "arXiv 2110.13985, arXiv 2209.12951; other tasks and sizes"},
                differs="A small network for some hundred steps; the papers train large ones to the end.",
                seeds=options.seeds,
                settings={
                    key: value
                    for key, value in vars(options).items()
                    if key not in ("json", "figure", "note")
                },
                note=options.note,
            )
    if options.figure:
        draw(options.figure, results, marks)


if __name__ == "__main__":
    main()
