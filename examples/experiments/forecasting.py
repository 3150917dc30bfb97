"""Forecasting: ours beside seasonal naive, AutoETS, AutoTheta, AutoARIMA, LightGBM, NLinear and DLinear.

Sets of the Monash archive and of the M competitions, the last horizon of each series held back; ETTh1 on its
published split; the same sets with half and four fifths of every history dropped at random, where ours know
the times and the peers get straight lines across the gaps; a thousand series of a thousand samples. Run as

    TSSSM_DATA=FOLDER OMP_NUM_THREADS=1 python examples/experiments/forecasting.py --json forecasting.json

AutoETS and AutoTheta are those of statsforecast, LightGBM is that of mlforecast, which need not be installed:
without them their rows are left out. ``--parts monash --sets m3_quarterly`` runs a part of it,
``--series 50`` the first series of each set.
"""

from __future__ import annotations

import os
import resource
import tarfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from experiment import parser, write
from forecasting_peers import LEVELS, Answer, linear, of_mlforecast, of_statsforecast, seasonal_naive

from tsssm import SSMFeaturesForecaster, SSMForecaster
from tsssm.datasets import fetch_ett
from tsssm.forecasting import Track, Tracks

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
OURS, TRAINED = "SSMFeaturesForecaster", "SSMForecaster"
STATISTICAL, LINEAR = ("AutoETS", "AutoTheta", "AutoARIMA"), ("NLinear", "DLinear")
# AutoARIMA, which takes minutes for long series, has to be asked for.
USUAL = [OURS, TRAINED, "AutoETS", "AutoTheta", "LightGBM", *LINEAR]
_IRREGULAR = ("m1_monthly", "m3_monthly", "m3_quarterly", "tourism_monthly")
PAPER = {"ETTh1 MSE": {"NLinear": [0.374, 0.408, 0.429, 0.440], "PatchTST": [0.370, 0.413, 0.422, 0.447]}}


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
    owner = np.repeat(np.arange(len(series)), [len(y) for y in series])
    index = pd.MultiIndex.from_arrays(
        [owner, np.concatenate([np.arange(len(y)) for y in series])], names=["series", "time"]
    )
    return pd.DataFrame({"y": np.concatenate(series)}, index=index).dropna()


def ours(series: Sequence[np.ndarray], sp: int, horizon: int) -> Answer:
    """The closed form, one model for all series."""
    return asked(SSMFeaturesForecaster(sp=sp), series, horizon)


def trained(seed: int) -> Callable[..., Answer]:
    """The network on top, one for all series."""
    return lambda series, sp, horizon: asked(SSMForecaster(sp=sp, random_state=seed), series, horizon)


def asked(model: Any, series: Sequence[np.ndarray], horizon: int) -> Answer:
    """Fit a model to all series and ask it."""
    started = time.process_time()
    ends = np.array([len(y) for y in series])
    model.fit(as_frame(series), fh=np.arange(1, horizon + 1))
    # A series whose last samples were dropped ends earlier; what is asked for is not moved by that.
    shift = ends - 1 - np.array([int(np.flatnonzero(np.isfinite(y))[-1]) for y in series])
    fh = np.arange(1, horizon + int(shift.max()) + 1)
    rows = np.arange(len(series))[:, None], shift[:, None] + np.arange(horizon)
    quantiles = model.predict_quantiles(fh, alpha=[0.025, *LEVELS, 0.975]).to_numpy()
    quantiles = quantiles.reshape(len(series), len(fh), -1)[rows]
    used = time.process_time() - started
    middle = quantiles[..., 1 + len(LEVELS) // 2]  # which is what predict forecasts
    return Answer(middle, quantiles[..., 1:-1], quantiles[..., [0, -1]], used)


def peers(chosen: Sequence[str], seeds: Sequence[int] = (0,)) -> dict[str, Callable[..., Answer]]:
    """Methods by their names, those that can be run; after seed 0 the others are named."""
    rows: dict[str, Any] = {"seasonal naive": seasonal_naive, OURS: ours}
    rows |= {of_seed(seed): trained(seed) for seed in seeds}
    rows |= {name: of_statsforecast(name) for name in STATISTICAL}
    rows["LightGBM"] = of_mlforecast()
    wanted = {"seasonal naive", *chosen, *(of_seed(seed) for seed in seeds if TRAINED in chosen)}
    return {name: row for name, row in rows.items() if row and name in wanted}


def of_seed(seed: int) -> str:
    """Name of the network's row."""
    return TRAINED if seed == 0 else f"{TRAINED}, seed {seed}"


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


def monash(
    names: Sequence[str],
    most: int | None,
    dropped: float = 0.0,
    methods: Sequence[str] = USUAL,
    seeds: Sequence[int] = (0,),
) -> dict[str, Any]:
    """Scores of every method on every set; with ``dropped`` that share of each history is missing."""
    results: dict[str, dict[str, dict[str, float]]] = {}
    rows = peers(methods, seeds)
    for method, forecast in rows.items():
        if not method.startswith(TRAINED):  # the first call of each, which loads its libraries, is not timed
            forecast([np.sin(np.arange(40.0) + i) for i in range(3)], 4, 8)
    for name in names:
        _, sp, horizon = SETS[name]
        history, truth = split(load(name)[:most], horizon)
        thin = [thinned(y, dropped, seed) for seed, y in enumerate(history)]
        results[name] = {}
        for method, forecast in rows.items():
            given = thin if method.startswith((OURS, TRAINED)) else [joined(y) for y in thin]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                answer = forecast(given, sp, horizon)
            row = {**scores(answer, truth, history, sp), "seconds": round(answer.seconds, 2)}
            results[name][method] = row
            print(f"{name}, {method}: " + ", ".join(f"{k} {v:.3f}" for k, v in row.items()), flush=True)
    return {"sets": results, "MASE relative to seasonal naive": geometric(results)}


def ends(names: Sequence[str], most: int | None) -> dict[str, dict[str, Any]]:
    """Shares that 80 and 95 % intervals of the closed form cover after several ends of each history.

    Of sets of many series the end of the histories and up to three ends a horizon apart, where thirty series
    are long enough; of single series twenty ends, three horizons apart. What one end shows is chance: its
    series have the same months before them, and a single series has one path. ``most`` series are taken from
    all over the set, because the first ones may be short.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        _, sp, horizon = SETS[name]
        series = load(name)
        series = series[:: max(1, len(series) // (most or len(series)))][:most]
        backs = range(0, 60, 3) if len(series) == 1 else range(4)
        inside: list[list[float]] = []
        for back in backs:
            cut = [y[: max(len(y) - back * horizon, 0)] for y in series]
            cut = [y for y in cut if len(y) >= 3 * horizon + 2]
            if len(cut) < min(len(series), 30):
                continue
            history, truth = split(cut, horizon)
            row = scores(ours(history, sp, horizon), truth, history, sp)
            inside.append([row["covered of 80 %"], row["covered of 95 %"]])
        each = np.array(inside)
        found[name] = {
            "ends": len(each),
            "covered of 80 %": float(each[:, 0].mean()),
            "deviation of one end": float(each[:, 0].std(ddof=1)) if len(each) > 1 else None,
            "covered of 95 %": float(each[:, 1].mean()),
        }
        print(f"{name}: {found[name]}", flush=True)
    return found


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


def etth1(horizons: Sequence[int], seeds: Sequence[int], methods: Sequence[str]) -> dict[str, Any]:
    """MSE and MAE on standardised data over all windows of the test part, fitted to the training part alone.

    Of the validation part NLinear takes when to stop; ours hold out the end of the training part. That the
    closed form looks 512 samples back by itself was chosen on the validation part.
    """
    frame = fetch_ett("ETTh1").frame
    train, validation, test = 8640, 2880, 2880
    known = frame.iloc[:train]
    values = ((frame - known.mean()) / known.std(ddof=0)).to_numpy()[: train + validation + test]
    panel = as_frame(list(values[:train].T))
    origins = np.arange(train + validation - 1, len(values))
    results: dict[str, Any] = {}
    for horizon in horizons:
        row = results[str(horizon)] = {}
        fh, ends = np.arange(1, horizon + 1), origins[: len(origins) - horizon]
        if OURS in methods:
            started = time.process_time()
            model = SSMFeaturesForecaster(sp=24, loss="squared_error").fit(panel, fh=fh)
            used = time.process_time() - started
            row[OURS] = [figures(errors_from(model, values, ends, horizon), used, {})]
        for seed in seeds:
            if TRAINED in methods:
                started = time.process_time()
                network = SSMForecaster(sp=24, loss="squared_error", random_state=seed).fit(panel, fh=fh)
                used = time.process_time() - started
                told = {"seed": seed, "share": network.network_.shares.tolist()}
                errors = errors_from(network, values, ends, horizon)
                row.setdefault(TRAINED, []).append(figures(errors, used, told))
            for name in set(LINEAR) & set(methods):
                started = time.process_time()
                mse, mae = linear(values, train, validation, horizon, seed, name)
                used = round(time.process_time() - started, 1)
                row.setdefault(name, []).append({"MSE": mse, "MAE": mae, "seconds": used, "seed": seed})
        print(f"ETTh1, {horizon}: {row}", flush=True)
    return results


def figures(errors: np.ndarray, seconds: float, told: dict[str, Any]) -> dict[str, Any]:
    """MSE, MAE, the seconds of fitting, and what else is to be told."""
    mse, mae = float(np.mean(errors**2)), float(np.mean(np.abs(errors)))
    return {"MSE": mse, "MAE": mae, "seconds": round(seconds, 1), **told}


def errors_from(model: Any, values: np.ndarray, origins: np.ndarray, horizon: int) -> np.ndarray:
    """Errors (channels, N, H) of forecasts of every channel from every origin."""
    places = origins[:, None] + np.arange(1, horizon + 1)
    correction, found = getattr(model, "network_", None), []
    for column in values.T:
        path = model.targets_[0].alone.windows(column, 0, origins)
        if correction is not None:
            empty = np.zeros((len(column), 0))
            data = Tracks([Track(0, column, 0, np.zeros(len(column)), empty)], correction.view)
            for rows in np.array_split(np.arange(len(origins)), max(1, len(origins) // 256)):
                ends = torch.as_tensor(origins[rows])
                seen = data.seen(ends)
                tau = torch.arange(1.0, horizon + 1).expand(len(rows), -1)
                none = torch.zeros(len(rows), horizon, 0)
                at = data.ahead(ends, seen, tau, torch.as_tensor(path[rows]), none, none)
                with torch.inference_mode():
                    z = correction.net(seen.u, seen.dt, at).double().numpy()
                path[rows] += seen.scale.numpy()[:, None] * correction.middle(z, 0)
        found.append(path - column[places])
    return np.stack(found)


def scaling(n: int = 1000, lengths: Sequence[int] = (250, 500, 1000)) -> dict[str, Any]:
    """Processor seconds and memory of fit and predict, horizon 48, and how the cost grows with samples."""
    rng = np.random.default_rng(0)
    seconds = {}
    ours([np.sin(np.arange(200.0) + i) for i in range(3)], 24, 48)  # loads what is loaded once
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
    options.add_argument("--parts", nargs="+", default=["scaling", "monash", "ends", "irregular", "etth1"])
    options.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    options.add_argument("--series", type=int, help="only so many of each set")
    options.add_argument("--horizons", nargs="+", type=int, default=[96, 192, 336, 720], help="of ETTh1")
    options.add_argument("--methods", nargs="+", default=USUAL, choices=[*USUAL, "AutoARIMA"])
    chosen = options.parse_args(arguments)
    results: dict[str, Any] = {}
    for part in chosen.parts:  # scaling first, because the memory is that of the whole process
        if part == "monash":
            results[part] = monash(chosen.sets, chosen.series, 0.0, chosen.methods, chosen.seeds)
        elif part == "irregular":
            names = [name for name in chosen.sets if name in _IRREGULAR]
            most = min(chosen.series or 200, 200)
            results[part] = {
                label: monash(names, most, share, chosen.methods, chosen.seeds)
                for label, share in (("whole", 0.0), ("half dropped", 0.5), ("four fifths dropped", 0.8))
            }
        elif part == "ends":
            results[part] = ends(chosen.sets, chosen.series)
        elif part == "etth1":
            results[part] = etth1(chosen.horizons, chosen.seeds, chosen.methods)
        elif part == "scaling":
            results[part] = scaling()
        else:
            raise SystemExit(f"no such part: {part}")
        write(chosen.json, results, PAPER, DIFFERS, note=chosen.note)


DIFFERS = (
    "Ours fits one model to all series of a set, AutoETS and AutoTheta one to each. Of saugeen and sunspot "
    f"every method gets the last {_LONGEST} samples. Seconds are those of the processor, intervals included. "
    "In 'irregular' the first 200 series of a set, one mask each. ETTh1: fitted to the training part alone. "
    "LightGBM without intervals; a single model, as ours are."
)

if __name__ == "__main__":
    main()
