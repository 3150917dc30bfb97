"""Pathfinder: do two dots end the same dashed path? Pictures of our own generator, read pixel by pixel.

By default 4,000 pictures of 24 x 24 pixels and a network that one core trains in minutes; beside it boosting
on where the dots are, which must tell next to nothing. Run as

    OMP_NUM_THREADS=1 python examples/experiments/pathfinder.py --json pathfinder.json

The sizes of Long Range Arena, which want a GPU: 32 x 32 (Pathfinder), and ``--size 128`` (Path-X):

    python examples/experiments/pathfinder.py --size 32 --train 160000 --test 20000 --settings \
        '{"n_layers": 6, "d_model": 256, "d_state": 64, "batch_size": 64, "max_steps": 500000}' --device cuda
"""

from __future__ import annotations

from typing import Any

import numpy as np
from experiment import beside, parser, write
from scipy.ndimage import center_of_mass, label
from sklearn.ensemble import HistGradientBoostingClassifier

from tsssm.datasets import make_pathfinder

PAPERS = {
    "Pathfinder": {"S4": 0.9420, "Liquid-S4": 0.9480},
    "Path-X": {"S4": 0.9635, "Liquid-S4": 0.9666},
    "source": "Liquid-S4, arXiv 2209.12951, its table of the Long Range Arena; the published pictures",
}
RECIPE: dict[str, Any] = {
    "n_layers": 4,
    "d_model": 32,
    "d_state": 32,
    "dropout": 0.0,
    "batch_size": 32,
    "max_steps": 2500,
    "learning_rate": 4e-3,
    "label_smoothing": 0.0,
}


def dots(X: np.ndarray) -> np.ndarray:
    """Places of the two brightest blobs of each picture, and their distance: (n, 5)."""
    size = round(X.shape[2] ** 0.5)
    rows = []
    for picture in X[:, 0].reshape(-1, size, size):
        blobs, count = label(picture > 0.95)
        sizes = np.bincount(blobs.ravel())[1:]
        chosen = 1 + np.argsort(-sizes)[:2] if count > 1 else [1, 1]
        places = np.nan_to_num(np.array(center_of_mass(picture, blobs, chosen)))
        rows.append([*places.ravel(), np.linalg.norm(places[0] - places[1])])
    return np.array(rows)


def main(arguments: list[str] | None = None) -> None:
    arguments_of = parser(__doc__, seeds=(0,), settings=True)
    arguments_of.add_argument("--size", type=int, default=24, help="width and height in pixels")
    arguments_of.add_argument("--train", type=int, default=4000, help="pictures to train on")
    arguments_of.add_argument("--test", type=int, default=1000, help="pictures to judge by")
    options = arguments_of.parse_args(arguments)
    recipe = {**RECIPE, **options.settings}
    train = make_pathfinder(options.train, size=options.size, return_X_y=True, random_state=0)
    test = make_pathfinder(options.test, size=options.size, return_X_y=True, random_state=1)
    nearness = HistGradientBoostingClassifier(random_state=0).fit(dots(train[0]), train[1])
    by_dots = float(nearness.score(dots(test[0]), test[1]))
    write(
        options.json,
        beside("boosting on where the dots are", by_dots, recipe, train, test, options),
        paper=PAPERS,
        differs="Pictures of a generator of our own, fewer and smaller, and a small network.",
        recipe=recipe,
        pictures={"train": options.train, "test": options.test, "size": options.size},
        seeds=options.seeds,
        note=options.note,
    )


if __name__ == "__main__":
    main()
