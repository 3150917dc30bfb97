"""What forecasting is compared with: statsforecast, mlforecast, NLinear and DLinear on one long table.

Each library may be missing; its rows are then left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

LEVELS = np.arange(0.1, 0.95, 0.1)


class Answer(NamedTuple):
    """Values (n, H), quantiles (n, H, 9) at `LEVELS`, the 2.5 and 97.5 % quantiles (n, H, 2), seconds."""

    values: np.ndarray
    quantiles: np.ndarray | None
    wide: np.ndarray | None
    seconds: float


def seasonal_naive(series: Sequence[np.ndarray], sp: int, horizon: int) -> Answer:
    """The season before, again and again; the last value where there is none."""
    found = [np.resize(y[-sp:], horizon) if len(y) >= sp else np.full(horizon, y[-1]) for y in series]
    return Answer(np.array(found), None, None, 0.0)


def of_statsforecast(name: str) -> Callable[..., Answer] | None:
    """AutoETS, AutoTheta or AutoARIMA, a model for each series; None where statsforecast is missing."""
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


def of_mlforecast() -> Callable[..., Answer] | None:
    """LightGBM on lags of differences, one model for all series, from step to step; None without it."""
    try:
        from lightgbm import LGBMRegressor
        from mlforecast import MLForecast
        from mlforecast.target_transforms import Differences, LocalStandardScaler
    except ImportError:
        return None

    def forecast(series: Sequence[np.ndarray], sp: int, horizon: int) -> Answer:
        started = time.process_time()
        frame = pd.concat(
            [pd.DataFrame({"unique_id": i, "ds": np.arange(len(y)), "y": y}) for i, y in enumerate(series)],
            ignore_index=True,
        )
        # As many lags as the shortest series has samples to spare.
        most = max(2, min(max(12, sp + 1), min(map(len, series)) - 3))
        model = MLForecast(
            models={"y": LGBMRegressor(verbosity=-1, n_jobs=1, random_state=0)},
            freq=1,
            lags=list(range(1, most + 1)),
            target_transforms=[Differences([1]), LocalStandardScaler()],
        )
        found = model.fit(frame).predict(horizon).sort_values(["unique_id", "ds"])
        values = found["y"].to_numpy().reshape(len(series), horizon)
        return Answer(values, None, None, time.process_time() - started)

    return forecast


def linear(
    values: np.ndarray,
    train: int,
    validation: int,
    horizon: int,
    seed: int,
    kind: str = "NLinear",
    look_back: int = 336,
) -> tuple[float, float]:
    """MSE and MAE of NLinear or DLinear (arXiv 2205.13504) on what follows training and validation.

    One linear map for all channels on windows without their last value, or one on their moving averages over
    25 samples and one on the rest, by Adam, as published: batches of 32, ten epochs at most, an initial rate
    of 0.005 that is halved after each, stopped by the validation loss.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    data = torch.as_tensor(values, dtype=torch.float32)
    torch.manual_seed(seed)
    net = torch.nn.ModuleList([torch.nn.Linear(look_back, horizon) for _ in range(1 + (kind == "DLinear"))])
    optimizer = torch.optim.Adam(net.parameters(), lr=0.005)

    def errors(origins: torch.Tensor) -> torch.Tensor:
        past = data[origins[:, None] + torch.arange(1 - look_back, 1)].transpose(1, 2)
        ahead = data[origins[:, None] + torch.arange(1, horizon + 1)].transpose(1, 2)
        if kind == "DLinear":
            trend = torch.nn.functional.avg_pool1d(
                torch.nn.functional.pad(past, (12, 12), mode="replicate"), 25, stride=1
            )
            return net[0](trend) + net[1](past - trend) - ahead
        last = past[..., -1:]
        return net[0](past - last) + last - ahead

    def over(origins: torch.Tensor) -> tuple[float, float]:
        with torch.no_grad():
            parts = [errors(part) for part in origins.split(256)]
        squares = sum(float(part.square().sum()) for part in parts)
        sizes = sum(float(part.abs().sum()) for part in parts)
        count = sum(part.numel() for part in parts)
        return squares / count, sizes / count

    before = torch.arange(look_back - 1, train - horizon)
    judged = torch.arange(train - 1, train + validation - horizon)
    best, kept, waited = np.inf, net.state_dict(), 0
    for epoch in range(10):
        for rows in before[torch.randperm(len(before), generator=generator)].split(32):
            optimizer.zero_grad()
            errors(rows).square().mean().backward()
            optimizer.step()
        score = over(judged)[0]
        waited += 1
        if score < best:
            best, waited = score, 0
            kept = {name: weight.clone() for name, weight in net.state_dict().items()}
        if waited == 3:
            break
        for group in optimizer.param_groups:
            group["lr"] = 0.005 * 0.5 ** (epoch + 1)
    net.load_state_dict(kept)
    return over(torch.arange(train + validation - 1, len(values) - horizon))
