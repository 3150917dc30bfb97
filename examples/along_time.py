"""When does breathing pause? A label for every sample of made-up bedside signals, after the fact and live.

Patients breathe, pause for 10 to 20 s, and move. A classifier that sees 3.2 s ahead says at every
sample which it is; runs of "apnoea" become a table of events, which are compared with the truth. The same
model answers live, one sample after the other. A regressor says the heart rate along time, from numerics once
a second beside signals at 12.5 Hz. Prints the figures of patients that were not seen, and draws one of them.
Run as

    python examples/along_time.py --figure along_time.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsssm import Panel, SSMSequenceClassifier, SSMSequenceRegressor, Stream
from tsssm.datasets import make_vitals
from tsssm.events import drop_short_runs, event_scores, runs

RATE, DURATION = 12.5, 120.0  # Hz, s
AHEAD = 3.2  # s, a whole number of samples


def patients(n: int, seed: int) -> tuple[Panel, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Signals of n patients, the state at each sample, and their heart rate once a second."""
    made = make_vitals(
        n, duration=DURATION, sampling_rate=RATE, apnoeas=1.5, artefacts=1.5, random_state=seed
    )
    times = np.tile(made.times[0], n)
    offsets = np.arange(n + 1) * len(made.times[0])
    values = np.swapaxes(made.data, 1, 2).reshape(-1, 4)
    panel = Panel(values, offsets, times, tuple(made.feature_names), time_unit="s")
    state = np.where(made.artefact, "movement", np.where(made.apnoea, "apnoea", "breathing"))
    numerics = []
    for t, beats in zip(made.times, made.beat, strict=True):
        at = t[beats]
        seconds = np.arange(10.0, DURATION - 1)
        before = np.searchsorted(at, seconds)  # of the last five beats
        rate = [60 * 4 / (at[k - 1] - at[k - 5]) if k > 5 else np.nan for k in before]
        numerics.append((seconds, np.array(rate)))
    return panel, state, numerics


def states(max_steps: int, n: int) -> dict[str, Any]:
    """Fit the classifier, and compare its events with the truth on new patients."""
    panel, state, _ = patients(n, 0)
    new, truth, _ = patients(n, 1)
    clf = SSMSequenceClassifier(
        lookahead=AHEAD, n_layers=2, d_model=16, crop_length=750, max_steps=max_steps, random_state=0
    ).fit(panel, list(state))
    proba = clf.predict_proba(new)
    labels = [clf.classes_[own.argmax(axis=1)] for own in proba]
    times = [new.times[: len(truth[0])]] * len(new)
    # Pauses last ten seconds: what is shorter than two is none.
    found = runs(drop_short_runs(labels, 2.0, times), times, proba, classes=clf.classes_)
    true = runs(list(truth), times)
    scores = pd.concat(
        {by: event_scores(true, found, 3.0, classes=["apnoea"], by=by) for by in ("start", "end")}
    )
    stream = Stream(clf)
    live = np.array([stream.push(values, time) for values, time in zip(new[0].values, times[0], strict=True)])
    delay = round(AHEAD * RATE)  # samples by which live answers come later
    return {
        "signals": new[0],
        "truth": truth[0],
        "probability": proba[0][:, 0],
        "table": found[(found["series"] == 0) & (found["class"] == "apnoea")],
        "accuracy": clf.score(new, list(truth)),
        "events": scores,
        "live": float(np.abs(live[delay + 1 :] - proba[0][1 : len(live) - delay]).max()),
    }


def heart_rates(max_steps: int, n: int) -> dict[str, float]:
    """Fit the regressor to numerics, and compare on new patients."""
    panel, _, numerics = patients(2 * n, 0)  # rates differ more than states do
    new, _, truth = patients(n, 1)
    reg = SSMSequenceRegressor(
        lookahead=0,
        n_layers=2,
        d_model=32,
        dropout=0.0,
        loss="absolute_error",
        crop_length=750,
        learning_rate=1e-2,
        ssm_learning_rate=3e-3,
        max_steps=max_steps,
        random_state=0,
    ).fit(panel, numerics)
    answers = reg.predict(new, times=[at for at, _ in truth])
    errors = [np.abs(own - rate) for own, (_, rate) in zip(answers, truth, strict=True)]
    mean = np.nanmean(np.concatenate([rate for _, rate in numerics]))
    plain = [np.abs(rate - mean) for _, rate in truth]
    return {
        "mean error": float(np.nanmean(np.concatenate(errors))),
        "mean error of the mean": float(np.nanmean(np.concatenate(plain))),
    }


def draw(found: dict[str, Any], path: Path) -> None:
    """Respiration of one patient, where it pauses in truth, and the probability that it does."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    signals, times = found["signals"], found["signals"].times
    figure, (top, bottom) = plt.subplots(
        2, 1, sharex=True, figsize=(10, 4.5), height_ratios=(2, 1), layout="constrained"
    )
    top.plot(times, signals.values[:, 3], color="0.4", linewidth=0.8)
    for name, color in (("apnoea", "C3"), ("movement", "C1")):
        where = found["truth"] == name
        top.fill_between(
            times, -3, 3, where=where, color=color, alpha=0.25, linewidth=0, label=f"true {name}"
        )
    top.set(ylabel="respiration", ylim=(-3, 3))
    top.legend(loc="upper right")
    bottom.plot(times, found["probability"], color="C3")
    for _, event in found["table"].iterrows():
        bottom.hlines(1.1, event["start"], event["end"], color="C0", linewidth=4)
    bottom.set(xlabel="s", ylabel="probability\nof apnoea", ylim=(0, 1.2))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, compare, print and draw."""
    parser = argparse.ArgumentParser(description="A label for every sample.")
    parser.add_argument("--figure", type=Path, default=Path("along_time.png"))
    parser.add_argument("--max-steps", type=int, default=200)
    parser.add_argument("--patients", type=int, default=24)
    options = parser.parse_args(arguments)
    found = states(options.max_steps, options.patients)
    print(f"accuracy of a sample {found['accuracy']:.3f}")
    print(found["events"].round(2).to_string())
    print(f"live and after the fact differ by {found['live']:.1e} at most")
    rates = heart_rates(options.max_steps, options.patients)
    print("heart rate: " + ", ".join(f"{name} {value:.2f}" for name, value in rates.items()))
    draw(found, options.figure)
    print(f"figure: {options.figure}")


if __name__ == "__main__":
    main()
