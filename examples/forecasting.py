"""Forecasts with intervals: one series in sktime, and a panel of irregular ones asked at any time.

Airline passengers by month, the last three years held back; and forty patients whose pulse was written down
at random times, asked for the next six hours: in closed form, and with a network on top of it, which knows
their true times. Prints the errors and coverage, and draws history, forecast and intervals. Run as

    python examples/forecasting.py --figure forecasting.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sktime.datasets import load_airline

from tsssm import Panel, SSMFeaturesForecaster, SSMForecaster

HOURS_AHEAD = np.array([0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])


def airline(held_back: int = 36) -> dict[str, Any]:
    """Forecast the last months of the airline passengers."""
    y = load_airline().astype(float)
    history, future = y.iloc[:-held_back], y.iloc[-held_back:]
    model = SSMFeaturesForecaster().fit(history, fh=np.arange(1, held_back + 1))
    forecast, interval = model.predict(), model.predict_interval(coverage=0.8)
    low, high = interval.iloc[:, 0], interval.iloc[:, 1]
    naive = np.resize(history.to_numpy()[-12:], held_back)
    scale = np.abs(history.to_numpy()[12:] - history.to_numpy()[:-12]).mean()
    return {
        "history": history,
        "future": future,
        "forecast": forecast,
        "low": low,
        "high": high,
        "MASE": float(np.abs(forecast - future).mean() / scale),
        "MASE of the year before": float(np.abs(naive - future).mean() / scale),
        "covered": float(((future >= low) & (future <= high)).mean()),
    }


def pulses(n: int, rng: np.random.Generator) -> tuple[Panel, np.ndarray]:
    """Pulse of n patients at 40 to 80 random times in two days, and the truth (n, 7) afterwards."""
    series, times, truth = [], [], []
    for _ in range(n):
        base, swing, phase = rng.uniform(60, 90), rng.uniform(4, 10), rng.uniform(0, 24)
        own = np.unique(np.round(np.sort(rng.uniform(0, 48, rng.integers(40, 80))), 1))
        hours = np.concatenate([own, own[-1] + HOURS_AHEAD])
        pulse = base + swing * np.sin(2 * np.pi * (hours - phase) / 24) + rng.normal(size=len(hours))
        series.append(pulse[: len(own)])
        times.append(own)
        truth.append(pulse[len(own) :])
    return Panel.from_arrays(series, times, time_unit="h"), np.array(truth)


def patients(model: Any, n: int = 40) -> dict[str, Any]:
    """Fit to some patients, forecast others."""
    rng = np.random.default_rng(0)
    known, _ = pulses(n, rng)
    new, truth = pulses(n, rng)
    model.fit(known, fh=float(HOURS_AHEAD[-1]))
    forecast = model.predict(new, HOURS_AHEAD)
    quantiles = model.predict_quantiles(new, HOURS_AHEAD, [0.1, 0.9])
    low, high = quantiles.values.reshape(n, len(HOURS_AHEAD), 2).transpose(2, 0, 1)
    last = np.array([own.values[-1, 0] for own in new])
    return {
        "history": new,
        "truth": truth,
        "forecast": forecast,
        "low": low,
        "high": high,
        "mean error": float(np.abs(forecast.values[:, 0].reshape(truth.shape) - truth).mean()),
        "mean error of the last value": float(np.abs(last[:, None] - truth).mean()),
        "covered": float(((truth >= low) & (truth <= high)).mean()),
    }


def draw(passengers: dict[str, Any], clinic: dict[str, Any], path: Path) -> None:
    """History, truth, forecast and 80 % interval of both."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    when = {name: passengers[name].index.to_timestamp() for name in ("history", "future")}
    left.plot(when["history"], passengers["history"], color="0.4", label="history")
    left.plot(when["future"], passengers["future"], color="0.4", linestyle=":", label="what came")
    left.plot(when["future"], passengers["forecast"], color="C0", label="forecast")
    left.fill_between(when["future"], passengers["low"], passengers["high"], color="C0", alpha=0.25)
    left.set(title="Airline passengers a month, 80 % interval", ylabel="thousands")
    left.legend()
    first = clinic["history"][0]
    ahead = first.times[-1] + HOURS_AHEAD
    right.plot(first.times, first.values[:, 0], "o", color="0.4", markersize=3, label="history")
    right.plot(ahead, clinic["truth"][0], "o", color="0.4", markersize=4, fillstyle="none", label="what came")
    right.plot(ahead, clinic["forecast"].values[: len(ahead), 0], color="C0", label="forecast")
    right.fill_between(ahead, clinic["low"][0], clinic["high"][0], color="C0", alpha=0.25)
    right.set(title="Pulse at random times, 80 % interval", xlabel="hours", ylabel="beats a minute")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Forecast, print and draw."""
    parser = argparse.ArgumentParser(description="Forecasts with intervals.")
    parser.add_argument("--figure", type=Path, default=Path("forecasting.png"))
    parser.add_argument("--steps", type=int, default=300, help="of training")
    options = parser.parse_args(arguments)
    passengers, closed = airline(), patients(SSMFeaturesForecaster())
    clinic = patients(SSMForecaster(max_steps=options.steps, random_state=0))
    naive = "mean error of the last value"
    rows = {
        "airline passengers, MASE": (passengers["MASE"], passengers["MASE of the year before"], passengers),
        "pulse, mean error": (closed["mean error"], closed[naive], closed),
        "pulse, with a network": (clinic["mean error"], clinic[naive], clinic),
    }
    table = {
        name: {"forecast": ours, "naive": plain, "covered of 80 %": 100 * found["covered"]}
        for name, (ours, plain, found) in rows.items()
    }
    print(pd.DataFrame(table).T.round(2).to_string())
    draw(passengers, clinic, options.figure)
    print(f"figure: {options.figure}")


if __name__ == "__main__":
    main()
