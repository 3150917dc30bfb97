"""Candidates of one transform: their coefficients, and what they forecast in held-out windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tsssm.forecasting._inputs import Inputs
from tsssm.forecasting._ridge import Spectrum, Sums
from tsssm.forecasting._windows import Collected, Plan, Scale, Series, collect

FloatArray = npt.NDArray[np.float64]

#: The base of candidates that deviate from the bank's forecast.
SMOOTH = "smooth"
_FEWEST_WINDOWS = 12
_ROWS = 1024  # windows that are forecast together


class Candidate(NamedTuple):
    """One way to forecast: transform, base, lags (0 for the base alone), windows counted as one."""

    transform: str
    base: str
    lags: int
    overlap: float


class Trial:
    """All candidates of one transform."""

    def __init__(
        self,
        transform: str,
        series: Sequence[Series],
        inputs: Inputs,
        plan: Plan,
        scalings: Sequence[str],
        competes: bool,
    ) -> None:
        self.transform, self.inputs, self.plan, self.competes = transform, inputs, plan, competes
        self.scales = [Scale.of(s.y, transform == "log", inputs.even) for s in series]
        self.found: Collected = collect(series, self.scales, inputs, plan)
        self.bases = {
            name: base
            for name, base in inputs.bases(plan.horizon).items()
            if name == "season" or name in scalings
        }

    def candidates(self) -> list[Candidate]:
        """Those that there are enough windows for; the bank alone always."""
        if not self.competes:
            return []
        rows = [Candidate(self.transform, SMOOTH, 0, 1.0)]
        rows += [Candidate(self.transform, name, 0, 1.0) for name in self.bases if name in ("season", "last")]
        overlaps = sorted({1.0, float(self.plan.horizon)})
        for name, sums in [*((name, self.found.plain) for name in self.bases), (SMOOTH, self.found.smooth)]:
            if sums[0].windows >= _FEWEST_WINDOWS:
                rows += [
                    Candidate(self.transform, name, lags, overlap)
                    for lags in self.inputs.lags
                    for overlap in overlaps
                ]
        return rows

    def solved(self, wanted: Sequence[Candidate], early: bool) -> Iterator[tuple[Candidate, FloatArray]]:
        """Coefficients (d, H) of each candidate, from the windows before the held-out part or from all."""
        sums = {SMOOTH: self._sums(self.found.smooth, early), "": self._sums(self.found.plain, early)}
        spectra: dict[tuple[bool, int], Spectrum] = {}
        around: dict[str, Sums] = {}
        for candidate in wanted:
            name = candidate.base
            base = self.bases.get(name)
            if candidate.lags == 0:
                yield candidate, base if base is not None else np.zeros_like(sums[""].FY)
                continue
            own = sums[SMOOTH if name == SMOOTH else ""]
            key = name == SMOOTH, candidate.lags
            if key not in spectra:
                spectra[key] = Spectrum.of(own, self.inputs.columns(candidate.lags))
            if name not in around:
                around[name] = own if base is None else own.around(base)
            coef = spectra[key].solve(around[name], candidate.overlap)
            yield candidate, coef if base is None else base + coef

    @staticmethod
    def _sums(pair: tuple[Sums, Sums], early: bool) -> Sums:
        return pair[0] if early else pair[0].plus(pair[1])

    def forecasts(self, wanted: Sequence[Candidate], units: FloatArray, out: npt.NDArray[np.float32]) -> None:
        """Forecasts (C, N, H) of the held-out windows by each candidate, in units (N,)."""
        kept = self.found.kept
        own = np.array([scale.unit for scale in self.scales])[kept.owner]
        logs = np.array([scale.log for scale in self.scales])[kept.owner]
        limits = np.array([scale.limit for scale in self.scales])[kept.owner]
        any_logs, all_logs = bool(logs.any()), bool(logs.all())
        # What stays the same for all candidates is put into these units once.
        factor = np.where(logs, own, own / units)
        inputs = kept.inputs * (factor * kept.size)[:, None]
        last, path = (factor * kept.last)[:, None], factor[:, None] * kept.path
        shift, most = np.log(units)[:, None], (own * limits)[:, None]
        parts = [slice(i, i + _ROWS) for i in range(0, len(inputs), _ROWS)]
        columns: dict[bytes, FloatArray] = {}
        for found, (candidate, coef) in zip(out, self.solved(wanted, early=True), strict=True):
            used = coef.any(axis=1)
            key = used.tobytes()
            if key not in columns:
                columns[key] = np.ascontiguousarray(inputs[:, used])
            base, own_inputs, own_coef = path if candidate.base == SMOOTH else last, columns[key], coef[used]
            for part in parts:
                z = own_inputs[part] @ own_coef
                z += base[part]
                if all_logs:
                    np.minimum(z, most[part], out=z)
                    z -= shift[part]
                    np.exp(z, out=z)
                elif any_logs:
                    log = logs[part]
                    z[log] = np.exp(np.minimum(z[log], most[part][log]) - shift[part][log])
                found[part] = z
