"""Fit, predict and cross-validate on wrist sensors and speech, then predict from half of the samples.

Two data sets that sktime carries, with their published splits: BasicMotions (acceleration and rotation at a
wrist, 6 channels, 4 activities) and JapaneseVowels (12 coefficients of speech, 9 speakers, 7 to 29 samples).
Run as

    python examples/quickstart.py [--seeds 0 1 2] [--figure output/quickstart.png] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import matplotlib
import numpy as np
from sklearn.model_selection import cross_val_score
from sktime.datasets import load_basic_motions, load_japanese_vowels

from tsssm import Panel, SSMClassifier
from tsssm.panel import as_panel
from tsssm.plotting import TimescaleDisplay, TrainingDisplay

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


def drop_half(panel: Panel, seed: int) -> tuple[Panel, Panel]:
    """Drop half of the samples of every series at random; the rest with its times, and without."""
    rng = np.random.default_rng(seed)
    kept, times = [], []
    for start, length in zip(panel.offsets[:-1], panel.lengths, strict=True):
        chosen = np.sort(rng.choice(length, size=(length + 1) // 2, replace=False))
        kept.append(start + chosen)
        times.append(chosen.astype(float))
    offsets = np.concatenate([[0], np.cumsum([len(k) for k in kept])])
    values = panel.values[np.concatenate(kept)]
    return Panel(values, offsets, times=np.concatenate(times)), Panel(values, offsets)


def report(text: str, score: float) -> float:
    """Print a line of the result and hand the score on."""
    print(f"  {text:<44} {score:.3f}", flush=True)
    return float(score)


def wrist_sensors(classifier: SSMClassifier) -> dict[str, float]:
    """Regular series of one length: cross-validate, fit, score."""
    X_train, y_train = load_basic_motions(split="train", return_type="numpy3D")
    X_test, y_test = load_basic_motions(split="test", return_type="numpy3D")
    print(f"BasicMotions: train {X_train.shape}, test {X_test.shape} (series, channels, samples)")
    folds = cross_val_score(classifier, X_train, y_train, cv=4)
    classifier.fit(X_train, y_train)
    return {
        "cross_val_score": report("4-fold cross-validation on the training set", folds.mean()),
        "test": report("test accuracy", classifier.score(X_test, y_test)),
    }


def speech(classifier: SSMClassifier, seed: int) -> dict[str, float]:
    """Series of unequal length, then the same test series with half of their samples gone."""
    X_train, y_train = load_japanese_vowels(split="train", return_type="df-list")
    X_test, y_test = load_japanese_vowels(split="test", return_type="df-list")
    panel = as_panel(X_test)
    print(f"JapaneseVowels: train {len(X_train)} series, test {panel}")
    classifier.fit(X_train, y_train)
    with_times, without_times = drop_half(panel, seed)
    return {
        "test": report("test accuracy", classifier.score(X_test, y_test)),
        "half with times": report(
            "half of the samples, with their times", classifier.score(with_times, y_test)
        ),
        "half without times": report(
            "half of the samples, times withheld", classifier.score(without_times, y_test)
        ),
    }


def draw(classifiers: dict[str, SSMClassifier], path: Path) -> None:
    """Learning curves, and the timescales that the layers ended up with."""
    figure, (curves, *scales) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for (name, classifier), axes in zip(classifiers.items(), scales, strict=True):
        TrainingDisplay.from_estimator(classifier, label=name, ax=curves)
        TimescaleDisplay.from_estimator(classifier, ax=axes)
        axes.set_title(f"Learned timescales, {name}")
    curves.set_title("Learning curves")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, bbox_inches="tight")  # the labels at the edges, too
    plt.close(figure)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--max-steps", type=int, help="training steps; by default the estimator decides")
    parser.add_argument("--figure", type=Path, default=Path("output") / "quickstart.png")
    parser.add_argument("--json", type=Path, help="file for the scores of every seed and their means")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    print("The first run on a machine compiles the kernels, for some 15 s; they are kept for later runs.")
    scores = []
    for seed in options.seeds:
        print(f"Seed {seed}")
        wrist, voice = (SSMClassifier(max_steps=options.max_steps, random_state=seed) for _ in range(2))
        scores.append({"BasicMotions": wrist_sensors(wrist), "JapaneseVowels": speech(voice, seed)})
    draw({"BasicMotions": wrist, "JapaneseVowels": voice}, options.figure)
    print(f"Learning curves and timescales: {options.figure}")
    if options.json:
        means = {
            name: {key: float(np.mean([score[name][key] for score in scores])) for key in values}
            for name, values in scores[0].items()
        }
        result = {"seeds": options.seeds, "means": means, "scores": scores}
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"{time.perf_counter() - started:.0f} s in all")


if __name__ == "__main__":
    main()
