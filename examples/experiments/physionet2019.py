"""PhysioNet 2019: sepsis within six hours, at every twelfth hour of an intensive-care stay.

Hourly records of 34 variables, 81 % of the values missing, and 5 descriptors of the patient. A chart is what
is known at an hour, every 12 hours of the stay, and its label says whether sepsis sets in within the next six
hours or has done so. 5-fold cross-validation by patient, stratified by whether there is ever sepsis
(shuffled, ``random_state=0``), all methods in the same folds: area under the ROC curve (AUROC), average
precision (AUPRC), Brier score, log loss, and calibration. Ours are `SSMClassifier` and
`SSMFeaturesClassifier` with their defaults; beside them stands gradient boosting on the usual statistics of
each variable, the last value carried on among them, searched in the training part of each fold. All know for
how long the patient has been in the unit. Needs the data: `tsssm.datasets.fetch_physionet2019` says where it
looks. Run as

    OMP_NUM_THREADS=1 python examples/experiments/physionet2019.py [--sets b] [--json FILE]
"""

from __future__ import annotations

from typing import Any

import numpy as np
from experiment import parser, write
from physionet2012_inputs import Summaries
from risks import Clock, one_fold, show, so_far_told
from sklearn.model_selection import StratifiedKFold

from tsssm import Panel
from tsssm.datasets import fetch_physionet2019

# The challenge scored the utility of hourly alarms on hidden sets; nothing published has this protocol.
PAPER: dict[str, Any] = {}
DIFFERS = "Published figures are of the challenge's own utility, or of whole records, whose length tells."
N_STATIC = 6


def so_far(records: Any, every: int) -> tuple[Panel, np.ndarray, np.ndarray]:
    """Charts at every so many samples of each patient, their labels, and the number of the patient of each.

    The static channels come first, and before them the time at the end of the chart.
    """
    panel = records.data
    names = records.feature_names
    static = names[-(N_STATIC - 1) :]
    panel = panel.select([*static, *(name for name in names if name not in static)])
    counts = panel.lengths // every
    patient = np.repeat(np.arange(len(panel)), counts)
    which = np.arange(len(patient)) - np.repeat(np.cumsum(counts) - counts, counts)
    lengths = (which + 1) * every
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rows = np.arange(offsets[-1]) + np.repeat(panel.offsets[patient] - offsets[:-1], lengths)
    ends = panel.offsets[patient] + lengths - 1
    now = np.repeat(panel.times[ends], lengths)[:, None]
    values = np.concatenate([now, panel.values[rows]], axis=1, dtype=np.float32)
    named = ["hours", *panel.channel_names]
    charts = Panel(values, offsets, panel.times[rows], named, time_unit=panel.time_unit)
    return charts, records.labels[ends], patient


def main(arguments: list[str] | None = None) -> None:
    cli = parser(__doc__, seeds=(0,))
    cli.add_argument("--sets", nargs="+", default=["a", "b"], help="of the challenge")
    cli.add_argument("--every", type=int, default=12, help="hours from one chart to the next")
    cli.add_argument("--patients", type=int, help="take the first so many alone")
    cli.add_argument("--folds", type=int, default=5, help="run the first so many of the five")
    cli.add_argument("--max-steps", type=int, help="of the networks, in place of their default")
    cli.add_argument("--draws", type=int, default=6, help="settings tried of boosting on summaries")
    options = cli.parse_args(arguments)

    records = fetch_physionet2019(options.sets)
    charts, y, patient = so_far(records, options.every)
    septic = records.target[: options.patients]
    print(f"{charts}, of {len(septic)} patients; {y.mean():.2%} of the charts are before sepsis")
    split = StratifiedKFold(5, shuffle=True, random_state=0).split(np.zeros(len(septic)), septic)
    folds = [tuple(np.flatnonzero(np.isin(patient, part)) for part in parts) for parts in split]
    clocks: list[Clock] = []
    notes: list[dict[str, Any]] = []
    for number, (train, test) in enumerate(folds[: options.folds], start=1):
        # Charts of one patient leave a member of the network together.
        groups = {"groups": patient[train]}
        clock, note = one_fold(charts[train], y[train], charts[test], Summaries(N_STATIC), options, **groups)
        clocks.append(clock)
        notes.append(note)
        results, leads = so_far_told(y, [test for _, test in folds[:number]], clocks)
        write(  # after every fold, so that a run that is stopped leaves what it has found
            options.json,
            results,
            PAPER,
            DIFFERS,
            patients=len(septic),
            septic=float(septic.mean()),
            charts=int(np.isin(patient, np.arange(len(septic))).sum()),
            sets=options.sets,
            every=options.every,
            folds=f"first {number} of StratifiedKFold(5, shuffle=True, random_state=0), by patient",
            seeds=options.seeds,
            less_boosting=leads,
            found=notes,
            note=options.note,
        )
    show(results, leads)


if __name__ == "__main__":
    main()
