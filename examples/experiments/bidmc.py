"""Heart rate, respiratory rate and oxygen saturation from 32 s of an intensive-care monitor (BIDMC).

By subject first: 22 records train, 6 others (08, 18, 27, 38, 49, 53) test. Beside it the split by window of
the papers, which puts windows that overlap by up to 29 s into training and test, and so measures how well
patients are remembered. Inputs are the photoplethysmogram (PLETH) and lead II of the ECG.

A recording played 1.2 times faster is one of a heart that beats 1.2 times faster. The networks are trained on
short pieces of windows at many speeds, and 22 patients cover every rate; they are asked about all of a test
window at several speeds, and the mean of their answers counts. Figures are added to those of the file. Run as

    TSSSM_DATA=FOLDER OMP_NUM_THREADS=1 python examples/experiments/bidmc.py [--json results.json]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from experiment import parameter_count, parser, spread, write
from scipy.signal import butter, find_peaks, resample_poly, sosfiltfilt
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from tsssm import SSMRegressor
from tsssm.datasets import fetch_bidmc

Array = npt.NDArray[Any]

HERTZ = 62.5  # of the recordings here, every second sample of those published
KEPT = 5  # one sample in so many of the filtered signals: 12.5 Hz
QRS = (8.0, 20.0)  # Hz, where the ECG of a beat is and its T wave is not
SMOOTHEST = 3.0  # Hz, the fastest that is kept of the filtered signals

UNITS = {"HR": "beats a minute", "RR": "breaths a minute", "SpO2": "%"}
METHODS = ("network", "simple", "rocket", "inception")
OURS = "SSMRegressor"

PAPER = {"Liquid-S4 (2209.12951), RMSE": {"HR": 0.303, "RR": 0.158, "SpO2": 0.066}}
DIFFERS = (
    "The paper splits windows of all 53 records at random, so that its figures go beside those by window "
    "alone; here are the 28 records of the registry. It trains large networks for hundreds of epochs on a "
    "GPU; here small ones train for minutes on one core. It reads the 4,000 samples of a window as they are."
)


Played = dict[int, Array]  # inputs (n, 2, length) of windows by the speed, in tenths


class Windows(NamedTuple):
    """Windows X (n, 2, length) of PLETH and ECG, their target y (n,), and the record (n,) they are of."""

    X: Array
    y: Array
    record: Array


class Recipe(NamedTuple):
    """How networks are trained and asked.

    ``inputs`` turns recordings into inputs; ``speeds`` and ``asked`` are the speeds, in tenths, at which
    windows are played in training and prediction; in training, targets stay within ``between``, for extreme
    rates would cost most. Training takes ``pieces`` random pieces of ``piece`` samples, once; ``networks``
    networks with ``settings`` of `SSMRegressor` answer, and their mean counts, as `answers`
    says, with ``tilt``.
    """

    inputs: Callable[[Array], Array]
    speeds: Sequence[int]
    asked: Sequence[int]
    tilt: float
    between: tuple[float, float]
    piece: int
    pieces: int
    networks: int
    settings: Mapping[str, Any]


def band(X: Array, low: float | None, high: float) -> Array:
    """Frequencies from ``low`` (None is 0) to ``high`` Hz, without a shift in time."""
    edges, kind = (high, "lowpass") if low is None else ((low, high), "bandpass")
    return sosfiltfilt(butter(2, edges, kind, fs=HERTZ, output="sos"), X)


def standardised(X: Array) -> Array:
    """Every channel of every series with mean 0 and variance 1, or 0 where it is constant."""
    X = X - X.mean(axis=-1, keepdims=True)
    std = X.std(axis=-1, keepdims=True)
    return X / np.where(std > 0, std, 1)


def pulses(X: Array, slowest: float) -> Array:
    """Smooth pulses of the two channels: PLETH above ``slowest`` Hz, and how strong the QRS complex is.

    The filters come after the change of speed, so that the pulse of a beat is as wide at every rate.
    """
    pleth = band(X[:, 0], slowest, SMOOTHEST)
    qrs = band(np.abs(band(X[:, 1], *QRS)), None, SMOOTHEST)
    return np.clip(standardised(np.stack([pleth, qrs], axis=1))[:, :, ::KEPT], -4, 4).astype(np.float32)


def beats(X: Array) -> Array:
    """Pulses without the movement of the baseline by the breath."""
    return pulses(X, 0.5)


def breaths(X: Array) -> Array:
    """Pulses with it."""
    return pulses(X, 0.1)


def levels(X: Array) -> Array:
    """The recordings as they are: level and height, by which patients differ, at every fourth sample."""
    return band(X, None, 6.0)[:, :, ::4].astype(np.float32)


# Chosen on folds of the training records (--fold). What mattered, most first: many speeds; layer
# normalisation, so that the height of pulses counts for little; filters after the change of speed; absolute
# errors and a larger learning rate of the systems; a QRS band above the T wave; no rates that patients do not
# have. Pieces of 8 s are as good as longer ones, and cheaper.
RATE = Recipe(
    inputs=beats,
    speeds=range(6, 17),
    asked=(9, 10, 11),
    tilt=0.4,
    between=(45.0, 140.0),
    piece=100,
    pieces=48_000,
    networks=2,
    settings={
        "norm": "layer",
        "dropout": 0.0,
        "loss": "absolute_error",
        "learning_rate": 1e-2,
        "ssm_learning_rate": 3e-3,
        "batch_size": 64,
    },
)
# Breaths are slow: pieces of 24 s. Saturation does not depend on speed.
SLOW = RATE._replace(
    inputs=breaths,
    speeds=range(7, 14),
    tilt=0.0,
    between=(0.0, 1000.0),
    piece=300,
    pieces=12_800,
    networks=1,
    settings={**RATE.settings, "batch_size": 32},
)
STILL = SLOW._replace(speeds=(10,), asked=(10,), settings={**SLOW.settings, "loss": "squared_error"})
# A patient is known by the level and the shape of signals.
MEMORY = STILL._replace(inputs=levels, piece=250, pieces=16_000, settings={**STILL.settings, "norm": "batch"})
RECIPES: dict[str, dict[str, Recipe]] = {
    "subject": {"HR": RATE, "RR": SLOW, "SpO2": STILL},
    "window": {"HR": RATE._replace(networks=1), "RR": MEMORY, "SpO2": MEMORY},
}


def load(target: str, split: str, part: str) -> Windows:
    """Windows of one part of a split, at 62.5 Hz."""
    found = fetch_bidmc(target, split=split, part=part, decimate=2)
    return Windows(found.data, found.target, found.groups)


def parts(target: str, split: str, fold: int | None) -> tuple[Windows, Windows]:
    """The training and the test part; with ``fold``, one of three folds of the training part, by record."""
    train = load(target, split, "train")
    if fold is None:
        return train, load(target, split, "test")
    folds = GroupKFold(3, shuffle=True, random_state=0).split(train.X, train.y, train.record)
    kept, judged = (Windows(*(each[rows] for each in train)) for rows in list(folds)[fold])
    return kept, judged


def played(X: Array, recipe: Recipe, speeds: Iterable[int]) -> Played:
    """Inputs of recordings X (n, 2, length) played at each speed, 12 being 1.2 times as fast."""
    return {
        speed: recipe.inputs(X if speed == 10 else resample_poly(X, 10, speed, axis=2, padtype="line"))
        for speed in sorted(speeds)
    }


def pieces(train: Played, y: Array, recipe: Recipe, rng: np.random.Generator) -> tuple[Array, Array]:
    """Random pieces of the training windows at random speeds, and their targets at these speeds.

    Speeds at which the target is out of the recipe's range are left out, unless all are. The strength of
    signals varies from piece to piece, noise is added, and six pieces in a hundred lack a channel.
    """
    rows = rng.integers(len(y), size=recipe.pieces)
    speeds = np.array(recipe.speeds)
    rates = np.outer(y, speeds / 10)
    low, high = recipe.between
    # The largest of random numbers: each speed that is allowed is as likely as the others.
    drawn = rng.uniform(size=(recipe.pieces, len(speeds))) * ((rates >= low) & (rates <= high))[rows]
    tenths = speeds[drawn.argmax(axis=1)]
    X = np.empty((recipe.pieces, train[10].shape[1], recipe.piece), np.float32)
    for speed in recipe.speeds:
        here = np.flatnonzero(tenths == speed)
        starts = rng.integers(train[speed].shape[2] - recipe.piece + 1, size=len(here))
        samples = starts[:, None] + np.arange(recipe.piece)
        X[here] = train[speed][rows[here, None], :, samples].swapaxes(1, 2)
    scale = X.std(axis=(0, 2), keepdims=True)
    n, channels, _ = X.shape
    X *= np.exp(0.2 * rng.standard_normal((n, channels, 1)))
    X += 0.1 * scale * rng.uniform(size=(n, channels, 1)) * rng.standard_normal(X.shape)
    off = np.flatnonzero(rng.uniform(size=n) < 0.06)
    X[off, rng.integers(channels, size=len(off))] = 0
    return X, y[rows] * (tenths / 10)


def answers(predict: Callable[[Array], Array], test: Played, recipe: Recipe) -> Array:
    """Mean of the answers to overlapping pieces of whole windows at several speeds.

    The monitor lags some seconds behind the heart: with the recipe's ``tilt``, early pieces weigh more, by
    1 + tilt at the beginning of a window and 1 - tilt at its end.
    """
    found = []
    for speed in recipe.asked:
        X = test[speed]
        last = X.shape[2] - recipe.piece
        starts = np.linspace(0, last, 1 + -(-2 * last // recipe.piece)).astype(int)
        at_speed = [predict(X[:, :, start : start + recipe.piece]) for start in starts]
        weight = np.linspace(1 + recipe.tilt, 1 - recipe.tilt, len(starts))
        found.append(np.average(at_speed, axis=0, weights=weight) * 10 / speed)
    return np.mean(found, axis=0)


def spectral_peak(X: Array) -> Array:
    """Heart rate by the highest peak of the spectrum of PLETH between 36 and 200 beats a minute."""
    tapered = band(X[:, 0], 0.5, 8.0) * np.hanning(X.shape[2])
    size = 16 * X.shape[2]
    rate = 60 * np.fft.rfftfreq(size, 1 / HERTZ)
    possible = (rate > 36) & (rate < 200)
    return rate[possible][np.abs(np.fft.rfft(tapered, size))[:, possible].argmax(axis=1)]


def counted_peaks(signal: Array, summary: Callable[[Array], Any]) -> Array:
    """Heart rate (n,) by a summary of the times between peaks of signals (n, length)."""
    rates = []
    for x in standardised(signal):
        peaks, _ = find_peaks(x, distance=0.35 * HERTZ, prominence=0.5)
        rates.append(60 * HERTZ / summary(np.diff(peaks)) if len(peaks) > 1 else np.nan)
    return np.where(np.isnan(rates), np.nanmean(rates), rates)


# Prominence and summary are those with the smallest error on the training records.
SIGNAL_PROCESSING: dict[str, Callable[[Array], Array]] = {
    "spectral peak of PLETH": spectral_peak,
    "peaks of PLETH": lambda X: counted_peaks(band(X[:, 0], 0.5, 8.0), np.median),
    "peaks of the ECG": lambda X: counted_peaks(band(np.abs(band(X[:, 1], *QRS)), None, 6.0), np.mean),
}


def rocket(train: Played, y: Array, test: Played, records: Array | None, seed: int) -> Array:
    """MiniRocket and ridge regression on whole windows, its alpha by ``records`` if they are given."""
    from sktime.transformations.panel.rocket import MiniRocketMultivariate

    X, folds = train[10], None
    if records is not None:
        # Windows overlap: one in three says as much, and leaving one out asks for too little of alpha.
        X, y, records = X[::3], y[::3], records[::3]
        folds = list(GroupKFold(min(4, len(np.unique(records)))).split(X, y, records))
    # By hand rather than in a pipeline: sktime 1.2 transformers fail in those of scikit-learn 1.9.
    kernels, scale = MiniRocketMultivariate(random_state=seed), StandardScaler(with_mean=False)
    features = scale.fit_transform(np.asarray(kernels.fit_transform(X), np.float32))
    ridge = RidgeCV(np.logspace(1, 5, 5), scoring="neg_mean_squared_error", cv=folds).fit(features, y)
    return ridge.predict(scale.transform(np.asarray(kernels.transform(test[10]), np.float32)))


def inception(train: Played, y: Array, test: Played, recipe: Recipe, epochs: int, seed: int) -> Array:
    """InceptionTime of sktime, trained on the same pieces and asked in the same way."""
    from sktime.regression.deep_learning.inceptiontime import InceptionTimeRegressorTorch

    A, t = pieces(train, y, recipe, np.random.default_rng(seed))
    mean, std = t.mean(), t.std()  # its own targets are not standardised, and far from where it starts
    model = InceptionTimeRegressorTorch(num_epochs=epochs, random_state=seed).fit(A, (t - mean) / std)
    return answers(lambda X: mean + std * np.asarray(model.predict(X)).ravel(), test, recipe)


def networks(
    train: Played, y: Array, test: Played, recipe: Recipe, options: argparse.Namespace, seed: int
) -> tuple[Array, int]:
    """Mean of the answers of the recipe's networks, and how many numbers they train in all."""
    found, parameters = [], 0
    for number in range(recipe.networks):
        member = recipe.networks * seed + number
        model = SSMRegressor(
            max_epochs=1,
            **recipe.settings,
            accelerator=options.device,
            random_state=member,
            verbose=options.verbose,
        )
        model.fit(*pieces(train, y, recipe, np.random.default_rng(member)))
        found.append(answers(model.predict, test, recipe))
        parameters += parameter_count(model)
    return np.mean(found, axis=0), parameters


def errors(predicted: Sequence[Array], test: Windows, seconds: Sequence[float]) -> dict[str, Any]:
    """RMSE and mean absolute error of each seed, the RMSE of each record, and seconds of a core."""
    off = np.asarray(predicted) - test.y
    return {
        "rmse": spread(np.sqrt(np.mean(off**2, axis=1)).tolist()),
        "mae": spread(np.abs(off).mean(axis=1).tolist()),
        "rmse of records": {
            str(record): float(np.sqrt(np.mean(off[:, test.record == record] ** 2)))
            for record in np.unique(test.record)
        },
        "core seconds of fit and predict": spread(seconds),
    }


def compare(target: str, split: str, options: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the errors on the test part of a split, method by method, and what each was given."""
    recipe, epochs = RECIPES[split][target], options.inception_epochs
    recipe = recipe._replace(pieces=max(2, round(options.share * recipe.pieces)))
    train, test = parts(target, split, options.fold)
    print(f"{target} by {split}: {len(train.y)} windows train, {len(test.y)} test", flush=True)
    started = time.process_time()
    heard, asked = played(train.X, recipe, {10, *recipe.speeds}), played(test.X, recipe, {10, *recipe.asked})
    preparation = time.process_time() - started
    records = train.record if split == "subject" else None
    sizes: dict[int, int] = {}  # of the networks of a seed

    def network(seed: int) -> Array:
        predicted, sizes[seed] = networks(heard, train.y, asked, recipe, options, seed)
        return predicted

    def of_test(rate: Callable[[Array], Array]) -> Callable[[int], Array]:
        return lambda seed: rate(test.X)

    methods: dict[str, dict[str, Callable[[int], Array]]] = {
        "network": {OURS: network},
        "simple": {"training mean": lambda seed: np.full(len(test.y), train.y.mean())},
        "rocket": {"MiniRocket + ridge": lambda seed: rocket(heard, train.y, asked, records, seed)},
        "inception": {"InceptionTime": lambda seed: inception(heard, train.y, asked, recipe, epochs, seed)},
    }
    if target == "HR":
        methods["simple"] |= {name: of_test(rate) for name, rate in SIGNAL_PROCESSING.items()}
    both = {"train": train, "test": test}
    used = {
        "windows": {name: len(part.y) for name, part in both.items()},
        "records": {name: np.unique(part.record).tolist() for name, part in both.items()},
    }
    for kind in options.methods:
        seeds = options.seeds[:1] if kind == "simple" else options.seeds
        for name, method in methods[kind].items():
            predicted, seconds = [], []
            for seed in seeds:
                started = time.process_time()
                predicted.append(method(seed))
                seconds.append(time.process_time() - started)
                rmse = np.sqrt(np.mean((predicted[-1] - test.y) ** 2))
                print(f"  {name:26}seed {seed}{rmse:8.3f}{seconds[-1]:7.0f} s", flush=True)
            result = errors(predicted, test, seconds)
            if kind != "simple":
                result |= {"seeds": seeds, "core seconds of preparation": preparation}
            if kind == "network":
                result |= {"parameters": sizes[seeds[0]], "recipe": described(recipe)}
            if kind == "inception":
                result |= {"epochs": epochs, "recipe": described(recipe, settings={})}
            yield name, {**result, **used, "note": options.note}


def described(recipe: Recipe, **changed: Any) -> dict[str, Any]:
    """A recipe as it is written to a file."""
    return {**recipe._asdict(), "inputs": recipe.inputs.__name__, "speeds": list(recipe.speeds), **changed}


def main(arguments: list[str] | None = None) -> None:
    command = parser(__doc__)
    command.add_argument("--splits", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    command.add_argument("--targets", nargs="+", choices=list(UNITS), default=list(UNITS))
    command.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    command.add_argument("--share", type=float, default=1.0, help="of the pieces that networks train on")
    command.add_argument("--inception-epochs", type=int, default=1, help="passes over the pieces")
    command.add_argument("--fold", type=int, choices=range(3), help="judge by a third of the records")
    options = command.parse_args(arguments)

    results: dict[str, Any] = {}
    if options.json and options.json.exists():
        results = json.loads(options.json.read_text(encoding="utf-8"))["results"]
    for split in options.splits:
        for target in options.targets:
            table = results.setdefault(f"by {split}", {}).setdefault(target, {})
            for name, found in compare(target, split, options):
                table[name] = found
                write(options.json, results, PAPER, DIFFERS, units=UNITS)


if __name__ == "__main__":
    main()
