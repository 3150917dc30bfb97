"""``python -m tsssm``: versions, devices, threads and kept kernels; with ``--compile``, kernels for an image.

Kernels are compiled at their first use and kept (``tsssm.ops.cpu.caching``). Who builds an image compiles
them there, as a user who may write into the package, and no process started from it has to.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from importlib.metadata import version

import numpy as np

from tsssm._version import __version__

_LIBRARIES = ("torch", "numba", "numpy", "scipy", "pandas", "scikit-learn", "sktime", "lightning")


def report() -> str:
    """What to quote when something goes wrong."""
    import torch

    from tsssm.ops.cpu import caching
    from tsssm.ops.operands import path_on
    from tsssm.training import resolve_device

    count = torch.cuda.device_count()
    devices = ["cpu", *(torch.cuda.get_device_name(i) for i in range(count))]
    lines = {
        "tsssm": __version__,
        "Python": f"{platform.python_version()} on {platform.platform()}",
        **{name: version(name) for name in _LIBRARIES},
        "torch": torch.__version__,  # which also says for which device it was built
        "devices": ", ".join(devices),
        "accelerator='auto'": resolve_device("auto").type,
        **{f"scans on {kind}": path_on(torch.device(kind)) for kind in ("cpu", *["cuda"] * (count > 0))},
        "threads": f"{torch.get_num_threads()} of torch, {os.cpu_count()} processors",
    }
    for folder, entries in caching.kept():
        size = sum(path.stat().st_size for path in entries) / 1e6
        lines[f"kernels in {folder}"] = f"{len(entries)}, {size:.1f} MB"
    return "\n".join(f"{name}: {value}" for name, value in lines.items())


def compile_kernels(backbones: list[str]) -> None:
    """Compile what fits, predictions and streams of these backbones and of the closed-form features need."""
    from tsssm import Panel, SSMClassifier, SSMFeaturesClassifier, Stream

    random = np.random.default_rng(0)
    X, y = random.normal(size=(30, 2, 100)), np.arange(30) % 2
    regular = Panel.from_numpy(X)
    irregular = Panel.from_numpy(X, np.sort(random.uniform(0, 100, size=(30, 100)), axis=1))
    for name in backbones:
        SSMClassifier(backbone=name, max_steps=2).fit(regular, y).predict(regular)
        forwards = SSMClassifier(backbone=name, max_steps=2, bidirectional=False).fit(irregular, y)
        forwards.predict(irregular)
        Stream(forwards).push(X[0, :, 0], time=0.0)
    for panel in (regular, irregular):
        features = SSMFeaturesClassifier().fit(panel, y)
    Stream(features).push(X[0, :, 0], time=0.0)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tsssm", description="Versions, devices and kernels.")
    parser.add_argument(
        "--compile",
        nargs="*",
        metavar="BACKBONE",
        help="compile the kernels of these backbones, by default those of the default one",
    )
    args = parser.parse_args(argv)
    if args.compile is not None:
        began = time.process_time()
        compile_kernels(args.compile or ["s4d"])
        print(f"compiled in {time.process_time() - began:.0f} processor seconds")
    print(report())


if __name__ == "__main__":
    main()
