"""Train at one sampling rate, predict at half and at double that rate, without training again.

The layers measure time in the units of the training set's sampling step, so that the times of the samples are
all that a trained model needs at another rate (LSSL, arXiv 2110.13985, section 5.3). For comparison the same
series are given without their times, as a convolutional network would see them. Two sets: spoken digits
(FSDD, decimated with a filter against aliases) and JapaneseVowels (every second coefficient frame). Run as

    TSSSM_DATA=FOLDER python examples/timescale_transfer.py [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from sktime.datasets import load_japanese_vowels

from tsssm import Panel, SSMClassifier
from tsssm.datasets import fetch_fsdd

Series = list[np.ndarray]


def panel(series: Series, step: float | None) -> Panel:
    """Series (channels, length) as a panel, with a sample every ``step`` units of time, or without times."""
    offsets = np.concatenate([[0], np.cumsum([x.shape[1] for x in series])])
    times = None if step is None else np.concatenate([step * np.arange(x.shape[1]) for x in series])
    return Panel(np.concatenate([x.T for x in series]), offsets, times=times)


def transfer(
    train: Series, y: np.ndarray, tests: dict[float, Series], y_test: np.ndarray, classifier: SSMClassifier
) -> dict[str, float]:
    """Accuracy at each rate, relative to that of training, with the times and without them.

    ``tests`` has the test series at rates relative to the training set's.
    """
    classifier.fit(panel(train, 1.0), y)
    scores = {}
    for rate, series in tests.items():
        scores[f"rate x {rate:g}"] = float(classifier.score(panel(series, 1 / rate), y_test))
        if rate != 1:
            # Without times a panel is taken for one at the rate of training.
            scores[f"rate x {rate:g}, times withheld"] = float(classifier.score(panel(series, 1.0), y_test))
    for name, score in scores.items():
        print(f"  {name:<36} {score:.3f}", flush=True)
    return scores


def spoken_digits(classifier: SSMClassifier, rate: int) -> dict[str, float]:
    """Raw audio: train at ``rate`` Hz, a divisor of 2,000."""
    decimate = 8000 // rate
    train = fetch_fsdd(part="train", decimate=decimate)
    rates = {1.0: decimate, 0.5: 2 * decimate, 2.0: decimate // 2}
    tests = {relative: fetch_fsdd(part="test", decimate=factor) for relative, factor in rates.items()}
    X, *tested = ([x.values.T for x in digits.data] for digits in (train, *tests.values()))
    lengths = [x.shape[1] for x in X]
    print(f"Spoken digits at {rate} Hz: {len(X)} to train, {min(lengths)} to {max(lengths)} samples")
    return transfer(X, train.target, dict(zip(rates, tested, strict=True)), tests[1.0].target, classifier)


def vowels(classifier: SSMClassifier) -> dict[str, float]:
    """Train on every second frame; every fourth is half the rate, all of them are double."""
    (X, y), (X_test, y_test) = (
        load_japanese_vowels(split=split, return_type="df-list") for split in ("train", "test")
    )
    series, series_test = ([frame.to_numpy().T for frame in frames] for frames in (X, X_test))
    lengths = [-(-x.shape[1] // 2) for x in series]
    print(f"JapaneseVowels: {len(X)} to train, {min(lengths)} to {max(lengths)} samples")
    tests = {1.0: 2, 0.5: 4, 2.0: 1}
    return transfer(
        [x[:, ::2] for x in series],
        y,
        {relative: [x[:, ::every] for x in series_test] for relative, every in tests.items()},
        y_test,
        classifier,
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["s4d", "liquid-s4"])
    parser.add_argument("--max-steps", type=int, help="training steps; by default the estimator decides")
    parser.add_argument("--rate", type=int, default=1000, help="of the spoken digits in training, in Hz")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the accuracies")
    options = parser.parse_args(arguments)
    report = {"seed": options.seed, "rate": options.rate, "max_steps": options.max_steps, "accuracy": {}}
    for backbone in options.backbones:
        print(backbone)
        started = time.perf_counter()
        network = {"backbone": backbone, "n_members": 1, "n_features": 0}
        settings = {**network, "max_steps": options.max_steps, "random_state": options.seed}
        report["accuracy"][backbone] = {
            "JapaneseVowels": vowels(SSMClassifier(**settings)),
            "spoken digits": spoken_digits(SSMClassifier(**settings), options.rate),
        }
        print(f"  {time.perf_counter() - started:.0f} s")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
