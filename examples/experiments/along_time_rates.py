"""Heart rate along time from a bedside monitor (BIDMC): what the network is given, and counting of peaks.

What the network is given is causal: filters and heights know nothing of what follows a second plus the delay,
but for the decimation of the recordings, whose filter has zero phase and so looks ahead by some samples.
Counting sees slightly further: peaks are found over the whole recording before they are counted in windows,
so whether something is a peak (its prominence, its distance to the next) depends on what follows it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from bidmc_inputs import HERTZ, KEPT, QRS, SMOOTHEST, peaks
from experiment import parameter_count
from scipy.signal import butter, lfilter, resample_poly, sosfilt, sosfilt_zi
from sklearn.model_selection import GroupKFold

from tsssm import Panel, SSMSequenceRegressor
from tsssm.datasets import fetch_bidmc

Array = npt.NDArray[Any]

DELAYS = (0, 5, 15)  # s
SIGNALS = ("PLETH", "ECG")
FOLDS = 3
FIRST = 20  # s from the start, before which nobody is judged
HEIGHT = 10.0  # s over which the height of a signal is remembered
# Speeds at which a recording is played in training, and the rates that are learned from.
SPEEDS, BETWEEN = (10, 8, 13, 16), (45.0, 140.0)
WIDTHS, SUMMARIES = (4, 6, 8, 12, 16, 24), {"mean": np.mean, "median": np.median}
STEPS = 300
# As of `heart_rate.py`, smaller: nine fits.
NETWORK = {
    "n_layers": 3,
    "d_model": 24,
    "norm": "layer",
    "dropout": 0.0,
    "loss": "absolute_error",
    "learning_rate": 1e-2,
    "ssm_learning_rate": 3e-3,
    "timescales": (0.16, 16.0),
    "crop_length": 400,
    "warm_up": 100,
    "batch_size": 12,
}


def filtered(x: Array, edges: Any, kind: str) -> Array:
    """A causal filter that starts as if the first value had always been there."""
    sections = butter(2, edges, kind, fs=HERTZ, output="sos")
    return sosfilt(sections, x, zi=sosfilt_zi(sections) * x[0])[0]


def at_one_height(x: Array) -> Array:
    """A signal over the root mean square of its last seconds."""
    kept = np.exp(-1 / (HEIGHT * HERTZ))
    square = lfilter([1 - kept], [1, -kept], x**2, zi=[kept * np.mean(x[: int(HERTZ)] ** 2)])[0]
    return np.clip(x / np.sqrt(np.maximum(square, 1e-12)), -4, 4)


def live(signals: Array) -> Array:
    """Smooth pulses of PLETH, and how strong the QRS complex is, (2, L) at 62.5 Hz."""
    pulses = filtered(signals[0], (0.5, SMOOTHEST), "bandpass")
    complexes = filtered(np.abs(filtered(signals[1], QRS, "bandpass")), (0.5, SMOOTHEST), "bandpass")
    return np.stack([at_one_height(pulses), at_one_height(complexes)])


def counted(x: Array, seconds: Array, delay: float, width: float, summary: Callable[[Array], Any]) -> Array:
    """Rates at seconds, from the peaks in the ``width`` seconds before each plus the delay."""
    times = peaks(x)
    rates = np.full(len(seconds), np.nan)
    for i, end in enumerate(seconds + delay):
        inside = times[(times > end - width) & (times <= end)]
        if len(inside) > 1:
            rates[i] = 60 / summary(np.diff(inside))
        elif i:
            rates[i] = rates[i - 1]
    return np.where(np.isnan(rates), 80.0, rates)


def errors_of(truth: list[Array], found: list[Array]) -> dict[str, Any]:
    """Errors in beats a minute over all seconds, and the mean absolute one of each patient."""
    error = np.concatenate([own - true for true, own in zip(truth, found, strict=True)])
    return {
        "MAE": float(np.abs(error).mean()),
        "RMSE": float(np.sqrt(np.mean(error**2))),
        "within 5": float(np.mean(np.abs(error) <= 5)),
        "by patient": [float(np.abs(own - true).mean()) for true, own in zip(truth, found, strict=True)],
    }


def rates(options: argparse.Namespace) -> dict[str, Any]:
    """Heart rate once a second, every patient by what others taught, for each delay."""
    data = fetch_bidmc(decimate=2, along_time=True)
    signals = [series.values.T.astype(float) for series in data.data]
    inputs = [live(one) for one in signals]
    ends = [one.shape[1] / HERTZ for one in signals]
    judged, truth = [], []
    for end, (seconds, numeric) in zip(ends, data.target, strict=True):
        there = (seconds >= FIRST) & (seconds + max(DELAYS) < end) & np.isfinite(numeric)
        judged.append(seconds[there])
        truth.append(numeric[there])

    def panel(arrays: list[Array]) -> Panel:
        thinned = [one[:, ::KEPT] for one in arrays]
        return Panel.from_arrays(
            thinned, [np.arange(one.shape[1]) * KEPT / HERTZ for one in thinned], time_unit="s"
        )

    def taught(rows: Array) -> tuple[list[Array], list[tuple[Array, Array]]]:
        X, y = [], []
        for i in rows:
            for speed in SPEEDS:
                X.append(inputs[i] if speed == 10 else live(resample_poly(signals[i], 10, speed, axis=1)))
                seconds, numeric = data.target[i]
                faster = numeric * speed / 10
                known = (faster > BETWEEN[0]) & (faster < BETWEEN[1])
                y.append((10 / speed * seconds, np.where(known | (speed == 10), faster, np.nan)))
                last = (X[-1][:, ::KEPT].shape[1] - 1) * KEPT / HERTZ
                y[-1] = tuple(part[y[-1][0] <= last] for part in y[-1])
        return X, y

    # What peaks say in every way of counting; the width and the summary are chosen on training patients.
    counts = {
        (name, delay, width, summary): [
            counted(own[channel], seconds, delay, width, SUMMARIES[summary])
            for own, seconds in zip(inputs, judged, strict=True)
        ]
        for channel, name in enumerate(SIGNALS)
        for delay in DELAYS
        for width in WIDTHS
        for summary in SUMMARIES
    }
    errors = {key: errors_of(truth, own)["by patient"] for key, own in counts.items()}
    found: dict[str, dict[int, Array]] = {}
    results: dict[str, Any] = {"patients": len(signals), "seconds": {}, "widths": {}}
    folds = list(GroupKFold(FOLDS).split(signals, groups=data.groups))
    for train, held in folds:
        X, y = taught(train)
        series = panel(X)
        for delay in DELAYS:
            model = SSMSequenceRegressor(
                lookahead=delay,
                **NETWORK,
                max_steps=options.max_steps or STEPS,
                random_state=options.seeds[0],
                accelerator=options.device,
            )
            started = time.process_time()
            model.fit(series, y)
            spent = time.process_time() - started
            results["seconds"].setdefault(f"delay {delay}", []).append(spent)
            own = model.predict(panel([inputs[i] for i in held]), times=[judged[i] for i in held])
            found.setdefault(f"network, delay {delay}", {}).update(zip(held.tolist(), own, strict=True))
            for name in SIGNALS:
                ways = [key for key in counts if key[:2] == (name, delay)]
                best = min(ways, key=lambda key: np.mean([errors[key][i] for i in train]))
                found.setdefault(f"peaks of {name}, delay {delay}", {}).update(
                    {int(i): counts[best][i] for i in held}
                )
                results["widths"].setdefault(f"{name}, delay {delay}", []).append(best[2:])
            print("fold", delay, errors_of([truth[i] for i in held], list(own))["MAE"], spent, flush=True)
    for name, by_patient in found.items():
        results[name] = errors_of(truth, [by_patient[i] for i in range(len(signals))])
    results["parameters"] = parameter_count(model)
    return results
