"""Sequential CIFAR-10: images of ten kinds of things, read as 1,024 samples of three colours.

The recipe is of the size that the papers use and asks for a CUDA device; ``--settings`` makes it smaller, as
``--settings '{"n_layers": 2, "d_model": 32, "max_steps": 500}'`` does. It trains on all 50,000 images and is
tested once on the 10,000 published for it; ``--validation`` is for choices: it leaves the test part alone
and judges by the last 5,000 training images. Run as

    TSSSM_DATA=FOLDER python examples/experiments/scifar.py [--grayscale] [--json results.json]
"""

from __future__ import annotations

from typing import Any

from experiment import accuracies, parser, write

from tsssm.datasets import fetch_cifar10

# Not run on the data yet.
RECIPE: dict[str, Any] = {
    "n_layers": 6,
    "d_model": 256,
    "d_state": 64,
    "dropout": 0.2,
    "batch_size": 64,
    "max_epochs": 100,
    "learning_rate": 5e-3,
    "weight_decay": 0.05,
}

PAPER = {"LSSL (2110.13985)": 0.8465, "S4 (2111.00396)": 0.9113, "Liquid-S4 (2209.12951)": 0.9202}
VALIDATION = 5000  # last images of the training part


def main(arguments: list[str] | None = None) -> None:
    command = parser(__doc__, settings=True)
    command.add_argument("--grayscale", action="store_true", help="brightness alone, as in Long Range Arena")
    command.add_argument("--validation", action="store_true", help="judge by a part of the training images")
    options = command.parse_args(arguments)

    recipe = {**RECIPE, **options.settings}
    X, y = fetch_cifar10(grayscale=options.grayscale, part="train", return_X_y=True)
    if options.validation:
        train = X[:-VALIDATION], y[:-VALIDATION]
        tests = {"validation": (X[-VALIDATION:], y[-VALIDATION:])}
    else:
        train = X, y
        tests = {"test": fetch_cifar10(grayscale=options.grayscale, part="test", return_X_y=True)}
    results = accuracies(recipe, train, tests, options)
    write(
        options.json,
        results,
        {} if options.grayscale else PAPER,
        "The recipe is of the papers' size, not theirs in every setting. Their figures are of colour images.",
        data="sequential CIFAR-10" + (", grey" if options.grayscale else ""),
        recipe=recipe,
        images={"train": len(train[1]), **{name: len(labels) for name, (_, labels) in tests.items()}},
        seeds=options.seeds,
        note=options.note,
    )


if __name__ == "__main__":
    main()
