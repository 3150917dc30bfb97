"""What HiPPO initialisation buys: how far back a system remembers, by the matrix that it starts from.

Three tables, each with systems of the same number of states:

- *held*: one fixed system with the timescale 1 / length. Each earlier value of band-limited noise is read off
  its last state by ridge regression, with noise on the states; nothing is trained. Error 1 is no memory.
- *delay*: the same, learned. SSMRegressor reads the noise once, causally, and has to give earlier values from
  its last features. The timescales of the channels cover the range that the estimators start with, but for
  "one timescale", the middle of those drawn.
- *copy*: SSMClassifier is shown symbols, then nothing for a while, and has to name them in order.

Run as

    OMP_NUM_THREADS=1 python examples/experiments/memory.py --json memory.json --figure memory.png

On a GPU or for longer memories: ``--length 1024 --delays 256 512 1000 --waits 1000 --max-steps 5000``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch
from experiment import parameter_count, parser, spread, write
from scipy.signal import cont2discrete

from tsssm import SSMClassifier, SSMRegressor, hippo
from tsssm.datasets import make_copy, make_delay

System = tuple[np.ndarray, np.ndarray]  # eigenvalues and input vector, (N/2,) complex each


def _random_frequencies(d_state: int, rng: np.random.Generator) -> System:
    """The decay and the range of S4D-Lin, but frequencies anywhere in it."""
    omega = rng.uniform(0, math.pi * d_state / 2, size=d_state // 2)
    return -0.5 + 1j * omega, np.ones(d_state // 2, dtype=complex)


def _random_matrix(d_state: int, rng: np.random.Generator) -> System:
    """Modes of a Gaussian matrix with eigenvalues in the unit disc, moved until all of them decay."""
    pairs: list[complex] = []
    while len(pairs) < d_state // 2:  # how many of the eigenvalues are complex is a matter of luck
        eigenvalues = np.linalg.eigvals(rng.normal(size=(d_state, d_state)) / math.sqrt(d_state))
        shift = max(0.0, eigenvalues.real.max()) + 0.01
        pairs += list(eigenvalues[eigenvalues.imag > 0] - shift)
    return np.array(pairs[: d_state // 2]), np.ones(d_state // 2, dtype=complex)


def _real(d_state: int, rng: np.random.Generator) -> System:
    """S4D-Real: eigenvalues of LegS itself, which do not oscillate; half of each mode has nothing to hold."""
    return -np.arange(1.0, d_state // 2 + 1) + 0j, np.ones(d_state // 2, dtype=complex)


class Start(NamedTuple):
    """A way to start: the modes of a channel, and whether all channels have one timescale."""

    system: Callable[[int, np.random.Generator], System]
    one_timescale: bool = False


STARTS = {
    "S4D-LegS": Start(lambda d_state, rng: hippo.diagonal("legs", d_state)),
    "S4D-Lin": Start(lambda d_state, rng: hippo.diagonal("lin", d_state)),
    "S4D-Inv": Start(lambda d_state, rng: hippo.diagonal("inv", d_state)),
    "S4D-Lin, one timescale": Start(lambda d_state, rng: hippo.diagonal("lin", d_state), True),
    "random frequencies": Start(_random_frequencies),
    "random matrix": Start(_random_matrix),
    "S4D-Real": Start(_real),
}


class Initialise(pl.Callback):
    """Gives every layer of a network another initial system before its training begins.

    Parameters
    ----------
    start : Start
    seed : int
        Of systems that are random; each channel draws its own.
    """

    def __init__(self, start: Start, seed: int) -> None:
        self.start = start
        self.rng = np.random.default_rng(seed)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write eigenvalues, input vectors and, for one timescale, timescales into the layers."""
        for block in pl_module.net.blocks:
            layer = block.layer
            drawn = [self.start.system(layer.d_state, self.rng) for _ in range(layer.d_model)]
            eigenvalues, B = (torch.as_tensor(np.stack(part)) for part in zip(*drawn, strict=True))
            with torch.no_grad():
                layer.A_real.copy_(torch.log(-eigenvalues.real))
                layer.A_imag.copy_(eigenvalues.imag)
                layer.B.copy_(torch.view_as_real(B))
                if self.start.one_timescale:
                    layer.log_dt.fill_(layer.log_dt.mean())


def responses(system: System, step: float, length: int) -> np.ndarray:
    """What each state keeps of a unit input i samples ago, by zero-order hold: (length, N) float64."""
    eigenvalues, B = system
    lags = np.exp(step * np.arange(length)[:, None] * eigenvalues)
    modes = lags * (np.expm1(step * eigenvalues) / eigenvalues * B)
    return np.concatenate([modes.real, modes.imag], axis=1)


def dense_responses(measure: str, d_state: int, step: float, length: int) -> np.ndarray:
    """As `responses`, of a whole HiPPO matrix."""
    A, B = hippo.transition(measure, d_state)
    A_bar, B_bar, *_ = cont2discrete((A, B[:, None], np.eye(d_state), np.zeros((d_state, 1))), step)
    rows = [B_bar[:, 0]]
    for _ in range(length - 1):
        rows.append(A_bar @ rows[-1])
    return np.stack(rows)


def held(
    kernel: np.ndarray, train: np.ndarray, test: np.ndarray, delays: Sequence[int], noise: float
) -> np.ndarray:
    """Mean squared error (delays,) of earlier values read off the last state of a fixed system.

    Parameters
    ----------
    kernel : ndarray (length, N)
        Responses of the states.
    train, test : ndarray (n, length)
        Inputs of variance 1.
    delays : sequence of int
        Distances from the last sample.
    noise : float
        Standard deviation of what is added to the states, in units of their own.
    """
    states = [x[:, ::-1] @ kernel for x in (train, test)]
    scale = states[0].std(axis=0)
    used = scale > 1e-12 * scale.max()  # the second half of a real mode is empty
    states = [each[:, used] / scale[used] for each in states]
    wanted = [x[:, [x.shape[1] - 1 - delay for delay in delays]] for x in (train, test)]
    # By the expectation over the noise, so that no draw of it takes part.
    gram = states[0].T @ states[0] + noise**2 * len(train) * np.eye(used.sum())
    readout = np.linalg.solve(gram, states[0].T @ wanted[0])
    error = np.mean((states[1] @ readout - wanted[1]) ** 2, axis=0)
    return error + noise**2 * np.square(readout).sum(axis=0)


def held_table(d_state: int, length: int, delays: Sequence[int], options: Any) -> dict[str, Any]:
    """Error of each fixed system at each delay, the mean over the seeds of those that are random."""
    common = {"length": length, "delays": [0], "bandwidth": options.bandwidth}
    train = make_delay(5000, random_state=0, **common).data[:, 0].astype(np.float64)
    test = make_delay(2000, random_state=1, **common).data[:, 0].astype(np.float64)
    kernels = {
        "LegT": [dense_responses("legt", d_state, 1 / length, length)],
        "LegS": [dense_responses("legs", d_state, 1 / length, length)],
    }
    for name, start in STARTS.items():
        if not start.one_timescale:  # here all have
            systems = [start.system(d_state, np.random.default_rng(seed)) for seed in options.seeds]
            kernels[name] = [responses(system, 1 / length, length) for system in systems]
    table = {}
    for name, of_seeds in kernels.items():
        errors = [held(kernel, train, test, delays, options.noise) for kernel in of_seeds]
        table[name] = np.mean(errors, axis=0).tolist()
    return table


def network(kind: type, start: Start, seed: int, options: Any, **more: Any) -> Any:
    """An estimator that reads once, forwards, and answers from its last features."""
    return kind(
        n_layers=options.layers,
        d_model=options.channels,
        d_state=options.state,
        bidirectional=False,
        pooling="last",
        dropout=0.0,
        max_steps=options.max_steps,
        batch_size=50,
        callbacks=[Initialise(start, seed)],
        accelerator=options.device,
        random_state=seed,
        verbose=options.verbose,
        **more,
    )


def delay_error(start: Start, seed: int, options: Any) -> tuple[list[float], Any]:
    """Mean squared error at each delay of one network, and the network."""
    common = {"length": options.length, "delays": options.delays, "bandwidth": options.bandwidth}
    train, test = (make_delay(options.series, random_state=10 + part, **common) for part in (0, 1))
    model = network(SSMRegressor, start, seed, options).fit(train.data, train.target)
    error = np.mean((model.predict(test.data).reshape(test.target.shape) - test.target) ** 2, axis=0)
    return error.tolist(), model


def copy_accuracy(start: Start, seed: int, wait: int, options: Any) -> tuple[float, Any]:
    """Share of the symbols that one network names rightly after ``wait`` samples, and the network."""
    common = {"n_items": options.items, "delay": wait}
    train, test = (make_copy(options.series, random_state=20 + part, **common) for part in (0, 1))
    model = network(SSMClassifier, start, seed, options, label_smoothing=0.0)
    model.fit(train.data, train.target)
    return float(np.mean(model.predict(test.data) == test.target)), model


def learned_tables(options: Any) -> dict[str, Any]:
    """Errors and accuracies of the trained networks, of every start."""
    tables: dict[str, Any] = {"delay": {}, "copy": {}}
    for name, start in STARTS.items():
        started = time.perf_counter()
        runs = [delay_error(start, seed, options) for seed in options.seeds]
        errors = np.array([error for error, _ in runs])
        tables["delay"][name] = {
            "error": spread(errors.mean(axis=1)),
            "error by delay": dict(zip(map(str, options.delays), errors.mean(axis=0).tolist(), strict=True)),
            "parameters": parameter_count(runs[0][1]),
            "seconds": round((time.perf_counter() - started) / len(runs), 1),
        }
        row = f"{name:24}delay {errors.mean():6.3f}  by delay "
        print(row + " ".join(f"{error:.3f}" for error in errors.mean(axis=0)), flush=True)
    for name, start in STARTS.items():
        tables["copy"][name] = {}
        for wait in options.waits:
            started = time.perf_counter()
            scores = [copy_accuracy(start, seed, wait, options) for seed in options.seeds]
            accuracy = spread([score for score, _ in scores])
            seconds = round((time.perf_counter() - started) / len(scores), 1)
            count = parameter_count(scores[0][1])
            tables["copy"][name][str(wait)] = {
                "accuracy": accuracy,
                "parameters": count,
                "seconds": seconds,
            }
            print(f"{name:24}copy after {wait}: {accuracy['mean']:.3f}", flush=True)
    return tables


def draw(path: Path, delays: Sequence[int], results: dict[str, Any]) -> None:
    """Errors against the delay, of the fixed systems and of the trained networks."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True, layout="constrained")
    colours = {
        name: f"C{number}" for number, name in enumerate(dict.fromkeys([*results["held"], *results["delay"]]))
    }
    for name, errors in results["held"].items():
        left.plot(delays, errors, color=colours[name], label=name)
    for name, row in results["delay"].items():
        at = [int(delay) for delay in row["error by delay"]]
        right.plot(at, list(row["error by delay"].values()), "o-", color=colours[name], label=name)
    left.set(title="fixed system, linear readout", xlabel="delay (samples)", ylabel="mean squared error")
    right.set(title="trained network", xlabel="delay (samples)")
    for axes in (left, right):
        axes.set_yscale("log")
        axes.axhline(1.0, color="grey", linewidth=0.8, linestyle=":")
        axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> None:
    arguments_of = parser(__doc__, seeds=(0, 1))
    arguments_of.add_argument("--length", type=int, default=256, help="samples of a series of noise")
    arguments_of.add_argument("--delays", type=int, nargs="+", default=[16, 64, 128, 192, 240])
    arguments_of.add_argument("--bandwidth", type=float, default=0.02, help="of the noise, cycles a sample")
    arguments_of.add_argument("--noise", type=float, default=0.01, help="on the states of fixed systems")
    arguments_of.add_argument("--waits", type=int, nargs="+", default=[200], help="delays of the copy task")
    arguments_of.add_argument("--items", type=int, default=4, help="symbols to copy")
    arguments_of.add_argument("--series", type=int, default=2000, help="of training, and as many of test")
    arguments_of.add_argument("--layers", type=int, default=2)
    arguments_of.add_argument("--channels", type=int, default=16)
    arguments_of.add_argument("--state", type=int, default=32)
    arguments_of.add_argument("--max-steps", type=int, default=400)
    arguments_of.add_argument("--figure", type=Path, help="PNG file of the errors against the delay")
    options = arguments_of.parse_args(arguments)

    grid = np.unique(np.linspace(0, options.length - 1, 65).astype(int))
    results: dict[str, Any] = {"held": held_table(options.state, options.length, grid.tolist(), options)}
    for name, errors in results["held"].items():
        print(f"{name:24}held  {np.mean(errors):9.6f}  mean over all delays", flush=True)
    results |= learned_tables(options)
    if options.figure is not None:
        draw(options.figure, grid.tolist(), results)
    names = ("length", "bandwidth", "noise", "items", "series", "layers", "channels", "state", "max_steps")
    write(
        options.json,
        {"delays of held": grid.tolist(), **results},
        paper={
            "sequential MNIST, accuracy, random A": 0.60,
            "sequential MNIST, accuracy, HiPPO A": 0.98,
            "source": "S4, arXiv 2111.00396, section 2.2, of the experiments with LSSL",
        },
        differs=(
            "The papers show what HiPPO buys on sequential MNIST; here it is memory itself, on made series "
            "of known truth, with a small network, few steps, and every other matrix at the same size and, "
            "unless it says otherwise, the same spread of timescales."
        ),
        seeds=options.seeds,
        note=options.note,
        **{name: getattr(options, name) for name in names},
    )


if __name__ == "__main__":
    main()
