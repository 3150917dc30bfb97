"""ListOps: the value of a nested expression of digits and operators, read symbol by symbol.

By default expressions of up to 200 symbols by our own generator, with a budget of steps that one core does in
minutes; what a model of the symbols' counts and of the outermost operator alone gets stands beside. Run as

    OMP_NUM_THREADS=1 python examples/experiments/listops.py --json listops.json

The task of the papers, 96,000 expressions of 500 to 2,000 symbols, which wants a GPU, with a network of the
papers' size:

    python examples/experiments/listops.py --lra --layers 8 --channels 128 --state 64 --batch-size 50 \
        --max-steps 76800 --device cuda --json listops_lra.json
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from experiment import ALONE, parameter_count, parser, spread, write
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import log_loss

from tsssm import Panel, SSMClassifier
from tsssm.backbone import BACKBONES
from tsssm.datasets import fetch_lra, make_listops

PAPERS = {
    "S4": 0.5960,
    "Liquid-S4": 0.6275,
    "source": "Liquid-S4, arXiv 2209.12951, its table of the Long Range Arena; S4 with its later recipe",
}
OPERATORS = ("[MIN", "[MAX", "[MED", "[SM")  # channels 10 to 13, after the digits
_OPEN, _CLOSE = slice(10, 14), 14


class Part(NamedTuple):
    """Expressions as one-hot series, their values, and what is known of each."""

    X: Panel
    y: np.ndarray
    operator: np.ndarray  # (n,) number of the outermost one
    depth: np.ndarray  # (n,) operators inside one another
    counts: np.ndarray  # (n, 15) of the symbols


def described(X: Panel, y: np.ndarray) -> Part:
    """Add what baselines and tables need to know of the expressions."""
    symbols = np.asarray(X.values)
    nesting = np.cumsum(symbols[:, _OPEN].sum(axis=1) - symbols[:, _CLOSE])
    starts = X.offsets[:-1]
    operator = symbols[starts, _OPEN].argmax(axis=1)
    # Every expression ends at depth 0, so that the sum over all of them starts each one at 0.
    depth = np.maximum.reduceat(nesting, starts).astype(int)
    return Part(X, np.asarray(y), operator, depth, np.add.reduceat(symbols, starts, axis=0))


def load(options: Any, part: str) -> Part:
    """Return the expressions to train on ("train") or those to score ("test")."""
    if options.lra:
        return described(*fetch_lra("listops", part=part, one_hot=True, return_X_y=True))
    made = make_listops(
        {"train": options.train, "test": options.test}[part],
        min_length=options.min_length,
        max_length=options.max_length,
        return_X_y=True,
        random_state={"train": 0, "test": 1}[part],
    )
    return described(*made)


def scores(probabilities: np.ndarray, classes: np.ndarray, test: Part) -> dict[str, Any]:
    """Accuracy and loss, and accuracy by outermost operator, depth and length."""
    right = classes[probabilities.argmax(axis=1)] == test.y
    known = np.zeros((len(right), 10))
    known[:, classes] = probabilities
    lengths = np.asarray(test.X.lengths)
    edges = np.quantile(lengths, [0, 0.25, 0.5, 0.75, 1]).astype(int)
    quarter = np.clip(np.searchsorted(edges[1:-1], lengths, side="left"), 0, 3)
    return {
        "accuracy": float(right.mean()),
        "loss": float(log_loss(test.y, known, labels=np.arange(10))),
        "by operator": {
            name: float(right[test.operator == number].mean())
            for number, name in enumerate(OPERATORS)
            if (test.operator == number).any()
        },
        "by depth": {str(depth): float(right[test.depth == depth].mean()) for depth in np.unique(test.depth)},
        "by length, quarters": {
            f"up to {edges[number + 1]}": float(right[quarter == number].mean())
            for number in np.unique(quarter)
        },
    }


def majority(train: Part, test: Part, groups: Callable[[Part], np.ndarray]) -> dict[str, Any]:
    """The frequencies of the classes in training, one answer for each group."""
    of_train, of_test = groups(train), groups(test)
    table = np.ones((max(of_train.max(), of_test.max()) + 1, 10))  # one more of each, so that none is 0
    np.add.at(table, (of_train, train.y), 1)
    return scores((table / table.sum(axis=1, keepdims=True))[of_test], np.arange(10), test)


def baselines(train: Part, test: Part) -> dict[str, Any]:
    """What is to be had without reading in order."""
    found = {
        "majority class": majority(train, test, lambda part: np.zeros(len(part.y), dtype=int)),
        "majority class of the outermost operator": majority(train, test, lambda part: part.operator),
    }
    tables = [np.column_stack([part.operator, part.counts]) for part in (train, test)]
    boosting = HistGradientBoostingClassifier(categorical_features=[0], early_stopping=True, random_state=0)
    boosting.fit(tables[0], train.y)
    named = "gradient boosting on the counts of the symbols and the outermost operator"
    found[named] = scores(boosting.predict_proba(tables[1]), boosting.classes_, test)
    return found


def main(arguments: list[str] | None = None) -> None:
    arguments_of = parser(__doc__, seeds=(0,))
    arguments_of.add_argument("--lra", action="store_true", help="the expressions of Long Range Arena")
    arguments_of.add_argument("--min-length", type=int, default=20)
    arguments_of.add_argument("--max-length", type=int, default=200)
    arguments_of.add_argument("--train", type=int, default=20_000, help="expressions to train on")
    arguments_of.add_argument("--test", type=int, default=2_000)
    arguments_of.add_argument("--backbones", nargs="+", choices=BACKBONES, default=["s4d"])
    arguments_of.add_argument("--layers", type=int, default=4)
    arguments_of.add_argument("--channels", type=int, default=32)
    arguments_of.add_argument("--state", type=int, default=16)
    arguments_of.add_argument("--batch-size", type=int, default=64)
    arguments_of.add_argument("--max-steps", type=int, default=3_000)
    arguments_of.add_argument("--learning-rate", type=float, default=4e-3)
    options = arguments_of.parse_args(arguments)

    train, test = load(options, "train"), load(options, "test")
    results: dict[str, Any] = {"baselines": baselines(train, test), "models": {}}
    for name, row in results["baselines"].items():
        print(f"{name:76}accuracy {row['accuracy']:.3f}  loss {row['loss']:.3f}", flush=True)
    model = {
        "n_layers": options.layers,
        "d_model": options.channels,
        "d_state": options.state,
        "batch_size": options.batch_size,
        "max_steps": options.max_steps,
        "learning_rate": options.learning_rate,
        "label_smoothing": 0.0,
    }
    for backbone in options.backbones:
        runs, seconds = [], []
        for seed in options.seeds:
            started = time.perf_counter()
            classifier = SSMClassifier(
                backbone,
                **ALONE,
                accelerator=options.device,
                verbose=options.verbose,
                random_state=seed,
                **model,
            ).fit(train.X, train.y)
            seconds.append(time.perf_counter() - started)
            runs.append(scores(classifier.predict_proba(test.X), classifier.classes_, test))
            row = f"{backbone}, seed {seed}, {seconds[-1]:.0f} s"
            print(f"{row:76}accuracy {runs[-1]['accuracy']:.3f}  loss {runs[-1]['loss']:.3f}", flush=True)
        results["models"][backbone] = {
            "accuracy": spread([run["accuracy"] for run in runs]),
            "loss": spread([run["loss"] for run in runs]),
            "first seed": runs[0],
            "parameters": parameter_count(classifier),
            "epochs": classifier.n_iter_,
            "training seconds": spread(seconds),
        }
        lengths = np.asarray(train.X.lengths)
        expressions = {
            "train": len(train.y),
            "test": len(test.y),
            "length, smallest, median, largest": [int(value) for value in np.quantile(lengths, [0, 0.5, 1])],
        }
        write(
            options.json,
            results,
            paper=PAPERS,
            differs=_differs(options.lra),
            seeds=options.seeds,
            expressions=expressions,
            model=model,
            note=options.note,
        )


def _differs(lra: bool) -> str:
    if lra:
        return "The papers' task; their networks, schedules and number of epochs are larger."
    return (
        "The papers' expressions have 500 to 2,000 symbols, and their networks, several times as large, see "
        "96,000 of them for tens of epochs. Here the expressions are shorter, and with that less deeply "
        "nested; operators, values and shares are the same. Accuracies of the two cannot be compared: what a "
        "model gains over the baselines beside it is the figure."
    )


if __name__ == "__main__":
    main()
