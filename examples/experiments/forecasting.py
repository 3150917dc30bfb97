"""Forecasting: SSMFeaturesForecaster beside seasonal naive, AutoETS and AutoTheta, in one run on one thread.

Sets of the Monash archive and of the M competitions, the last horizon of each series held back; ETTh1 on its
published split; the same sets with half of every history dropped at random, where ours knows the times and
the peers get straight lines across the gaps; and a thousand series of a thousand samples. Run as

    TSSSM_DATA=FOLDER OMP_NUM_THREADS=1 python examples/experiments/forecasting.py --json forecasting.json

AutoETS and AutoTheta are those of statsforecast, which need not be installed: without it their rows are left
out. ``--parts monash --sets m3_quarterly`` runs a part of it, ``--series 50`` the first series of each set.
"""

from __future__ import annotations

import os
import resource
import tarfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from experiment import parser, write

from tsssm import SSMFeaturesForecaster
from tsssm.datasets import fetch_ett

LEVELS = np.arange(0.1, 0.95, 0.1)
_LONGEST = 3000
# File, samples a season, horizon. Where the archive gives no horizon it is that of its benchmark.
SETS = {
    "covid_deaths": ("covid_deaths_dataset", 7, 30),
    "electricity_weekly": ("electricity_weekly_dataset", 52, 8),
    "m1_monthly": ("m1_monthly_dataset", 12, 18),
    "m1_quarterly": ("m1_quarterly_dataset", 4, 8),
    "m3_monthly": ("m3_monthly_dataset", 12, 18),
    "m3_quarterly": ("m3_quarterly_dataset", 4, 8),
    "tourism_monthly": ("tourism_monthly_dataset", 12, 24),
    "saugeen": ("saugeenday_dataset", 7, 30),
    "sunspot": ("sunspot_dataset_without_missing_values", 7, 30),
}
OURS = "SSMFeaturesForecaster"
_IRREGULAR = ("m1_monthly", "m3_monthly", "m3_quarterly", "tourism_monthly")
PAPER = {"ETTh1 MSE": {"NLinear": [0.374, 0.408, 0.429, 0.440], "PatchTST": [0.370, 0.413, 0.422, 0.447]}}


class Answer(NamedTuple):
    """Values (n, H), quantiles (n, H, 9) at `LEVELS`, the 2.5 and 97.5 % quantiles (n, H, 2), seconds."""

    values: np.ndarray
    quantiles: np.ndarray | None
    wide: np.ndarray | None
    seconds: float


def read_tsf(text: str) -> list[np.ndarray]:
    """Series of a ``.tsf`` file of the Monash archive; "?" is missing."""
    body = text[text.index("@data") :].splitlines()[1:]
    rows = [line.rsplit(":", 1)[1].split(",") for line in body if line.strip()]
    return [np.array([np.nan if value == "?" else float(value) for value in row]) for row in rows]


def load(name: str) -> list[np.ndarray]:
    """Series of one set; of very long ones the end."""
    path = Path(os.environ["TSSSM_DATA"]) / "forecasting" / "monash_dev.tar.xz"
    with tarfile.open(path) as archive:
        file = archive.extractfile(f"{SETS[name][0]}.tsf")
        assert file is not None
        return [series[-_LONGEST:] for series in read_tsf(file.read().decode("latin-1"))]


def as_frame(series: Sequence[np.ndarray]) -> pd.DataFrame:
    """Panel of one target with the index (series, number of the sample); NaN is left out."""
    frames = {i: pd.DataFrame({"y": y}).dropna() for i, y in enumerate(series)}
    return pd.concat(frames, names=["series", "time"])


def ours(series: Sequence[np.ndarray], sp: int, horizon: int) -> Answer:
    """One model for all series, fitted and asked."""
    started = time.process_time()
    ends = np.array([len(y) for y in series])
    model = SSMFeaturesForecaster(sp=sp).fit(as_frame(series), fh=np.arange(1, horizon + 1))
    # A series whose last samples were dropped ends earlier; what is asked for is not moved by that.
    shift = ends - 1 - np.array([int(np.flatnonzero(np.isfinite(y))[-1]) for y in series])
    fh = np.arange(1, horizon + int(shift.max()) + 1)
    rows = np.arange(len(series))[:, None], shift[:, None] + np.arange(horizon)
    values = model.predict(fh).to_numpy().reshape(len(series), -1)[rows]
    quantiles = model.predict_quantiles(fh, alpha=[0.025, *LEVELS, 0.975]).to_numpy()
    quantiles = quantiles.reshape(len(series), len(fh), -1)[rows]
    return Answer(values, quantiles[..., 1:-1], quantiles[..., [0, -1]], time.process_time() - started)


def seasonal_naive(series: Sequence[np.ndarray], sp: int, horizon: int) -> Answer:
    """The season before, again and again; the last value where there is none."""
    found = [np.resize(y[-sp:], horizon) if len(y) >= sp else np.full(horizon, y[-1]) for y in series]
    return Answer(np.array(found), None, None, 0.0)


def of_statsforecast(name: str) -> Callable[..., Answer] | None:
    """AutoETS or AutoTheta, a model for each series; None where statsforecast is not installed."""
    try:
        from statsforecast import models
    except ImportError:
        return None

    def forecast(series: Sequence[np.ndarray], sp: int, horizon: int) -> Answer:
        started = time.process_time()
        values, quantiles, wide = [], [], []
        widths = [20, 40, 60, 80, 95]
        for y in series:
            try:
                found = getattr(models, name)(season_length=sp).forecast(y=y, h=horizon, level=widths)
            except Exception:  # it gives up on some very short or constant series
                found = {"mean": np.full(horizon, y[-1])}
                for width in widths:
                    found[f"lo-{width}"] = found[f"hi-{width}"] = found["mean"]
            low = [found[f"lo-{width}"] for width in (80, 60, 40, 20)]
            high = [found[f"hi-{width}"] for width in (20, 40, 60, 80)]
            values.append(found["mean"])
            quantiles.append(np.stack([*low, found["mean"], *high], axis=1))
            wide.append(np.stack([found["lo-95"], found["hi-95"]], axis=1))
        used = time.process_time() - started
        return Answer(np.array(values), np.array(quantiles), np.array(wide), used)

    return forecast


def peers() -> dict[str, Callable[..., Answer]]:
    """Every method of the run by its name."""
    rows = {"seasonal naive": seasonal_naive, OURS: ours}
    rows |= {name: found for name in ("AutoETS", "AutoTheta") if (found := of_statsforecast(name))}
    return rows


def scores(answer: Answer, truth: np.ndarray, history: Sequence[np.ndarray], sp: int) -> dict[str, float]:
    """Means over series: MASE, sMAPE in %, quantile loss by the same scale, share covered in %.

    A series whose seasonal differences are all zero has no scale and is left out of the first and third.
    """
    lags = [sp if len(y) > sp else 1 for y in history]
    scale = np.array([np.mean(np.abs(y[m:] - y[:-m])) for y, m in zip(history, lags, strict=True)])
    there = scale > 0
    error = np.abs(answer.values - truth)
    size = np.abs(answer.values) + np.abs(truth)
    found = {
        "MASE": float(np.mean(error[there].mean(axis=1) / scale[there])),
        "sMAPE": float(np.mean(np.where(size > 0, 200 * error / np.where(size > 0, size, 1), 0.0))),
    }
    if answer.quantiles is not None and answer.wide is not None:
        miss = truth[:, :, None] - answer.quantiles
        loss = 2 * np.maximum(LEVELS * miss, (LEVELS - 1) * miss).mean(axis=(1, 2))
        found["scaled quantile loss"] = float(np.mean(loss[there] / scale[there]))
        for share, q in ((80, answer.quantiles[..., [0, -1]]), (95, answer.wide)):
            found[f"covered of {share} %"] = 100 * float(np.mean((truth >= q[..., 0]) & (truth <= q[..., 1])))
    return found


def split(series: Sequence[np.ndarray], horizon: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Histories, and the last ``horizon`` samples (n, H); shorter series are left out."""
    long = [y for y in series if len(y) >= horizon + 2]
    return [y[:-horizon] for y in long], np.array([y[-horizon:] for y in long])


def geometric(rows: dict[str, dict[str, dict[str, float]]], figure: str = "MASE") -> dict[str, float]:
    """Geometric mean over sets of each method's figure relative to that of seasonal naive."""
    names = set.intersection(*(set(row) for row in rows.values())) - {"seasonal naive"}
    ratio = {n: [row[n][figure] / row["seasonal naive"][figure] for row in rows.values()] for n in names}
    return {n: float(np.exp(np.mean(np.log(ratio[n])))) for n in sorted(names)}


def monash(names: Sequence[str], most: int | None, dropped: float = 0.0) -> dict[str, Any]:
    """Scores of every method on every set; with ``dropped`` that share of each history is missing."""
    results: dict[str, dict[str, dict[str, float]]] = {}
    for name in names:
        _, sp, horizon = SETS[name]
        history, truth = split(load(name)[:most], horizon)
        thin = [thinned(y, dropped, seed) for seed, y in enumerate(history)]
        results[name] = {}
        for method, forecast in peers().items():
            given = thin if method == OURS else [joined(y) for y in thin]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                answer = forecast(given, sp, horizon)
            row = {**scores(answer, truth, history, sp), "seconds": round(answer.seconds, 1)}
            results[name][method] = row
            print(f"{name}, {method}: " + ", ".join(f"{k} {v:.3f}" for k, v in row.items()), flush=True)
    return {"sets": results, "MASE relative to seasonal naive": geometric(results)}


def thinned(y: np.ndarray, share: float, seed: int) -> np.ndarray:
    """The series with a share of its samples missing at random, the first and at least one more kept."""
    if share == 0:
        return y
    gone = np.random.default_rng(seed).random(len(y)) < share
    gone[0] = False
    gone[np.random.default_rng(seed).integers(1, len(y))] = False
    return np.where(gone, np.nan, y)


def joined(y: np.ndarray) -> np.ndarray:
    """The series with straight lines across its gaps, the last value carried on."""
    known = np.isfinite(y)
    return np.interp(np.arange(len(y)), np.flatnonzero(known), y[known])


def etth1(horizons: Sequence[int] = (96, 192, 336, 720)) -> dict[str, Any]:
    """MSE and MAE on standardised data over all windows of the test part, fitted to the training part alone.

    Look-back and scaling are those with the smallest MSE on windows of the validation part.
    """
    frame = fetch_ett("ETTh1").frame
    train, validation, test = 8640, 2880, 2880
    known = frame.iloc[:train]
    values = ((frame - known.mean()) / known.std(ddof=0)).to_numpy()[: train + validation + test]
    panel = as_frame(list(values[:train].T))
    results: dict[str, Any] = {}
    for horizon in horizons:
        started, found = time.process_time(), {}
        for lags in ("auto", 96, 336):
            for scaling in ("auto", "last"):
                options = {"lags": lags, "scaling": scaling}
                model = SSMFeaturesForecaster(sp=24, transform="none", **options)
                model = model.fit(panel, fh=np.arange(1, horizon + 1)).targets_[0].alone
                # Every third window, in the part that ends where the test part begins.
                before = np.arange(train - 1, train + validation - horizon, 3)
                squares = squared_errors(model, values[: train + validation], before, horizon)
                found[np.mean(squares)] = options, model
        options, model = found[min(found)]
        chosen = time.process_time() - started
        origins = np.arange(train + validation - 1, len(values) - horizon)
        squares = squared_errors(model, values, origins, horizon)
        results[str(horizon)] = {
            "MSE": float(np.mean(squares)),
            "MAE": float(np.mean(np.sqrt(squares))),
            "chosen": {**options, "validation MSE": float(min(found))},
            "seconds of six fits and the choice": round(chosen, 1),
        }
        print(f"ETTh1, {horizon}: {results[str(horizon)]}", flush=True)
    return results


def squared_errors(model: Any, values: np.ndarray, origins: np.ndarray, horizon: int) -> np.ndarray:
    """Squares (channels, N, H) of the errors of forecasts of every channel from every origin."""
    places = origins[:, None] + np.arange(1, horizon + 1)
    return np.stack([(model.windows(column, 0, origins) - column[places]) ** 2 for column in values.T])


def scaling(n: int = 1000, lengths: Sequence[int] = (250, 500, 1000)) -> dict[str, Any]:
    """Processor seconds and memory of fit and predict, horizon 48, and how the cost grows with samples."""
    rng = np.random.default_rng(0)
    seconds = {}
    for length in lengths:
        t = np.arange(length)
        waves = np.sin(2 * np.pi * (t + rng.integers(24, size=(n, 1))) / 24)
        series = 10 + 3 * waves + 0.1 * np.cumsum(rng.normal(size=(n, length)), axis=1)
        series += 0.3 * rng.normal(size=series.shape)
        seconds[length] = round(ours(list(series), 24, 48).seconds, 1)
        print(f"{n} series of {length}: {seconds[length]} s", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    slope = np.polyfit(np.log(list(seconds)), np.log(list(seconds.values())), 1)[0]
    return {
        "series": n,
        "seconds": seconds,
        "GiB at most": round(peak, 2),
        "exponent": round(float(slope), 2),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts that are asked for, and write their figures."""
    options = parser(__doc__, seeds=(0,))
    options.add_argument("--parts", nargs="+", default=["scaling", "monash", "irregular", "etth1"])
    options.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    options.add_argument("--series", type=int, help="only so many of each set")
    chosen = options.parse_args(arguments)
    results: dict[str, Any] = {}
    for part in chosen.parts:  # scaling first, because the memory is that of the whole process
        if part == "monash":
            results[part] = monash(chosen.sets, chosen.series)
        elif part == "irregular":
            names = [name for name in chosen.sets if name in _IRREGULAR]
            most = min(chosen.series or 200, 200)
            results[part] = {"whole": monash(names, most), "half dropped": monash(names, most, 0.5)}
        elif part == "etth1":
            results[part] = etth1()
        elif part == "scaling":
            results[part] = scaling()
        else:
            raise SystemExit(f"no such part: {part}")
        write(chosen.json, results, PAPER, DIFFERS, note=chosen.note)


DIFFERS = (
    "Ours fits one model to all series of a set, AutoETS and AutoTheta one to each. Of saugeen and sunspot "
    f"every method gets the last {_LONGEST} samples. Seconds are those of the processor, intervals included. "
    "In 'irregular' the first 200 series of a set, one mask each. ETTh1: fitted to the training part alone."
)

if __name__ == "__main__":
    main()
