"""The next six hours of seven vital signs, from the first 42 hours of stays of PhysioNet 2012.

Charts as they come: every sign at times of its own, asked for at the times at which it was measured after
hour 42. Beside ours the last value carried on, and gradient boosting on straight lines across the gaps. Stays
are split at random; nothing is chosen on those that are judged. Run as

    TSSSM_DATA=FOLDER OMP_NUM_THREADS=1 python examples/experiments/forecasting_vitals.py --json vitals.json

The data are those of `tsssm.datasets.fetch_physionet2012`. ``--stays 300`` takes fewer.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from experiment import parser, write
from sklearn.ensemble import HistGradientBoostingRegressor

from tsssm import Panel, SSMFeaturesForecaster, SSMForecaster
from tsssm.datasets import fetch_physionet2012

SIGNS = ("HR", "SysABP", "DiasABP", "NISysABP", "NIDiasABP", "Temp", "RespRate")
NOW, AHEAD = 42.0, 6.0
_ORIGINS = (18.0, 24.0, 30.0, 36.0, 42.0)
_HOURS = np.arange(1.0, 13.0)


class Asked(NamedTuple):
    """What came after hour 42: number of the stay, of the sign, hour and value, (k,) each."""

    stay: np.ndarray
    sign: np.ndarray
    hour: np.ndarray
    value: np.ndarray


def asked(charts: Panel) -> Asked:
    """Measurements after hour 42 of signs that had been measured before."""
    rows: list[tuple[int, int, float, float]] = []
    for i, chart in enumerate(charts):
        before, after = chart.times < NOW, chart.times >= NOW
        for c in range(len(SIGNS)):
            later = after & np.isfinite(chart.values[:, c])
            if np.isfinite(chart.values[before, c]).any():
                rows += [
                    (i, c, t, v) for t, v in zip(chart.times[later], chart.values[later, c], strict=True)
                ]
    stay, sign, hour, value = np.array(rows).T
    return Asked(stay.astype(int), sign.astype(int), hour, value)


def usable(charts: Panel) -> Panel:
    """Signs alone, of stays with something measured before hour 42."""
    chosen = charts.select(list(SIGNS))
    keep = [i for i, c in enumerate(chosen) if np.isfinite(c.values[c.times < NOW]).any()]
    return chosen[keep]


def last_values(charts: Panel, due: Asked) -> np.ndarray:
    """The last value before hour 42, (k,)."""
    return np.array([before(charts, i, c, NOW)[1][-1] for i, c in zip(due.stay, due.sign, strict=True)])


def before(charts: Panel, stay: int, sign: int, hour: float) -> tuple[np.ndarray, np.ndarray]:
    """Times and values of a sign before an hour."""
    chart = charts[stay]
    there = (chart.times < hour) & np.isfinite(chart.values[:, sign])
    return chart.times[there], chart.values[there, sign]


def ours(model: Any, fitting: Panel, charts: Panel, due: Asked) -> tuple[np.ndarray, np.ndarray]:
    """Forecasts (k,), and 10 and 90 % quantiles (k, 2)."""
    model.fit(fitting, fh=AHEAD)
    histories = charts.between(0.0, NOW)
    ends = np.array([history.times[-1] for history in histories])
    hours = [np.unique(due.hour[due.stay == i]) for i in range(len(charts))]
    # Stays that nothing is asked of have to be asked something.
    hours = [own if len(own) else np.array([NOW + 1]) for own in hours]
    times = [own - end for own, end in zip(hours, ends, strict=True)]
    values = model.predict(histories, times)
    quantiles = model.predict_quantiles(histories, times, [0.1, 0.9])
    rows = np.array(
        [
            values.offsets[i] + int(np.searchsorted(hours[i], t))
            for i, t in zip(due.stay, due.hour, strict=True)
        ]
    )
    pairs = quantiles.values.reshape(len(quantiles.values), len(SIGNS), 2)
    return values.values[rows, due.sign].astype(float), pairs[rows, due.sign].astype(float)


def boosting(fitting: Panel, charts: Panel, due: Asked) -> np.ndarray:
    """Forecasts (k,): a model a sign, of differences to the last value, by the hour and the lines so far."""
    found = np.empty(len(due.value))
    for c in range(len(SIGNS)):
        rows, targets = [], []
        for i in range(len(fitting)):
            chart = fitting[i]
            for origin in _ORIGINS:
                past = before(fitting, i, c, origin)
                if not len(past[0]):
                    continue
                later = (chart.times >= origin) & (chart.times < origin + AHEAD)
                for row in np.flatnonzero(later & np.isfinite(chart.values[:, c])):
                    rows.append(features(past, origin, chart.times[row]))
                    targets.append(chart.values[row, c] - past[1][-1])
        own = due.sign == c
        if not own.any():
            continue
        model = HistGradientBoostingRegressor(loss="absolute_error", random_state=0)
        model.fit(np.array(rows), np.array(targets))
        pasts = [before(charts, i, c, NOW) for i in due.stay[own]]
        X = [features(past, NOW, hour) for past, hour in zip(pasts, due.hour[own], strict=True)]
        found[own] = model.predict(np.array(X)) + [past[1][-1] for past in pasts]
    return found


def features(past: tuple[np.ndarray, np.ndarray], origin: float, hour: float) -> list[float]:
    """Time ahead, age of the last value, straight lines at the hours before, and their mean."""
    times, values = past
    lines = np.interp(origin - _HOURS, times, values)
    return [hour - origin, origin - times[-1], values[-1], values.mean(), *(lines - values[-1]).tolist()]


def figures(forecast: np.ndarray, naive: np.ndarray, due: Asked, seconds: float) -> dict[str, Any]:
    """Mean absolute errors of each sign, and their geometric mean relative to the last value carried on."""
    own = {s: float(np.abs(forecast - due.value)[due.sign == c].mean()) for c, s in enumerate(SIGNS)}
    plain = [np.abs(naive - due.value)[due.sign == c].mean() for c in range(len(SIGNS))]
    ratio = float(np.exp(np.mean(np.log(np.array(list(own.values())) / plain))))
    return {"MAE": own, "relative": ratio, "seconds": round(seconds, 1)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit to two thirds of the stays, forecast the others."""
    options = parser(__doc__, seeds=(0,))
    options.add_argument("--stays", type=int, default=900)
    chosen = options.parse_args(arguments)
    warnings.simplefilter("ignore")
    charts = fetch_physionet2012().data
    order = np.random.default_rng(0).permutation(len(charts))[: chosen.stays]
    cut = 2 * len(order) // 3
    fitting, judged = usable(charts[np.sort(order[:cut])]), usable(charts[np.sort(order[cut:])])
    due = asked(judged)
    naive = last_values(judged, due)
    results: dict[str, Any] = {"stays": [len(fitting), len(judged)], "asked": len(due.value)}
    rows: dict[str, Any] = {"SSMFeaturesForecaster": SSMFeaturesForecaster()}
    rows |= {f"SSMForecaster, seed {s}": SSMForecaster(sp=1, random_state=s) for s in chosen.seeds}
    results["last value"] = figures(naive, naive, due, 0.0)
    started = time.process_time()
    found = boosting(fitting, judged, due)
    results["boosting"] = figures(found, naive, due, time.process_time() - started)
    print(results, flush=True)
    for name, model in rows.items():
        started = time.process_time()
        found, band = ours(model, fitting, judged, due)
        row = results[name] = figures(found, naive, due, time.process_time() - started)
        inside = (due.value >= band[:, 0]) & (due.value <= band[:, 1])
        row["covered of 80 %"] = 100 * float(inside.mean())
        print(name, row, flush=True)
    write(chosen.json, results, {}, DIFFERS, note=chosen.note)


DIFFERS = (
    "A subset of set A, split at random; boosting learns from five origins of every chart, ours from all."
)

if __name__ == "__main__":
    main()
