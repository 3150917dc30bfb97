"""Fit, predict and cross-validate on wrist sensors and speech, then predict from half of the samples.

Two data sets that sktime carries, with their published splits: BasicMotions (acceleration and rotation at a
wrist, 6 channels, 4 activities) and JapaneseVowels (12 coefficients of speech, 9 speakers, 7 to 29 samples).
Run as

    python examples/quickstart.py [--seed 0] [--figure output/quickstart.png]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib
import numpy as np
from sklearn.model_selection import cross_val_score
from sktime.datasets import load_basic_motions, load_japanese_vowels

from tsssm import Panel, SSMClassifier
from tsssm.panel import as_panel

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


def wrist_sensors(seed: int, max_steps: int | None) -> SSMClassifier:
    """Regular series of one length: fit, score, cross-validate."""
    X_train, y_train = load_basic_motions(split="train", return_type="numpy3D")
    X_test, y_test = load_basic_motions(split="test", return_type="numpy3D")
    print(f"BasicMotions: train {X_train.shape}, test {X_test.shape} (series, channels, samples)")
    started = time.perf_counter()
    classifier = SSMClassifier(max_steps=max_steps, random_state=seed).fit(X_train, y_train)
    print(f"  fitted in {time.perf_counter() - started:.0f} s, {classifier.n_iter_} epochs")
    print(f"  test accuracy                          {classifier.score(X_test, y_test):.3f}")
    unfitted = SSMClassifier(max_steps=max_steps, random_state=seed)
    scores = cross_val_score(unfitted, X_train, y_train, cv=4)
    print(f"  cross_val_score on the training series {scores.mean():.3f}  {np.round(scores, 3)}")
    return classifier


def speech(seed: int, max_steps: int | None) -> SSMClassifier:
    """Series of unequal length, then the same test series with half of their samples gone."""
    X_train, y_train = load_japanese_vowels(split="train", return_type="df-list")
    X_test, y_test = load_japanese_vowels(split="test", return_type="df-list")
    X_test = as_panel(X_test)
    print(f"JapaneseVowels: {len(X_train)} training series; test {X_test}")
    started = time.perf_counter()
    classifier = SSMClassifier(max_steps=max_steps, random_state=seed).fit(X_train, y_train)
    print(f"  fitted in {time.perf_counter() - started:.0f} s, {classifier.n_iter_} epochs")
    print(f"  test accuracy                               {classifier.score(X_test, y_test):.3f}")
    with_times, without_times = drop_half(X_test, seed)
    print(f"  half of the samples, with their times       {classifier.score(with_times, y_test):.3f}")
    print(f"  half of the samples, as if they were all    {classifier.score(without_times, y_test):.3f}")
    return classifier


def timescales(classifier: SSMClassifier) -> list[np.ndarray]:
    """Memory 1 / Delta of every channel of each layer, in samples."""
    return [np.exp(-block.layer.log_dt.detach().numpy()) for block in classifier.net_.blocks]


def draw(classifiers: dict[str, SSMClassifier], path: Path) -> None:
    """Learning curves, and the timescales that the layers ended up with."""
    figure, (curves, scales) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for number, (name, classifier) in enumerate(classifiers.items()):
        curves.plot(np.arange(1, classifier.n_iter_ + 1), classifier.loss_curve_, label=name)
        memory = timescales(classifier)
        positions = np.arange(len(memory)) * 3 + number
        scales.boxplot(
            memory,
            positions=positions,
            widths=0.8,
            whis=(0, 100),
            patch_artist=True,
            boxprops={"facecolor": f"C{number}"},
            medianprops={"color": "black"},
        )
        scales.plot([], [], "s", color=f"C{number}", label=name)
    curves.set(xlabel="epoch", ylabel="cross-entropy with smoothed labels", title="Learning curve")
    curves.legend()
    scales.set_yscale("log")
    scales.set_ylim(top=5 * scales.get_ylim()[1])  # room for the legend
    scales.set_xticks(np.arange(len(memory)) * 3 + 0.5, [f"layer {i + 1}" for i in range(len(memory))])
    scales.set(ylabel="memory 1/Δ of the channels, in samples", title="Learned timescales")
    scales.legend(loc="upper right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-steps", type=int, help="training steps; by default the estimator decides")
    parser.add_argument("--figure", type=Path, default=Path("output") / "quickstart.png")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    print("The first run on a machine compiles the kernels, about 20 s; they are kept for later runs.")
    budget = options.seed, options.max_steps
    fitted = {"BasicMotions": wrist_sensors(*budget), "JapaneseVowels": speech(*budget)}
    draw(fitted, options.figure)
    print(f"Learning curves and timescales: {options.figure}")
    print(f"{time.perf_counter() - started:.0f} s in all")


if __name__ == "__main__":
    main()
