"""What a first use costs: processor seconds of a fit that has to compile its kernels, and of a second one.

Each measurement is a process of its own on one thread. The first has an empty folder for kernels and compiles
what it needs; the second finds it there. Both import and load the same, so that their difference is the
compiler. ``fit`` sees 30 series of 2 channels and 100 samples: on a regular grid, at random times, and in
closed form. With ``--against`` another checkout is measured in turn with this one. Run as

    python examples/benchmarks/cold_start.py [--against CHECKOUT] [--repeats 1] [--json results.json]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measuring import machine

#: What compiling may cost, in processor seconds.
ALLOWED = {"regular": 10.0, "times": 15.0, "features": 8.0}

SCRIPT = """
import json, sys, time
started = time.process_time()
import tsssm
tsssm.SSMClassifier
imported = time.process_time()
import numpy as np
case, steps = sys.argv[1:]
random = np.random.default_rng(0)
X, y = random.normal(size=(30, 2, 100)), np.arange(30) % 2
if case == "times":
    X = tsssm.Panel.from_numpy(X, np.sort(random.uniform(0, 100, size=(30, 100)), axis=1))
if case == "features":
    estimator = tsssm.SSMFeaturesClassifier(random_state=0)
else:
    estimator = tsssm.SSMClassifier(random_state=0, max_steps=int(steps) or None)
began = time.process_time()
estimator.fit(X, y)
print(json.dumps({"import": imported - started, "fit": time.process_time() - began}))
"""


def measure(checkout: Path, case: str, cache: str, steps: int) -> dict[str, float]:
    """Processor seconds of the import and of the fit in a new process."""
    variables = {"PYTHONPATH": str(checkout), "NUMBA_CACHE_DIR": cache, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, case, str(steps)]
    # Not in the folder of a checkout, which Python would put before PYTHONPATH.
    run = subprocess.run(command, env=os.environ | variables, cwd=cache, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{case} in {checkout} failed:\n{run.stderr}")
    return json.loads(run.stdout.splitlines()[-1])


def cold_and_warm(checkout: Path, case: str, steps: int) -> dict[str, float]:
    """Processor seconds of the import, of the first fit and of the second."""
    with tempfile.TemporaryDirectory() as cache:
        first, second = (measure(checkout, case, cache, steps) for _ in range(2))
    return {"import": second["import"], "first": first["fit"], "second": second["fit"]}


def main(argv: list[str] | None = None) -> None:
    """Measure, print a table, and write the figures as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="another checkout, measured in turn with this one")
    parser.add_argument("--repeats", type=int, default=1, help="the least of so many runs counts")
    parser.add_argument("--cases", nargs="+", choices=list(ALLOWED), default=list(ALLOWED))
    parser.add_argument("--max-steps", type=int, default=0, help="of a trained fit; 0: until it converges")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    checkouts = {"this": Path(__file__).parents[2]}
    if args.against is not None:
        checkouts["against"] = args.against.resolve()
    seconds: dict[str, dict[str, Any]] = {}
    print(f"{'case':<10}{'checkout':<10}{'import':>8}{'first':>8}{'second':>8}{'compiler':>10}{'allowed':>9}")
    for case in args.cases:
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
        for _ in range(args.repeats):
            for name, checkout in checkouts.items():
                runs[name].append(cold_and_warm(checkout, case, args.max_steps))
        seconds[case] = {}
        for name, rows in runs.items():
            row = {key: round(min(r[key] for r in rows), 2) for key in rows[0]}
            row["compiler"] = round(min(r["first"] - r["second"] for r in rows), 2)
            seconds[case][name] = row
            figures = "".join(f"{row[key]:8.1f}" for key in ("import", "first", "second"))
            print(f"{case:<10}{name:<10}{figures}{row['compiler']:10.1f}{ALLOWED[case]:9.0f}")
    if args.json is not None:
        report = {"machine": machine() | {"threads": 1}, "allowed": ALLOWED, "processor seconds": seconds}
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
