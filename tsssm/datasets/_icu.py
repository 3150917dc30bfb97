"""Intensive-care stays with a hidden severity: asynchronous measurements and an outcome."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from tsssm.datasets._bunch import checked_count, checked_number, generator, result
from tsssm.panel import Panel


class _Variable(NamedTuple):
    """A variable with mean ``normal + slope * severity``, charted every ``gap`` hours on average."""

    unit: str
    normal: float
    slope: float
    spread: float  # standard deviation of a measurement
    gap: float


VARIABLES = {
    "HR": _Variable("beats/min", 85.0, 12.0, 6.0, 1.0),
    "SBP": _Variable("mmHg", 120.0, -12.0, 8.0, 1.0),
    "RR": _Variable("breaths/min", 18.0, 3.0, 2.0, 1.0),
    "SpO2": _Variable("%", 96.0, -1.5, 1.0, 1.0),
    "Temp": _Variable("degrees C", 37.0, 0.3, 0.3, 4.0),
    "Lactate": _Variable("mmol/L", 2.0, 1.0, 0.4, 8.0),
    "Creatinine": _Variable("mg/dL", 1.2, 0.5, 0.2, 12.0),
    "WBC": _Variable("10^9/L", 10.0, 2.5, 2.0, 24.0),
}
_OFFSET, _AGE, _END = -2.2, 0.5, 1.6  # log odds of death: of all, of a standard deviation of age, of severity
_AGE_MEAN, _AGE_STD = 64.0, 14.0  # years


def make_icu(
    n_samples: int = 500,
    *,
    duration: float = 48.0,
    informative: float = 0.5,
    return_X_y: bool = False,
    random_state: Any = None,
) -> Any:
    """Make intensive-care stays: asynchronous vital signs and laboratory values, and death in hospital.

    Each patient has a severity that changes evenly over the stay, ``severity[:, 0]`` at its start and
    ``severity[:, 1]`` at its end, standard normal at the start, the change with standard deviation 1. A
    measurement of a variable is its normal value plus its slope times the severity at that time plus white
    noise. Each variable is charted at a Poisson process of its own, from about every hour (heart rate,
    pressure, breathing, saturation) to once a day (white cells). The log odds of death are
    ``-2.2 + 0.5 (age - 64) / 14 + 1.6 severity[:, 1]``.

    Parameters
    ----------
    n_samples : int, default=500
        Number of stays.
    duration : float, default=48.0
        Length of the record in hours.
    informative : float, default=0.5
        How much more often the sick are measured: charting rates are multiplied by
        ``exp(informative * severity[:, 0])``, so that what is missing says something too. 0 switches it off.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    random_state : None, int, Generator or RandomState, default=None
        Seed.

    Returns
    -------
    Bunch
        ``data``, a Panel with times in hours, a constant channel for age in years and one for each of the 8
        variables, NaN where not charted; ``target`` (n,) int64, 1 for death; ``probability`` (n,), the true
        risk, which no model can outdo; ``severity`` (n, 2); ``feature_names``; ``units``, by name; ``groups``
        None; ``DESCR``.
    (data, target) : tuple if ``return_X_y``

    Raises
    ------
    ValueError
        For arguments out of their range.
    """
    checked_count(n_samples, "n_samples")
    checked_number(duration, "duration", 0, open_low=True)
    checked_number(informative, "informative", 0, 2)
    rng = generator(random_state)
    start = rng.standard_normal(n_samples)
    end = start + rng.standard_normal(n_samples)
    age = np.round(np.clip(rng.normal(_AGE_MEAN, _AGE_STD, n_samples), 18, 95))
    tables = [pd.DataFrame({"id": np.arange(n_samples), "time": 0.0, "variable": "Age", "value": age})]
    for name, variable in VARIABLES.items():
        counts = rng.poisson(duration / variable.gap * np.exp(informative * start))
        patient = np.repeat(np.arange(n_samples), counts)
        time = rng.uniform(0, duration, len(patient))
        severity = start[patient] + (end - start)[patient] * time / duration
        value = rng.normal(variable.normal + variable.slope * severity, variable.spread)
        tables.append(pd.DataFrame({"id": patient, "time": time, "variable": name, "value": value}))
    panel = Panel.from_long(
        pd.concat(tables, ignore_index=True), variables=["Age", *VARIABLES], static=["Age"], time_unit="h"
    )
    odds = np.exp(_OFFSET + _AGE * (age - _AGE_MEAN) / _AGE_STD + _END * end)
    probability = odds / (1 + odds)
    return result(
        "icu",
        panel,
        (rng.random(n_samples) < probability).astype(np.int64),
        return_X_y=return_X_y,
        feature_names=["Age", *VARIABLES],
        probability=probability,
        severity=np.stack([start, end], axis=1),
        units={"Age": "years"} | {name: variable.unit for name, variable in VARIABLES.items()},
    )
