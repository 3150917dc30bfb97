"""Heart rate, respiratory rate and oxygen saturation from 32 s of an intensive-care monitor (BIDMC).

By subject first: 22 records train, 6 others (08, 18, 27, 38, 49, 53) test. Beside it the split by window of
the papers, which puts windows that overlap by up to 29 s into training and test, and so measures how well
patients are remembered. Inputs are the photoplethysmogram (PLETH) and lead II of the ECG, as in the papers. A
row of its own has the respiratory rate from RESP, the impedance of the chest, which papers leave out.

A recording played 1.2 times faster is one of a heart that beats 1.2 times faster. The networks are trained on
short pieces of windows at many speeds, and 22 patients cover every rate; they are asked about all of a test
window at several speeds. For the heart rate there are three, one for each signal and one for both, which also
say how sure they are, and count by that. Figures are added to those of the file. Run as

    TSSSM_DATA=FOLDER OMP_NUM_THREADS=1 python examples/experiments/bidmc.py [--json results.json]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from bidmc_inputs import (
    HERTZ,
    QRS,
    Array,
    Played,
    Recipe,
    band,
    beats,
    breaths,
    chest,
    levels,
    pieces,
    played,
    standardised,
)
from experiment import ALONE, parameter_count, parser, spread, write
from scipy.signal import find_peaks
from scipy.special import softmax
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from tsssm import SSMRegressor
from tsssm.datasets import fetch_bidmc

NEAR = 0.15  # of a rate: how far from the middle it may be played
SURER = 4  # power of the width of a network's answer by which it counts less

UNITS = {"HR": "beats a minute", "RR": "breaths a minute", "SpO2": "%"}
METHODS = ("network", "simple", "rocket", "inception")
OURS = "SSMRegressor"
WITH_RESP = f"{OURS}, from RESP"

PAPER = {"Liquid-S4 (2209.12951), RMSE": {"HR": 0.303, "RR": 0.158, "SpO2": 0.066}}
DIFFERS = (
    "The paper splits windows of all 53 records at random, so that its figures go beside those by window "
    "alone; here are the 28 records of the registry. It trains large networks for hundreds of epochs on a "
    "GPU; here small ones train for minutes on one core. It reads the 4,000 samples of a window as they are. "
    "By subject, 22 patients teach the heart rate, for every speed makes another patient of each, and the "
    "breath where RESP shows it. What the breath does to PLETH and ECG differs from patient to patient, and "
    "saturation needs the ratio of two wavelengths, of which PLETH is one: means predict both about as well."
)


class Windows(NamedTuple):
    """Windows X (n, channels, length) of signals, their target y (n,), and the record (n,) they are of."""

    X: Array
    y: Array
    record: Array


# Chosen on folds of the training records (--fold). What mattered, most first: many speeds; layer
# normalisation, so that the height of pulses counts for little; networks that hear one signal alone beside a
# third, which takes the QRS complex and the late pulse of a slow, irregular heart for two beats;
# pieces of irregular hearts; to ask at speeds at which rates are ordinary; filters after the change of speed;
# absolute errors; a larger learning rate of the systems; a QRS band above the T wave; no rates that patients
# do not have. Pieces of 8 s are as good as longer ones, and cheaper.
RATE = Recipe(
    inputs=beats,
    heard=((0,), (1,), (0, 1)),
    speeds=range(6, 17),
    asked=range(8, 15),
    tilt=0.4,
    middle=90.0,
    between=(45.0, 140.0),
    irregular=0.3,
    piece=100,
    pieces=48_000,
    networks=1,
    settings={
        "norm": "layer",
        "dropout": 0.0,
        "loss": "quantile",
        "quantiles": (0.16, 0.5, 0.84),
        "learning_rate": 1e-2,
        "ssm_learning_rate": 3e-3,
        "batch_size": 64,
    },
)
# Breaths are slow: pieces of 24 s.
SLOW = RATE._replace(
    inputs=breaths,
    heard=((0, 1, 2),),
    speeds=range(7, 14),
    asked=range(8, 13),
    tilt=0.0,
    middle=None,
    between=(5.0, 45.0),
    irregular=0.0,
    piece=125,
    pieces=12_800,
    settings={**RATE.settings, "loss": "absolute_error", "batch_size": 32},
)
CHEST = SLOW._replace(inputs=chest, heard=((0,),))
# A patient is known by the level and the shape of signals, which have a speed of their own.
MEMORY = SLOW._replace(
    inputs=levels,
    heard=((0, 1),),
    speeds=(10,),
    asked=(10,),
    between=(0.0, 1000.0),
    piece=250,
    pieces=16_000,
    settings={**SLOW.settings, "loss": "squared_error", "norm": "batch"},
)
RECIPES: dict[str, dict[str, Recipe]] = {
    "subject": {"HR": RATE, "RR": SLOW, "SpO2": MEMORY},
    "window": {"HR": RATE, "RR": MEMORY, "SpO2": MEMORY},
}


def load(target: str, split: str, part: str, channels: Sequence[str]) -> Windows:
    """Windows of one part of a split, at 62.5 Hz."""
    found = fetch_bidmc(target, split=split, part=part, channels=channels, decimate=2)
    return Windows(found.data, found.target, found.groups)


def parts(
    target: str, split: str, fold: int | None, channels: Sequence[str] = ("PLETH", "II")
) -> tuple[Windows, Windows]:
    """The training and the test part; with ``fold``, one of three folds of the training part, by record."""
    train = load(target, split, "train", channels)
    if fold is None:
        return train, load(target, split, "test", channels)
    folds = GroupKFold(3, shuffle=True, random_state=0).split(train.X, train.y, train.record)
    kept, judged = (Windows(*(each[rows] for each in train)) for rows in list(folds)[fold])
    return kept, judged


def answers(ask: Callable[[Array], Array], test: Played, recipe: Recipe) -> Array:
    """What is answered (2, n) to overlapping pieces of whole windows at several speeds: targets and widths.

    The monitor lags some seconds behind the heart: with the recipe's ``tilt``, early pieces weigh more, by
    1 + tilt at the beginning of a window and 1 - tilt at its end. The speeds count alike, or, with a
    ``middle``, those most at which the rate is near it, by the answers themselves.
    """
    speeds = np.array(recipe.asked)[:, None]
    found = []
    for speed in recipe.asked:
        X = test[speed]
        last = X.shape[2] - recipe.piece
        starts = np.linspace(0, last, 1 + -(-2 * last // recipe.piece)).astype(int)
        at_speed = [ask(X[:, :, start : start + recipe.piece]) for start in starts]
        weight = np.linspace(1 + recipe.tilt, 1 - recipe.tilt, len(starts))
        found.append(np.average(at_speed, axis=0, weights=weight) * 10 / speed)
    if recipe.middle is None:
        return np.mean(found, axis=0)
    answer = np.median(found, axis=0)
    for _ in range(2):
        off = np.log(np.maximum(answer[0], 1) * speeds / 10 / recipe.middle) / NEAR
        answer = np.einsum("sn,skn->kn", softmax(-(off**2) / 2, axis=0), found)
    return answer


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
    """InceptionTime of sktime with both signals, trained on the same pieces and asked in the same way."""
    from sktime.regression.deep_learning.inceptiontime import InceptionTimeRegressorTorch

    A, t = pieces(train, y, recipe, np.random.default_rng(seed))
    mean, std = t.mean(), t.std()  # its own targets are not standardised, and far from where it starts
    model = InceptionTimeRegressorTorch(num_epochs=epochs, random_state=seed).fit(A, (t - mean) / std)

    def ask(X: Array) -> Array:
        answer = mean + std * np.asarray(model.predict(X)).ravel()
        return np.stack([answer, np.ones_like(answer)])

    return answers(ask, test, recipe)[0]


def sureness(model: SSMRegressor) -> Callable[[Array], Array]:
    """How to ask a network: it answers (2, n) with targets and widths between quantiles, or 1 without any."""

    def ask(X: Array) -> Array:
        if model.loss != "quantile":
            answer = np.asarray(model.predict(X))
            return np.stack([answer, np.ones_like(answer)])
        low, middle, high = model.predict_quantiles(X).T
        return np.stack([middle, high - low])

    return ask


def networks(
    train: Played, y: Array, test: Played, recipe: Recipe, options: argparse.Namespace, seed: int
) -> tuple[Array, int]:
    """Mean of the answers of the recipe's networks, the surer ones first, and how many numbers they train."""
    found, parameters = [], 0
    for channels in recipe.heard:
        own, asked = ({speed: X[:, list(channels)] for speed, X in part.items()} for part in (train, test))
        for number in range(recipe.networks):
            member = recipe.networks * seed + number
            model = SSMRegressor(
                max_epochs=1,
                **ALONE,
                **recipe.settings,
                accelerator=options.device,
                random_state=member,
                verbose=options.verbose,
            )
            model.fit(*pieces(own, y, recipe, np.random.default_rng(member)))
            found.append(answers(sureness(model), asked, recipe))
            parameters += parameter_count(model)
    answer, width = np.stack(found, axis=1)
    return np.average(answer, axis=0, weights=np.maximum(width, 1e-3) ** -SURER), parameters


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
    sizes: dict[str, int] = {}  # numbers that the networks of a seed train
    recipes = {OURS: recipe}

    def network(seed: int) -> Array:
        predicted, sizes[OURS] = networks(heard, train.y, asked, recipe, options, seed)
        return predicted

    def with_resp(seed: int) -> Array:
        own = recipes[WITH_RESP]
        breath, tested = (part.X for part in parts(target, split, options.fold, ("RESP",)))
        told = played(breath, own, {10, *own.speeds}), played(tested, own, own.asked)
        predicted, sizes[WITH_RESP] = networks(told[0], train.y, told[1], own, options, seed)
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
    if (target, split) == ("RR", "subject"):
        recipes[WITH_RESP] = CHEST._replace(pieces=recipe.pieces, settings=recipe.settings)
        methods["network"][WITH_RESP] = with_resp
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
                result |= {"parameters": sizes[name], "recipe": described(recipes[name])}
            if kind == "inception":
                result |= {"epochs": epochs, "recipe": described(recipe, settings={})}
            yield name, {**result, **used, "note": options.note}


def described(recipe: Recipe, **changed: Any) -> dict[str, Any]:
    """A recipe as it is written to a file."""
    speeds = {"speeds": list(recipe.speeds), "asked": list(recipe.asked)}
    return {**recipe._asdict(), "inputs": recipe.inputs.__name__, **speeds, **changed}


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
