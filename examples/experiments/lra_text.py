"""Film reviews read byte by byte: the text task of Long Range Arena, with a learned vector for each byte.

By default the first 512 bytes of 8,000 training reviews and a network that one core trains in minutes, judged
on 4,000 reviews of the published test part; beside it logistic regression on the words of the same bytes. Run
as

    TSSSM_DATA=FOLDER OMP_NUM_THREADS=1 python examples/experiments/lra_text.py --json lra_text.json

The task of the papers, all reviews and up to 4,096 bytes, which wants a GPU:

    python examples/experiments/lra_text.py --length 4096 --train 25000 --test 25000 --settings \
        '{"n_layers": 6, "d_model": 256, "d_state": 64, "batch_size": 50, "max_steps": 16000}' --device cuda
"""

from __future__ import annotations

from typing import Any

import numpy as np
from experiment import beside, parser, write
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from tsssm import Panel
from tsssm.datasets import fetch_lra

PAPERS = {
    "S4": 0.8682,
    "Liquid-S4": 0.8902,
    "source": "Liquid-S4, arXiv 2209.12951, its table of the Long Range Arena; up to 4,096 bytes",
}
RECIPE: dict[str, Any] = {
    "categorical": ["token"],
    "n_layers": 3,
    "d_model": 64,
    "d_state": 16,
    "dropout": 0.1,
    "batch_size": 32,
    "max_steps": 1500,
    "learning_rate": 4e-3,
    "label_smoothing": 0.0,
}


def load(part: str, count: int, length: int) -> tuple[Panel, np.ndarray]:
    """The first bytes of as many reviews of a part, drawn at random once, and whether they are positive."""
    X, y = fetch_lra("text", part=part, return_X_y=True)
    rows = np.sort(np.random.default_rng(0).permutation(len(y))[:count])
    cut = Panel.from_arrays([X[int(row)].values[:length].T for row in rows])
    return Panel(cut.values, cut.offsets, channel_names=("token",)), y[rows]


def words(X: Panel) -> list[str]:
    """The text of the series."""
    return [series.values.astype(np.uint8).tobytes().decode("utf-8", "replace") for series in X]


def main(arguments: list[str] | None = None) -> None:
    arguments_of = parser(__doc__, seeds=(0,), settings=True)
    arguments_of.add_argument("--train", type=int, default=8000, help="reviews to train on")
    arguments_of.add_argument("--test", type=int, default=4000, help="reviews to judge by")
    arguments_of.add_argument("--length", type=int, default=512, help="bytes of each review")
    options = arguments_of.parse_args(arguments)
    recipe = {**RECIPE, **options.settings}
    train = load("train", options.train, options.length)
    test = load("test", options.test, options.length)
    baseline = make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(max_iter=1000))
    counted = float(baseline.fit(words(train[0]), train[1]).score(words(test[0]), test[1]))
    write(
        options.json,
        beside("logistic regression on words", counted, recipe, train, test, options),
        paper=PAPERS,
        differs="Fewer reviews, their first bytes only, and a small network that is trained for minutes.",
        recipe=recipe,
        reviews={"train": options.train, "test": options.test, "bytes": options.length},
        seeds=options.seeds,
        note=options.note,
    )


if __name__ == "__main__":
    main()
