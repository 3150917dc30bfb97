"""One model trained by several processes, and by one process on more data than its memory takes.

First, a classifier of BasicMotions is fitted in this process, and then by two processes that share every
batch and average their gradients (Lightning's strategy ddp, with gloo on CPUs and NCCL on GPUs). Both must
agree up to rounding. Here the script starts torchrun itself. Elsewhere you start the processes, and call
``fit`` in all of them, with the same data and the same integer as ``random_state``. All end with the same
model, and one of them, of ``RANK`` or ``SLURM_PROCID`` 0, saves it.

One machine with two GPUs, and a script that fits with ``devices=2, trainer_kwargs={"strategy": "ddp"}``:

    torchrun --standalone --nproc-per-node 2 train.py

Two machines of four GPUs, ``devices=4`` and ``trainer_kwargs={"strategy": "ddp", "num_nodes": 2}``, the same
command on each with a ``--node-rank`` of its own:

    torchrun --nnodes 2 --node-rank 0 --nproc-per-node 4 --master-addr HOST --master-port 29500 train.py

Under Slurm, which starts a process for every GPU, Lightning finds what it sets, and needs no torchrun.
``devices`` has to be ``--ntasks-per-node``, and ``num_nodes`` has to be ``--nodes``:

    #SBATCH --nodes=2 --ntasks-per-node=4 --gpus-per-node=4
    srun python train.py

A batch is shared by all processes: ``batch_size`` is that of all of them together, and at least their number.
NCCL and several machines have not been tried; what is tested is gloo, with two processes on one machine.

Second, a panel is written to disk piece by piece and mapped into memory, and a process fits it whose memory
is limited to less than the size of the panel; the script first shows that the limit refuses to load it. Linux
only. Run as

    python examples/distributed.py [--processes 2] [--megabytes 1000] [--limit 300] [--output DIR]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from sktime.datasets import load_basic_motions

import tsssm
from tsssm import Panel, SSMClassifier

LENGTH, CHANNELS = 1000, 4  # of the series on disk


def classifier(processes: int, max_epochs: int) -> SSMClassifier:
    """The same model for any number of processes.

    Batch normalisation is left out, whose statistics are those of the share that a process has of a batch,
    and so is dropout, which every process draws for itself.
    """
    return SSMClassifier(
        backbone="s4d",
        n_members=1,
        n_features=0,
        norm="layer",
        dropout=0.0,
        max_epochs=max_epochs,
        batch_size=16,
        accelerator="cpu",
        devices=processes,
        trainer_kwargs={"strategy": "ddp"} if processes > 1 else None,
        random_state=0,
    )


def fit_in_every_process(max_epochs: int, path: Path) -> None:
    """What torchrun runs: fit, and let the first process save the model, which all of them have."""
    X, y = load_basic_motions(split="train", return_type="numpy3D")
    model = classifier(int(os.environ["WORLD_SIZE"]), max_epochs).fit(X, y)
    if os.environ["RANK"] == "0":
        model.save(path)


def compare(processes: int, max_epochs: int, output: Path) -> float:
    """Return the largest difference between the probabilities of one process and of several."""
    X, y = load_basic_motions(split="train", return_type="numpy3D")
    X_test, y_test = load_basic_motions(split="test", return_type="numpy3D")
    path = output / "shared.safetensors"
    arguments = ["--worker", str(path), "--max-epochs", str(max_epochs)]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    subprocess.run([sys.executable, *torchrun, __file__, *arguments], check=True)
    alone, shared = classifier(1, max_epochs).fit(X, y), tsssm.load(path)
    difference = np.abs(alone.predict_proba(X_test) - shared.predict_proba(X_test)).max()
    print(f"one process: test accuracy {alone.score(X_test, y_test):.3f}")
    print(f"{processes} processes: test accuracy {shared.score(X_test, y_test):.3f}")
    print(f"largest difference of a probability: {difference:.1e}", flush=True)
    return float(difference)


def write_panel(path: Path, megabytes: float) -> int:
    """Write noise around the level of a class, ten series at a time; return the number of series."""
    count = round(megabytes * 1e6 / (4 * LENGTH * CHANNELS))
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, count, 10):
            labels = np.arange(start, min(start + 10, count)) % 2
            noise = rng.standard_normal((len(labels), LENGTH, CHANNELS), dtype=np.float32)
            (noise + (labels - 0.5)[:, None, None]).astype(np.float32).tofile(file)
    return count


def memory() -> int:
    """Bytes of the private memory that the operating system counts against RLIMIT_DATA."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmData"))


def fit_with_little_memory(path: Path, limit: float) -> None:
    """Fit the panel on disk in a process that may have ``limit`` megabytes beyond what it starts with."""
    values = np.memmap(path, dtype=np.float32, mode="r").reshape(-1, CHANNELS)
    offsets = np.arange(0, len(values) + 1, LENGTH)
    y = np.arange(len(offsets) - 1) % 2
    settings = {"n_members": 1, "n_features": 0, "n_layers": 1, "d_model": 8, "d_state": 4}
    model = SSMClassifier(**settings, max_steps=20, batch_size=8, random_state=0)
    # What is loaded by the first fit of a process, torch's and Lightning's, is not what is limited here.
    model.fit(Panel(np.array(values[: 10 * LENGTH]), offsets[:11]), y[:10])
    allowed = memory() + int(limit * 1e6)
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))
    try:
        np.array(values)
    except MemoryError:
        print(f"{limit:.0f} MB do not take the panel of {values.nbytes / 1e6:.0f} MB", flush=True)
    else:
        raise RuntimeError(f"{limit} MB are enough for the panel; ask for a larger one.")
    started = time.perf_counter()
    panel = Panel(values, offsets)
    model.fit(panel, y)
    accuracy = model.score(panel[:200], y[:200])
    print(f"fitted {len(panel)} series in {time.perf_counter() - started:.0f} s, accuracy {accuracy:.3f}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--max-epochs", type=int, default=20)
    parser.add_argument("--megabytes", type=float, default=1000, help="size of the panel on disk")
    parser.add_argument("--limit", type=float, default=300, help="megabytes of memory for its fit")
    parser.add_argument("--output", type=Path, default=Path("output"))
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--mapped", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        return fit_in_every_process(options.max_epochs, options.worker)
    if options.mapped:
        return fit_with_little_memory(options.mapped, options.limit)
    options.output.mkdir(parents=True, exist_ok=True)
    difference = compare(options.processes, options.max_epochs, options.output)
    if difference > 1e-3:
        raise RuntimeError("Several processes do not train what one process trains.")
    with tempfile.TemporaryDirectory(dir=options.output) as folder:
        path = Path(folder) / "panel.f32"
        write_panel(path, options.megabytes)
        limits = ["--mapped", str(path), "--limit", str(options.limit)]
        subprocess.run([sys.executable, __file__, *limits], check=True)


if __name__ == "__main__":
    main()
