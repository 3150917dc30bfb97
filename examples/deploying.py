"""From a trained network to files that run elsewhere, and what they cost: whole series, and sample by sample.

    python examples/deploying.py --folder models --json deploying.json

Trains a small network on generated intensive-care stays (irregular, missing values), writes ``series.onnx``,
``samples.onnx`` and ``series.pt2``, runs them by onnxruntime and by PyTorch on one thread, and prints how far
their answers are from those of the estimator, and what each way to predict costs. Every way is timed in a
process of its own, by the time of the processor, which other work on the machine changes little.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

WAYS = ("predict_proba", "Stream", "series.onnx", "samples.onnx", "series.pt2")
_REPEATS = 20  # of which the fastest counts


def train(folder: Path, backbone: str, steps: int) -> None:
    """Fit, and write the model in three forms, with series to try it on."""
    from tsssm import SSMClassifier
    from tsssm.datasets import make_icu
    from tsssm.exporting import to_onnx, to_torch_export

    data = make_icu(200, random_state=0)
    clf = SSMClassifier(
        backbone=backbone, n_features=0, n_members=1, bidirectional=False, max_steps=steps, random_state=0
    )
    clf.fit(data.data[:160], data.target[:160])
    clf.save(folder / "model.safetensors")
    to_onnx(clf, folder / "series.onnx")
    to_onnx(clf, folder / "samples.onnx", streaming=True)
    to_torch_export(clf, folder / "series.pt2")
    others = data.data[160:]
    lengths = others.lengths
    values = np.full((len(others), lengths.max(), others.n_channels), np.nan, np.float32)
    times = np.zeros(values.shape[:2])
    for i, one in enumerate(others):
        values[i, : lengths[i]], times[i, : lengths[i]] = one.values, one.times
    np.savez(folder / "series.npz", values=values, times=times, lengths=lengths)


def series_of(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (n, length, channels), times (n, length) and lengths (n,)."""
    with np.load(folder / "series.npz") as arrays:
        return arrays["values"], arrays["times"], arrays["lengths"]


def session(path: Path) -> Any:
    """A model of onnxruntime on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def by_estimator(folder: Path) -> Callable[[], np.ndarray]:
    """All series at once, by the estimator."""
    import torch

    import tsssm

    torch.set_num_threads(1)
    model = tsssm.load(folder / "model.safetensors")
    values, times, lengths = series_of(folder)
    rows = [(v[:n].T, t[:n]) for v, t, n in zip(values, times, lengths, strict=True)]
    panel = tsssm.Panel.from_arrays([v for v, _ in rows], [t for _, t in rows], time_unit="h")
    return lambda: model.predict_proba(panel)


def by_stream(folder: Path) -> Callable[[], np.ndarray]:
    """The first series, sample by sample, by `Stream`."""
    import torch

    import tsssm

    torch.set_num_threads(1)
    stream = tsssm.Stream(tsssm.load(folder / "model.safetensors"))
    values, times, lengths = series_of(folder)

    def run() -> np.ndarray:
        stream.reset()
        return np.array([stream.push(values[0, k], times[0, k]) for k in range(lengths[0])])

    return run


def by_series(folder: Path) -> Callable[[], np.ndarray]:
    """All series at once, by onnxruntime."""
    model = session(folder / "series.onnx")
    values, times, _ = series_of(folder)
    return lambda: model.run(None, {"values": values, "times": times})[0]


def by_samples(folder: Path) -> Callable[[], np.ndarray]:
    """The first series, sample by sample, by onnxruntime: the state goes out and in again."""
    model = session(folder / "samples.onnx")
    values, times, lengths = series_of(folder)
    dtypes = {"tensor(float)": np.float32, "tensor(double)": np.float64}
    start = {
        one.name: np.zeros((1, *one.shape[1:]), dtypes[one.type])
        for one in model.get_inputs()
        if one.name.startswith("state_")
    }
    after = [f"{name}_after" for name in start]

    def run() -> np.ndarray:
        state, answers = start, []
        for k in range(lengths[0]):
            sample = {"values": values[:1, k], "time": times[:1, k : k + 1]}
            proba, *parts = model.run(["probabilities", *after], {**sample, **state})
            state = dict(zip(state, parts, strict=True))
            answers.append(proba[0])
        return np.array(answers)

    return run


def by_program(folder: Path) -> Callable[[], np.ndarray]:
    """All series at once, by the program of torch.export."""
    import torch

    from tsssm.exporting import load_torch_export

    torch.set_num_threads(1)
    program, _ = load_torch_export(folder / "series.pt2")
    values, times, _ = series_of(folder)
    inputs = torch.from_numpy(values), torch.from_numpy(times)

    def run() -> np.ndarray:
        with torch.inference_mode():
            return program(*inputs)["probabilities"].numpy()

    return run


_RUNS = dict(zip(WAYS, (by_estimator, by_stream, by_series, by_samples, by_program), strict=True))


def _peak() -> int | None:
    """Largest memory of this process in MB, None where Linux does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    return round(int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024)


def measure(way: str, folder: Path) -> dict[str, Any]:
    """One way in this process: its answers, and what it takes."""
    began = time.process_time()
    run = _RUNS[way](folder)
    answers = run()
    first = time.process_time() - began
    seconds = []
    for _ in range(_REPEATS):
        began = time.process_time()
        run()
        seconds.append(time.process_time() - began)
    _, _, lengths = series_of(folder)
    samples = lengths[0] if way in ("Stream", "samples.onnx") else lengths.sum()
    return {
        "answers": answers.tolist(),
        "first_s": round(first, 2),
        "microseconds_per_sample": round(1e6 * min(seconds) / float(samples), 1),
        "peak_MB": _peak(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("models"))
    parser.add_argument("--backbone", default="s4d")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options.folder)))
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    train(options.folder, options.backbone, options.steps)
    files = {"predict_proba": "model.safetensors", "Stream": "model.safetensors"}
    table: dict[str, Any] = {}
    for way in WAYS:
        command = [sys.executable, __file__, "--folder", str(options.folder), "--way", way]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        table[way] = json.loads(done.stdout.splitlines()[-1])
        table[way]["file_kB"] = round((options.folder / files.get(way, way)).stat().st_size / 1000)
    pairs = {"series.onnx": "predict_proba", "samples.onnx": "Stream", "series.pt2": "predict_proba"}
    for one, other in pairs.items():
        apart = np.subtract(*(np.array(table[way]["answers"]).squeeze() for way in (one, other)))
        table[one]["difference"] = float(np.abs(apart).max())
        print(f"{one} answers as {other} does, to {table[one]['difference']:.1e}")
    print(f"{'':15}{'file':>10}{'load, first answer':>20}{'a sample':>12}{'memory':>10}")
    for way, row in table.items():
        del row["answers"]
        print(
            f"{way:15}{row['file_kB']:7} kB{row['first_s']:18.2f} s{row['microseconds_per_sample']:9.1f} µs"
            f"{row['peak_MB'] or '?':7} MB"
        )
    if options.json:
        options.json.write_text(json.dumps({"backbone": options.backbone, **table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
