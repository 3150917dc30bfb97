"""Labels along time on real recordings: activities (HAPT), beats (MIT-BIH), waves (LUDB), heart rate (BIDMC).

Every set is split by person. Recipes were chosen by cross-validation over the people of the training part
(--folds 1 shows it), and the test part is judged once. Beside the networks stand hand-made features of
windows or beats with boosting or a forest, from the same people, and NeuroKit2 where it is installed. Figures
are added to those of the file. Run as

    TSSSM_DATA=FOLDER OMP_NUM_THREADS=1 python examples/experiments/along_time.py [--sets hapt] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from along_time_inputs import (
    BEATS_HERTZ,
    Array,
    beat_features,
    beat_series,
    bounds,
    delineated,
    ecg,
    folds_of,
    movement_windows,
    rotated,
    varied,
    with_neighbours,
)
from along_time_peers import ConvolutionsAlongTime
from along_time_rates import rates
from experiment import parameter_count, parser, write
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from tsssm import Panel, SSMSequenceClassifier
from tsssm.datasets import fetch_hapt, fetch_ludb, fetch_mitbih
from tsssm.events import Viterbi, drop_short_runs, event_scores, match_times, runs

SETS = ("hapt", "mitbih", "ludb", "bidmc")

# What mattered on folds, most first: systems that remember seconds and not the order in which people were
# asked to do things; phones worn at other angles.
HAPT = {"crop_length": 768, "warm_up": 128, "batch_size": 24, "timescales": (0.08, 6.0)}
# A beat is a sample, and time passes by beats. What mattered most on folds of the training records: how
# unlike the usual beat of its recording it is, in numbers that no lead and no polarity changes, and how
# early, beside how irregular the rhythm is; that the numbers of the two beats on each side are inputs, too;
# and copies of the records that are noisy, shifted and without some numbers.
COPIES = {"hapt": 8, "mitbih": 4}
NETWORKS = 3  # whose probabilities are averaged
MITBIH = {
    "n_layers": 2,
    "d_model": 24,
    "crop_length": 256,
    "warm_up": 24,
    "batch_size": 16,
    "timescales": (1, 40),
    "rare_classes": 0.5,
    "class_weight": {"S": 8.0, "V": 3.0, "F": 6.0},
    "dropout": 0.2,
    "ignore_label": "Q",
}
LUDB = {"crop_length": 1024, "warm_up": 96, "batch_size": 24, "timescales": (2, 250), "ignore_label": -1}
TREES = {"boosting": 100, "forest": 200}
STEPS = {"hapt": 300, "mitbih": 400, "ludb": 700}
BEATS = ("N", "S", "V", "F")
SHORTEST = (1, 3, 5, 7, 10)  # samples of a wave
WAVES = {"P": 1, "QRS": 2, "T": 3}

PAPER: dict[str, Any] = {}
DIFFERS = (
    "Publications on MIT-BIH train on all of DS1 and test on DS2; here the test part is six records of DS1, "
    "and 16 train. HAPT is published with windows of 2.56 s of 30 people; here are samples of 21. LUDB is "
    "published with all leads at once and 200 records; here each lead is a series, of 150. BIDMC: 28 of 53 "
    "patients, all by three folds, none of them looked at to choose the recipe."
)


def by_class(truth: Array, predicted: Array, classes: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    """Accuracy, macro F1, and of each class sensitivity, positive predictivity, F1 and number."""
    ppv, sensitivity, f1, count = precision_recall_fscore_support(
        truth, predicted, labels=list(classes), zero_division=0
    )
    rows = {
        name: {"sensitivity": float(s), "ppv": float(p), "f1": float(f), "n": int(n)}
        for name, s, p, f, n in zip(names, sensitivity, ppv, f1, count, strict=True)
    }
    return {
        "accuracy": float(np.mean(truth == predicted)),
        "macro F1": float(np.mean(f1)),
        "classes": rows,
        "confusion": confusion_matrix(truth, predicted, labels=list(classes)).tolist(),
    }


def fitted(recipe: dict[str, Any], name: str, X: Any, y: Any, options: argparse.Namespace, **more: Any):
    """A network and the seconds of its fit."""
    steps = options.max_steps or STEPS[name]
    chosen = {"random_state": options.seeds[0], **recipe, **more}
    model = SSMSequenceClassifier(**chosen, max_steps=steps, accelerator=options.device)
    started = time.perf_counter()
    model.fit(X, y)
    return model, time.perf_counter() - started


def hapt(options: argparse.Namespace) -> dict[str, Any]:
    """Activities and transitions at 25 Hz, by person."""
    data = fetch_hapt(decimate=2)
    rate = data.sampling_rate
    signals = [series.values.T for series in data.data]
    names = data.target_names[1:]
    classes = np.arange(1, 13)
    train = np.flatnonzero(data.part == "train")
    recipe = {**HAPT, "timescales": tuple(rate * one for one in HAPT["timescales"])}

    def network(rows: Array) -> tuple[Any, float]:
        rng = np.random.default_rng(0)
        X, y = [], []
        for i in rows:
            copies = [rotated(signals[i], 10, rng) for _ in range(COPIES["hapt"] - 1)]
            X += [signals[i], *copies]
            y += [data.target[i]] * COPIES["hapt"]
        return fitted(recipe, "hapt", X, y, options, ignore_label=0)

    def boosting(rows: Array) -> Any:
        parts = []
        for i in rows:
            centres = np.arange(0, signals[i].shape[1], 5)
            centres = centres[data.target[i][centres] > 0]
            parts.append((movement_windows(signals[i], centres, 32), data.target[i][centres]))
        X, y = (np.concatenate(part) for part in zip(*parts, strict=True))
        return HistGradientBoostingClassifier(max_iter=TREES["boosting"], random_state=0).fit(X, y)

    def scores(rows: Array, labels: list[Array]) -> dict[str, Any]:
        truth, own = np.concatenate([data.target[i] for i in rows]), np.concatenate(labels)
        found = by_class(truth[truth > 0], own[truth > 0], classes, names)
        rows_of = found["classes"]
        found["macro F1 of transitions"] = float(np.mean([rows_of[name]["f1"] for name in names[6:]]))
        true = runs([np.where(data.target[i] > 6, 1, 0) for i in rows])
        # Where nobody labelled there is no event to be found or made up.
        kept = [np.where((one > 6) & (data.target[i] > 0), 1, 0) for i, one in zip(rows, labels, strict=True)]
        events = event_scores(true, runs(kept), 2 * rate, classes=[1])
        found["any transition, within 2 s"] = {k: float(v) for k, v in events.loc[1].items()}
        return found

    smooth = Viterbi()
    proba, judged, results = [], [], {}
    for rows, held in folds_of(data.groups[train], 3) if options.folds else ():
        model, _ = network(train[rows])
        own = model.predict_proba([signals[i] for i in train[held]])
        proba += list(own)
        judged += list(train[held])
        print("fold", scores(train[held], [classes[p.argmax(axis=1)] for p in own])["accuracy"], flush=True)
    truth = [data.target[i] for i in train]
    smooth.fit([np.where(one > 0, one, np.nan) for one in truth], classes)
    if judged:
        labels = [np.where(data.target[i] > 0, data.target[i], np.nan) for i in judged]
        smooth.choose(proba, labels)
        results["cross-validation"] = scores(np.array(judged), [classes[p.argmax(axis=1)] for p in proba])
        results["cross-validation, smoothed"] = scores(np.array(judged), list(smooth.decode(proba)))
        results["weight of smoothing"] = smooth.weight
    if options.no_test:
        return results
    test = np.flatnonzero(data.part == "test")
    model, seconds = network(train)
    own = list(model.predict_proba([signals[i] for i in test]))
    results["network"] = scores(test, [classes[p.argmax(axis=1)] for p in own])
    if judged:
        results["network, smoothed"] = scores(test, list(smooth.decode(own)))
    started = time.perf_counter()
    peer = boosting(train)
    own = []
    for i in test:
        centres = np.arange(0, signals[i].shape[1], 5)
        every = peer.predict(movement_windows(signals[i], centres, 32))
        own.append(every[np.minimum((np.arange(signals[i].shape[1]) + 2) // 5, len(every) - 1)])
    results["boosting on windows"] = scores(test, own)
    results["seconds"] = {"network": seconds, "boosting": time.perf_counter() - started}
    results["parameters"] = parameter_count(model)
    return results


def mitbih(options: argparse.Namespace) -> dict[str, Any]:
    """Classes of beats, by record; the times of the beats are given, as to all who compare."""
    data = fetch_mitbih(decimate=360 // BEATS_HERTZ)
    beats = [np.round(times * BEATS_HERTZ).astype(int) for times, _ in data.target]
    beats = [np.minimum(own, length - 1) for own, length in zip(beats, data.data.lengths, strict=True)]
    kinds = [classes for _, classes in data.target]
    leads = [ecg(series.values.T, own) for series, own in zip(data.data, beats, strict=True)]
    train, test = (np.flatnonzero(data.part == part) for part in ("train", "test"))

    inputs = [beat_series(*pair) for pair in zip(leads, beats, strict=True)]

    seeds = [options.seeds[0] + k for k in range(NETWORKS)]

    seen = [with_neighbours(one) for one in inputs]

    def panel(X: list[Array], tempi: Sequence[float]) -> Panel:
        times = [tempo * np.arange(one.shape[1]) for one, tempo in zip(X, tempi, strict=True)]
        return Panel.from_arrays(X, times)

    def network(rows: Array, seed: int) -> tuple[Any, float]:
        rng = np.random.default_rng(seed)
        X, y, tempi = [seen[i] for i in rows], [kinds[i] for i in rows], [1.0] * len(rows)
        for _ in range(COPIES["mitbih"] - 1):
            for i in rows:
                X.append(varied(seen[i], rng))
                y.append(kinds[i])
                tempi.append(float(np.exp(0.2 * rng.normal())))
        return fitted(MITBIH, "mitbih", panel(X, tempi), y, options, random_state=seed)

    def networks(rows: Array) -> tuple[list[Any], float]:
        fits = [network(rows, seed) for seed in seeds]
        return [model for model, _ in fits], sum(seconds for _, seconds in fits)

    def chances(models: list[Any], rows: Array) -> Array:
        """Probabilities of `BEATS`, in that order: the mean of some networks."""
        found, asked = [], panel([seen[i] for i in rows], [1.0] * len(rows))
        for model in models:
            columns = [list(model.classes_).index(name) for name in BEATS]
            found.append(np.concatenate(list(model.predict_proba(asked)))[:, columns])
        return np.mean(found, axis=0)

    def decided(proba: Array) -> Array:
        return np.array(BEATS)[proba.argmax(axis=1)]

    def forest(rows: Array, features: list[Array]) -> Any:
        X = np.concatenate([features[i] for i in rows])
        y = np.concatenate([kinds[i] for i in rows])
        model = RandomForestClassifier(
            TREES["forest"], class_weight="balanced_subsample", min_samples_leaf=3, random_state=0
        )
        return model.fit(X[y != "Q"], y[y != "Q"])

    def scores(rows: Array, own: Array) -> dict[str, Any]:
        truth = np.concatenate([kinds[i] for i in rows])
        return by_class(truth[truth != "Q"], own[truth != "Q"], BEATS, BEATS)

    results: dict[str, Any] = {}
    judged: list[int] = []
    found: list[Array] = []
    # Records of one fold lie apart in the list, whose last ones have many ectopic beats.
    for rows, held in folds_of(np.arange(len(train)) % 4, 4) if options.folds else ():
        models, _ = networks(train[rows])
        found.append(chances(models, train[held]))
        judged += train[held].tolist()
        of_fold = scores(train[held], decided(found[-1]))["classes"]
        print("fold", data.groups[train[held]], of_fold, flush=True)
    if judged:
        results["cross-validation"] = scores(np.array(judged), decided(np.concatenate(found)))
    if options.no_test:
        return results
    started = time.process_time()
    models, seconds = networks(train)
    worked = (time.process_time() - started) / NETWORKS
    results["network"] = scores(test, decided(chances(models, test)))
    results["seconds"] = {"network": seconds}
    of_beats = {
        "forest on intervals and shape": [beat_features(*pair) for pair in zip(leads, beats, strict=True)],
        "forest on rhythm and oddity": [one.T for one in inputs],
    }
    for name, features in of_beats.items():
        started = time.perf_counter()
        peer = forest(train, features)
        results[name] = scores(test, np.concatenate([peer.predict(features[i]) for i in test]))
        results["seconds"][name] = time.perf_counter() - started
    # As many of them, each trained for the processor seconds of a network.
    proba, results["steps of the convolutions"] = [], []
    for seed in seeds:
        convolutions = ConvolutionsAlongTime(BEATS, MITBIH["class_weight"], seed)
        steps = convolutions.fit([inputs[i] for i in train], [kinds[i] for i in train], worked)
        results["steps of the convolutions"].append(steps)
        proba.append(np.concatenate(convolutions.predict_proba([inputs[i] for i in test])))
    results["convolutions"] = scores(test, decided(np.mean(proba, axis=0)))
    results["parameters"] = parameter_count(models[0])
    return results


def ludb(options: argparse.Namespace) -> dict[str, Any]:
    """Bounds of waves at 250 Hz, each lead by itself, by record."""
    data = fetch_ludb(decimate=2)
    rate = data.sampling_rate
    X = data.data / np.maximum(data.data.std(axis=2, keepdims=True), 1e-6)
    train, test = (np.flatnonzero(data.part == part) for part in ("train", "test"))

    def scores(rows: Array, labels: Array) -> dict[str, Any]:
        """F1 and errors of time of onsets and offsets within 150 ms, and F1 within 40 ms."""
        result: dict[str, Any] = {}
        for name, kind in WAVES.items():
            for which, bound in enumerate(("onset", "offset")):
                error, missed, matched = [], {150: 0, 40: 0}, {150: 0, 40: 0}
                for i, own in zip(rows, labels, strict=True):
                    true = bounds(data.target[i], kind)[which]
                    # Where nobody looked there is nothing to be found or made up.
                    inside = np.flatnonzero(data.target[i] >= 0)
                    first, last = bounds(own, kind)
                    if inside.size == 0:
                        continue
                    seen = (last >= inside[0]) & (first <= inside[-1])
                    at = (first, last)[which][seen]
                    for limit in matched:
                        a, b = match_times(true / rate, at / rate, limit / 1000)
                        matched[limit] += len(a)
                        missed[limit] += len(true) + len(at) - 2 * len(a)
                        if limit == 150:
                            error.append(1000 * (at[b] - true[a]) / rate)
                errors = np.concatenate(error)
                f1 = {limit: 2 * n / (2 * n + missed[limit]) for limit, n in matched.items()}
                result[f"{name} {bound}"] = {
                    "F1 within 150 ms": f1[150],
                    "F1 within 40 ms": f1[40],
                    "mean error in ms": float(errors.mean()) if len(errors) else None,
                    "its standard deviation": float(errors.std()) if len(errors) else None,
                }
        return result

    def network(rows: Array) -> tuple[Any, float]:
        return fitted(LUDB, "ludb", X[rows], data.target[rows].astype(int), options)

    def mean_f1(found: dict[str, Any]) -> float:
        return float(np.mean([row["F1 within 150 ms"] for row in found.values()]))

    results: dict[str, Any] = {}
    shortest = 1
    if options.folds:
        rows, held = next(folds_of(data.groups[train], 5))
        model, _ = network(train[rows])
        own = model.predict(X[train[held]])
        tried = {n: scores(train[held], drop_short_runs(own, n)) for n in SHORTEST}
        shortest = max(tried, key=lambda n: mean_f1(tried[n]))
        results["held-out"], results["held-out, smoothed"] = tried[1], tried[shortest]
        results["shortest wave in ms"] = 1000 * shortest / rate
        print("held-out", {n: mean_f1(found) for n, found in tried.items()}, flush=True)
    if options.no_test:
        return results
    model, seconds = network(train)
    own = model.predict(X[test])
    known = data.target[test] >= 0
    results["network"] = scores(test, own)
    if options.folds:
        results["network, smoothed"] = scores(test, drop_short_runs(own, shortest))
    if find_spec("neurokit2"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of each lead that it finds little in
            peer = np.stack([delineated(lead[0].astype(float), rate) for lead in data.data[test]])
        results["NeuroKit2"] = scores(test, peer)
    results["accuracy of a sample"] = float(np.mean(own[known] == data.target[test][known]))
    results["seconds"] = {"network": seconds}
    results["parameters"] = parameter_count(model)
    return results


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiments on some sets, and add their figures to the file."""
    options = parser(__doc__, seeds=(0,))
    options.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    options.add_argument("--folds", type=int, default=0, help="not 0: cross-validate in the training part")
    options.add_argument("--no-test", action="store_true", help="leave the test part alone")
    options.add_argument("--max-steps", type=int, help="of each fit, in place of the recipe's")
    chosen = options.parse_args(arguments)
    results: dict[str, Any] = {}
    if chosen.json is not None and chosen.json.exists():
        results = json.loads(chosen.json.read_text())["results"]
    for name in chosen.sets:
        results[name] = {"hapt": hapt, "mitbih": mitbih, "ludb": ludb, "bidmc": rates}[name](chosen)
        print(name, json.dumps(results[name]), flush=True)
        write(chosen.json, results, PAPER, DIFFERS, seeds=chosen.seeds, note=chosen.note)


if __name__ == "__main__":
    main()
