"""Does one text go with another? Two towers that share one network: the retrieval task of Long Range Arena.

Both texts are read byte by byte by the same network; a small head sees the two features, their difference and
their product. By default the texts are made here: strings over 16 letters, a pair of which goes together
where both hold the same passage of 12 letters, anywhere. Run as

    OMP_NUM_THREADS=1 python examples/experiments/lra_retrieval.py --json lra_retrieval.json

With the papers of AAN, which have to be put in place (``datasets/cards/lra.md``), on a GPU:

    TSSSM_DATA=FOLDER python examples/experiments/lra_retrieval.py --aan --layers 6 --channels 256 \
        --state 64 --batch-size 32 --steps 50000 --device cuda
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from experiment import parser, spread, write
from torch import Tensor, nn

from tsssm import Panel
from tsssm.backbone import Backbone
from tsssm.datasets import fetch_lra
from tsssm.encoding import Batch, Encoded, PanelEncoder

PAPERS = {
    "S4": 0.9090,
    "Liquid-S4": 0.9120,
    "source": "Liquid-S4, arXiv 2209.12951, its table of the Long Range Arena; AAN, up to 4,000 bytes each",
}
_SEPARATOR = 256  # between the two papers of AAN
_LETTERS, _PASSAGE = 16, 12

Pairs = tuple[Panel, np.ndarray]  # 2 n texts, those of a pair one after the other, and labels (n,)


def made(n: int, length: int, seed: int) -> Pairs:
    """Pairs of strings, half of which hold one passage in common."""
    rng = np.random.default_rng(seed)
    texts = rng.integers(_LETTERS, size=(n, 2, length))
    y = (rng.random(n) < 0.5).astype(np.int64)
    for text, together in zip(texts, y, strict=True):
        passages = rng.integers(_LETTERS, size=(2, _PASSAGE))
        for side in range(2):
            start = rng.integers(length - _PASSAGE)
            text[side, start : start + _PASSAGE] = passages[0 if together else side]
    return Panel(texts.reshape(-1, 1), np.arange(2 * n + 1) * length), y


def aan(part: str) -> Pairs:
    """Pairs of papers."""
    X, y = fetch_lra("retrieval", part=part, return_X_y=True)
    texts = []
    for series in X:
        tokens = series.values[:, 0]
        (middle,) = np.flatnonzero(tokens == _SEPARATOR)
        texts += [tokens[:middle], tokens[middle + 1 :]]
    return Panel.from_arrays([text[None] for text in texts]), y


class Towers(nn.Module):
    """One network for both texts, and a head on what it says of them."""

    def __init__(self, tower: Backbone, features: int) -> None:
        super().__init__()
        self.tower = tower
        self.head = nn.Sequential(nn.Linear(4 * features, features), nn.GELU(), nn.Linear(features, 2))

    def forward(self, batch: Batch) -> Tensor:
        """Logits (n, 2) of 2 n texts."""
        found = self.tower(batch.u, batch.dt)
        first, second = found[0::2], found[1::2]
        return self.head(torch.cat([first, second, first - second, first * second], dim=-1))


def both(pairs: Tensor) -> Tensor:
    """Numbers of the texts of these pairs."""
    return torch.stack([2 * pairs, 2 * pairs + 1], dim=-1).flatten()


def moved(batch: Batch, device: str) -> Batch:
    """The batch on a device."""
    return Batch(batch.u.to(device), None if batch.dt is None else batch.dt.to(device))


@torch.no_grad()
def accuracy(net: Towers, data: Encoded, y: Tensor, device: str) -> float:
    """Share of right answers."""
    pieces = torch.arange(len(y)).split(100)
    right = [
        (net(moved(data.batch(both(rows)), device)).argmax(-1).cpu() == y[rows]).sum() for rows in pieces
    ]
    return int(sum(right)) / len(y)


def fitted(train: Pairs, tests: dict[str, Pairs], options: Any, seed: int) -> dict[str, float]:
    """Train for some steps; accuracies by part."""
    torch.manual_seed(seed)
    device = "cuda" if options.device in ("auto", "cuda") and torch.cuda.is_available() else "cpu"
    encoder = PanelEncoder(categorical=[0]).fit(train[0])
    data, y = encoder.encode_all(train[0]), torch.from_numpy(train[1])
    tower = Backbone(
        encoder.n_inputs,
        options.channels,
        d_model=options.channels,
        n_layers=options.layers,
        d_state=options.state,
        pooling=options.pooling,
    )
    net = Towers(tower, options.channels).to(device)
    optimizer = torch.optim.AdamW(net.parameters(), options.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, total_steps=options.steps, pct_start=0.1
    )
    for step in range(options.steps):
        rows = torch.randint(len(y), (options.batch_size,))
        logits = net(moved(data.batch(both(rows)), device))
        loss = nn.functional.cross_entropy(logits, y[rows].to(device))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if options.verbose and step % 100 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    net.eval()
    found = {}
    for name, (X, labels) in tests.items():
        found[name] = accuracy(net, encoder.encode_all(X), torch.from_numpy(labels), device)
    return found


def main(arguments: list[str] | None = None) -> None:
    arguments_of = parser(__doc__, seeds=(0,))
    arguments_of.add_argument("--aan", action="store_true", help="the papers of AAN")
    arguments_of.add_argument("--length", type=int, default=64, help="letters of a made text")
    arguments_of.add_argument("--train", type=int, default=20_000, help="made pairs to train on")
    arguments_of.add_argument("--test", type=int, default=2_000, help="made pairs to judge by")
    arguments_of.add_argument("--layers", type=int, default=3)
    arguments_of.add_argument("--channels", type=int, default=64)
    arguments_of.add_argument("--state", type=int, default=16)
    arguments_of.add_argument("--pooling", default="mean", choices=["mean", "max", "last"])
    arguments_of.add_argument("--batch-size", type=int, default=32)
    arguments_of.add_argument("--steps", type=int, default=4000)
    arguments_of.add_argument("--learning-rate", type=float, default=4e-3)
    options = arguments_of.parse_args(arguments)
    if options.aan:
        train, tests = aan("train"), {"validation": aan("validation"), "test": aan("test")}
    else:
        train = made(options.train, options.length, 0)
        tests = {"test": made(options.test, options.length, 1)}
    runs, seconds = [], []
    for seed in options.seeds:
        started = time.perf_counter()
        runs.append(fitted(train, tests, options, seed))
        seconds.append(time.perf_counter() - started)
        print(f"seed {seed}: {runs[-1]}, {seconds[-1]:.0f} s", flush=True)
    write(
        options.json,
        {
            "accuracy": {name: spread([run[name] for run in runs]) for name in tests},
            "seconds": spread(seconds),
        },
        paper=PAPERS,
        differs=(
            "A small network."
            if options.aan
            else "Made pairs of strings in place of papers: the figures of the two cannot be compared."
        ),
        pairs={"train": len(train[1]), **{name: len(y) for name, (_, y) in tests.items()}},
        seeds=options.seeds,
        settings={key: value for key, value in vars(options).items() if key not in ("json", "note")},
        note=options.note,
    )


if __name__ == "__main__":
    main()
