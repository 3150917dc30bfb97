"""Hostile panels at random, through constructors, fit, predict and streams: does any get past the checks?

    python tests/fuzz.py --panels 20000 --seed 0

Each panel is either refused, by an error that comes from this package and says what is wrong, or answered
with finite numbers: the same for a series alone, in company, in another order and sample by sample. Whatever
else happens is printed with the number of its panel, which as ``--seed`` makes the same one again.
``test_fuzz.py`` runs some dozens.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch

from tsssm import (
    Panel,
    SSMClassifier,
    SSMFeatures,
    SSMFeaturesClassifier,
    SSMFeaturesRegressor,
    SSMRegressor,
    Stream,
)
from tsssm.backbone import BACKBONES

Generator = np.random.Generator

_NETWORK: dict[str, Any] = {"n_layers": 2, "d_model": 4, "d_state": 4, "max_steps": 2, "random_state": 0}
_FEATURES: dict[str, Any] = {"n_features": 64, "n_scales": 2, "random_state": 0}
_REFUSED = (TypeError, ValueError, FloatingPointError)
# Outputs of the networks and probabilities are of the order of one; a threshold may fall on either side of a
# value of a feature, and then moves it by its share of time.
_SAME = {"rtol": 1e-3, "atol": 1e-3}


def values(rng: Generator, d: int, length: int) -> np.ndarray:
    """One series (d, length) of some size, with some of what data should not have."""
    size = 10.0 ** rng.choice([0.0, 0.0, 0.0, rng.uniform(-45, 38)])
    x = rng.normal(size=(d, length)) * size
    if rng.random() < 0.2:
        x += rng.choice([1.0, -1.0]) * 10.0 ** rng.uniform(0, 12)
    if rng.random() < 0.2:
        x[rng.integers(d)] *= 10.0 ** rng.uniform(-30, 10)
    if rng.random() < 0.1:
        x[rng.integers(d)] = rng.choice([0.0, -0.0, 1e-45, 7.5])
    for worth in (np.nan, 1e12, -1e25, 3e38, 1e-45):
        if rng.random() < 0.07:
            x[rng.random(x.shape) < rng.choice([0.02, 0.5])] = worth
    if rng.random() < 0.05:
        x[rng.integers(d)] = np.nan
    return np.clip(x, -3.4e38, 3.4e38)


def times(rng: Generator, length: int) -> np.ndarray:
    """Times (length,) that do not decrease, of any size."""
    gaps = rng.choice([0.0, 1.0, 1.0, 1.0, 0.5, 2.0], size=length)
    if rng.random() < 0.5:
        gaps = rng.exponential(size=length)
    if rng.random() < 0.3:
        gaps[rng.random(length) < 0.2] *= 10.0 ** rng.uniform(-20, 20)
    if rng.random() < 0.1:
        gaps[rng.integers(length)] = 10.0 ** rng.uniform(-320, 60)
    t = np.cumsum(gaps) * 10.0 ** rng.choice([0.0, 0.0, 0.0, rng.uniform(-15, 15)])
    start = rng.choice([0.0, -3.0, 1e9, 10.0 ** rng.uniform(0, 30)])
    return np.maximum.accumulate(t + start)


def panel(rng: Generator, d: int, timed: bool) -> Panel:
    """A hostile but valid panel."""
    lengths = rng.integers(1, 25, size=rng.integers(1, 7))
    if rng.random() < 0.3:
        lengths[:] = lengths[0]
    if rng.random() < 0.03:
        lengths[0] = 400
    series = [values(rng, d, length) for length in lengths]
    return Panel.from_arrays(series, [times(rng, length) for length in lengths] if timed else None)


def _objects(rng: Generator, x: np.ndarray) -> np.ndarray:
    x = x.astype(object)
    x.flat[rng.integers(x.size)] = rng.choice(np.array([None, pd.NA, "high", 10**400, True], dtype=object))
    return x


def _frames(rng: Generator, x: np.ndarray) -> list[pd.DataFrame]:
    index: Any = times(rng, x.shape[2])
    stamps = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(x.shape[2]), unit="h")
    index = (index, index[::-1], stamps, stamps.strftime("%X"), pd.array(index, dtype="Float64"))[
        rng.integers(5)
    ]
    return [pd.DataFrame(one.T, index=pd.Index(index)) for one in x]


#: Containers of an array (n, d, length), many of which are wrong in some way.
CONTAINERS: list[Callable[[Generator, np.ndarray], Any]] = [
    lambda rng, x: x,
    lambda rng, x: x[:, 0],
    lambda rng, x: x.astype(np.float32),
    lambda rng, x: np.nan_to_num(x).clip(-1e18, 1e18).astype(np.int64),
    lambda rng, x: x.astype(np.longdouble) * 10,
    lambda rng, x: x.astype(complex),
    lambda rng, x: x > 0,
    lambda rng, x: np.where(rng.random(x.shape) < 0.01, np.inf, x),
    lambda rng, x: np.ma.masked_array(x, rng.random(x.shape) < 0.3),
    lambda rng, x: np.ma.masked_array(x.astype(object), rng.random(x.shape) < 0.3),
    _objects,
    lambda rng, x: list(x),
    lambda rng, x: [one[:, : rng.integers(x.shape[2] + 1)] for one in x],
    lambda rng, x: tuple(map(torch.from_numpy, x)),
    lambda rng, x: torch.from_numpy(x).requires_grad_(),
    lambda rng, x: torch.from_numpy(x).bfloat16(),
    lambda rng, x: torch.from_numpy(x).to_sparse(),
    lambda rng, x: torch.from_numpy(x).to("meta"),
    _frames,
    lambda rng, x: pd.concat(dict(enumerate(_frames(rng, x)))),
    lambda rng, x: pd.DataFrame({c: list(x[:, c]) for c in range(x.shape[1])}),
    lambda rng, x: pd.DataFrame(x[:, 0]).astype("Float64"),
    lambda rng, x: x[:0],
    lambda rng, x: x[..., :0],
    lambda rng, x: x[0, 0],
    lambda rng, x: {"a": x},
    lambda rng, x: None,
]


class Models:
    """Fitted models, for one or two channels, with and without times in training."""

    def __init__(self, backbones: tuple[str, ...] = tuple(BACKBONES), asked: int = 6) -> None:
        self.backbones = backbones
        #: How many of the six models are asked about a panel that has to be answered.
        self.asked = asked
        rng = np.random.default_rng(0)
        self.fitted: dict[tuple[int, bool], list[Any]] = {}
        for d in (1, 2):
            x = rng.normal(size=(12, d, 20))
            x[x > 2] = np.nan
            t = np.cumsum(rng.exponential(size=(12, 20)), axis=1)
            y = np.arange(12) % 3
            for timed in (False, True):
                X = Panel.from_numpy(x, t if timed else None)
                self.fitted[d, timed] = [model.fit(X, y) for model in self.fresh(rng)]

    def fresh(self, rng: Generator) -> list[Any]:
        """Models before their fit, with options at random."""
        backbones = [str(name) for name in rng.choice(self.backbones, size=3)]
        pooling = rng.choice(["mean", "max", "last"])
        norm = rng.choice(["batch", "layer", "none"])
        normalize = rng.choice(np.array(["auto", "series", "global", None], dtype=object))
        kept = [("ppv", "competition"), ("competition",), ("ppv",)][rng.integers(3)]
        options = {**_FEATURES, "normalize": normalize, "pooling": kept}
        return [
            SSMClassifier(**_NETWORK, backbone=backbones[0], bidirectional=False, pooling=pooling, norm=norm),
            SSMRegressor(**_NETWORK, backbone=backbones[1], bidirectional=False, norm="layer"),
            SSMRegressor(**_NETWORK, backbone=backbones[2], loss="gaussian"),
            SSMFeaturesClassifier(**options, basis=str(rng.choice(["diagonal", "legt", "legs"]))),
            SSMFeaturesRegressor(**options),
            SSMFeatures(**{**options, "normalize": None}),
        ]


def answer(model: Any, X: Any) -> np.ndarray:
    """What a model says of each series, as numbers (n, ...)."""
    for method in ("predict_proba", "transform", "predict"):
        if hasattr(model, method):
            return np.asarray(getattr(model, method)(X))
    raise AssertionError


def _scale(model: Any) -> float:
    return float(getattr(getattr(model, "_targets", None), "std", np.ones(1)).max())


def _streamed(model: Any, X: Panel) -> np.ndarray | None:
    try:
        stream = Stream(model)
    except ValueError:
        return None  # bidirectional, or normalised by series
    return np.asarray(stream.push_many(X.values, X.times))[-1]


def check_valid(models: list[Any], X: Panel, rng: Generator) -> Iterator[str]:
    """Yield what is wrong with the answers to a panel that has to be answered."""
    for model in models:
        name = type(model).__name__
        together = answer(model, X)
        if not np.isfinite(together).all():
            yield f"{name}: answers that are not finite"
            continue
        order = rng.permutation(len(X))
        i = int(rng.integers(len(X)))
        alone = {"permuted": answer(model, X[order])[np.argsort(order)][i], "alone": answer(model, X[i])[0]}
        streamed = _streamed(model, X[i])
        if streamed is not None:
            alone["streamed"] = streamed
        for how, got in alone.items():
            if not np.allclose(got / _scale(model), together[i] / _scale(model), **_SAME):
                worst = np.abs(got - together[i]).max() / _scale(model)
                yield f"{name}: series {i} {how} differs by {worst:.2g}"


def check_fit(models: Models, X: Panel, rng: Generator) -> Iterator[str]:
    """Yield what is wrong with a fit to a hostile panel."""
    model = models.fresh(rng)[rng.integers(6)]
    y = (
        np.arange(len(X)) % 2
        if rng.random() < 0.5
        else rng.normal(size=len(X)) * 10.0 ** rng.uniform(-10, 10)
    )
    if "Classifier" in type(model).__name__:
        y = (y > np.median(y)).astype(int) if len(X) > 1 else np.zeros(1)
    yield from check_valid([model.fit(X, y)], X, rng)


def from_inside(error: BaseException) -> bool:
    """Whether an error was raised by somebody else than this package and scikit-learn's checks of X and y."""
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    return "tsssm" not in last and "sklearn" not in last


def draw(seed: int) -> tuple[Generator, str, int, bool]:
    """The generator of a panel, what is done with it, its channels, and whether it has times."""
    rng = np.random.default_rng(seed)
    d, timed = int(rng.integers(1, 3)), bool(rng.random() < 0.6)
    return rng, str(rng.choice(["valid", "container", "fit"], p=[0.6, 0.3, 0.1])), d, timed


def attempt(seed: int, models: Models, counts: Counter[str]) -> Iterator[str]:
    """Make one hostile panel and yield what went wrong with it."""
    rng, kind, d, timed = draw(seed)
    try:
        if kind == "container":
            x = np.stack([values(rng, d, 6) for _ in range(rng.integers(1, 5))])
            X = CONTAINERS[rng.integers(len(CONTAINERS))](rng, x)
            model = models.fitted[d, False][rng.integers(6)]
            if not np.isfinite(answer(model, X)).all():
                yield f"{type(model).__name__}: answers that are not finite"
        elif kind == "valid":
            X = panel(rng, d, timed)
            fitted = models.fitted[d, timed]
            chosen = range(6) if models.asked == 6 else rng.choice(6, size=models.asked, replace=False)
            yield from check_valid([fitted[k] for k in chosen], X, rng)
        else:
            yield from check_fit(models, panel(rng, d, timed), rng)
        counts[f"{kind}, answered"] += 1
    except _REFUSED as error:
        counts[f"{kind}, refused"] += 1
        where = traceback.extract_tb(error.__traceback__)[-1]
        if from_inside(error):
            yield f"from inside ({where.filename}:{where.lineno}): {type(error).__name__}: {error}"
        elif kind == "valid":
            yield f"refused: {type(error).__name__}: {error}"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        yield f"{type(error).__name__} ({where.filename}:{where.lineno}): {error}"


@contextmanager
def strict() -> Iterator[None]:
    """Make errors of NumPy's warnings, and leave out those that are meant for the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.simplefilter("ignore", UserWarning)
        yield


def run(
    panels: int, seed: int, seconds: float = np.inf, models: Models | None = None
) -> tuple[Counter[str], list[str]]:
    """Try so many panels, or for so long; return how they ended, and what went wrong."""
    counts: Counter[str] = Counter()
    found = []
    with strict():
        models = models or Models()
        until = time.monotonic() + seconds
        for number in range(seed, seed + panels):
            for what in attempt(number, models, counts):
                found.append(f"{number}: {what}")
            if time.monotonic() > until:
                break
    return counts, found


def main() -> int:
    """Run from the command line; the exit code is 1 if anything was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--panels", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=np.inf)
    parser.add_argument("--models", type=int, default=6, choices=range(1, 7), help="asked about each panel")
    arguments = parser.parse_args()
    with strict():
        models = Models(asked=arguments.models)
    counts, found = run(arguments.panels, arguments.seed, arguments.seconds, models)
    print(*found, sep="\n")
    print(dict(counts), f"{len(found)} suspect")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
