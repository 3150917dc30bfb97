"""From fitted estimators to programs of `torch.export`: a file of PyTorch's own, encoding and scaling inside.

Symbols and shapes: values (batch, L, d), NaN where missing and after the end of a series, times (batch, L).
"""

from __future__ import annotations

import copy
import importlib
import io
import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsssm.encoding import GAP_ROUNDING, GAP_TOLERANCE, LARGEST_VALUE, LONGEST_GAP, PanelEncoder
from tsssm.estimators import SSMClassifier, SSMRegressor
from tsssm.estimators._numbers import LEAST_VARIANCE
from tsssm.exporting._checks import check_exportable
from tsssm.exporting._notes import notes_of
from tsssm.persistence import write_atomically

_ENDING, _NOTES = ".pt2", "tsssm.json"
_PADDING = 3
#: Modules that register operations of the package with PyTorch.
_OPERATIONS = ("diagonal", "dplr", "liquid", "tridiagonal", "convolution")


def to_torch_export(
    estimator: SSMClassifier | SSMRegressor, path: str | os.PathLike[str] | None = None
) -> torch.export.ExportedProgram:
    """Write a fitted estimator as a program of `torch.export`, scaling and missing values inside.

    The program takes any number of series of any length. Its scans are the operators of this package, which
    has to be installed where it runs: `load_torch_export` makes them known to PyTorch. For a file that needs
    neither, see `to_onnx`.

    Parameters
    ----------
    estimator : SSMClassifier or SSMRegressor
        Fitted with ``n_features=0``: the closed form is not written.
    path : path, optional
        Ending in ".pt2"; None writes no file.

    Returns
    -------
    torch.export.ExportedProgram
        Its ``module()`` takes ``values`` (batch, length, channels), float32, NaN where missing and after the
        end of a series; and, if the estimator was fitted to series with times, ``times`` (batch, length),
        float64, in the unit of the training series. It returns a dict with the outputs that `to_onnx` names.

    Raises
    ------
    NotFittedError
        Before ``fit``.
    TypeError
        For another estimator.
    ExportError
        For what cannot be written: the closed form, and networks that read clinical charts. It is a
        ValueError.
    ValueError
        For a path with another ending.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from tsssm import SSMClassifier
    >>> from tsssm.exporting import to_torch_export
    >>> X = np.random.default_rng(0).normal(size=(20, 2, 30))
    >>> small = {"n_features": 0, "n_members": 1, "n_layers": 1, "d_model": 8}
    >>> clf = SSMClassifier(**small, max_epochs=1, random_state=0).fit(X, np.arange(20) % 2)
    >>> program = to_torch_export(clf)
    >>> values = torch.tensor(X, dtype=torch.float32).transpose(1, 2)
    >>> program.module()(values)["probabilities"].shape
    torch.Size([20, 2])
    """
    net = check_exportable(estimator, path, _ENDING, "to_torch_export")
    encoder: Any = estimator.encoder_
    module = _Program(net, encoder, _finish(estimator)).eval()
    values = torch.zeros(2, 3, encoder.n_channels)
    inputs: tuple[Tensor, ...] = (values,)
    if encoder.has_times:
        inputs = (values, torch.arange(3.0, dtype=torch.float64).repeat(2, 1))
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    with torch.no_grad(), warnings.catch_warnings():
        # PyTorch's own, of what it will change.
        warnings.simplefilter("ignore")
        program = torch.export.export(module, inputs, dynamic_shapes=(sizes,) * len(inputs), strict=False)
        if path is not None:
            file = io.BytesIO()
            torch.export.save(program, file, extra_files={_NOTES: json.dumps(notes_of(estimator))})
            write_atomically(Path(path), file.getvalue())
    return program


def load_torch_export(
    path: str | os.PathLike[str],
) -> tuple[Callable[..., dict[str, Tensor]], dict[str, Any]]:
    """Load a file that `to_torch_export` wrote.

    PyTorch reads it: load only files from sources that you trust.

    Parameters
    ----------
    path : path

    Returns
    -------
    program : callable
        As the ``module()`` of `to_torch_export`.
    notes : dict
        The number of channels, their names, the unit of times and the classes, as far as they are known.
    """
    for name in _OPERATIONS:
        importlib.import_module(f"tsssm.ops.autograd.{name}")
    notes = {_NOTES: ""}
    program = torch.export.load(os.fspath(path), extra_files=notes)
    return program.module(), json.loads(notes[_NOTES])


class _Program(nn.Module):
    """Encoding, as `PanelEncoder.encode_all`, networks, and answers."""

    def __init__(self, net: nn.Module, encoder: PanelEncoder, finish: Callable[..., Any]) -> None:
        super().__init__()
        self.net, self.finish = copy.deepcopy(net).requires_grad_(False), finish
        self.mean = nn.Buffer(torch.as_tensor(encoder.mean))
        self.std = nn.Buffer(torch.as_tensor(encoder.std))
        self.low, self.high = (nn.Buffer(torch.as_tensor(limit.copy())) for limit in encoder.limits)
        self.missing, self.has_times = encoder.missing, encoder.has_times
        self.time_scale, self.step = float(encoder.time_scale_), float(encoder.step)

    def forward(self, values: Tensor, times: Tensor | None = None) -> dict[str, Tensor]:
        return self.finish(self.net(*self.encoded(values, times)))

    def encoded(self, values: Tensor, times: Tensor | None) -> tuple[Tensor, Tensor]:
        """Inputs (batch, L, d_in) and gaps (batch, L) of the samples that have a value, and then padding."""
        channels = values.shape[2]
        # PyTorch would make a case of its own of one or two samples.
        values = F.pad(values, (0, 0, 0, _PADDING), value=torch.nan)
        times = None if times is None else F.pad(times, (0, _PADDING))
        position = torch.arange(values.shape[1], device=values.device).expand(values.shape[:2])
        # What is beyond the limits is missing; NaN is neither above nor below them.
        seen = (values.double() >= self.low) & (values.double() <= self.high)
        present = seen.any(dim=2)
        # A series without any value is its first sample.
        present = present | (~present.any(dim=1, keepdim=True) & (position == 0))
        order = torch.argsort((~present).to(torch.int64), dim=1, stable=True)
        rows = order[..., None].expand(-1, -1, channels)
        values, seen, present = values.gather(1, rows), seen.gather(1, rows), present.gather(1, order)
        dt = torch.where(present, self._dt(order.double() if times is None else times.gather(1, order)), 0.0)
        z = (values.double() - self.mean) / self.std
        z = torch.where(seen, z.clamp(-LARGEST_VALUE, LARGEST_VALUE), 0.0).float()
        latest = torch.where(seen, position[..., None], -1).cummax(dim=1).values
        if self.missing:
            clock = dt.cumsum(dim=1)
            before = torch.cat([torch.zeros_like(latest[:, :1]), latest[:, :-1]], dim=1).clamp(min=0)
            since = clock[..., None] - clock[..., None].expand(-1, -1, channels).gather(1, before)
            u = torch.cat([z, seen.float(), since.log1p().float()], dim=2)
        else:
            u = torch.where(latest >= 0, z.gather(1, latest.clamp(min=0)), 0.0)
        return u * present[..., None], dt.float()

    def _dt(self, time: Tensor) -> Tensor:
        """Gaps (batch, L) in units of the time scale, 1 at the first sample."""
        dt = time.diff(dim=1)
        dt = dt / self.time_scale if self.has_times else dt * self.step
        dt = torch.cat([torch.ones_like(time[:, :1]), dt], dim=1)
        allowed: Any = float(GAP_TOLERANCE)
        if self.has_times:
            allowed = allowed + float(GAP_ROUNDING) * time.abs() / self.time_scale
        return torch.where((dt - 1.0).abs() <= allowed, 1.0, dt.clamp(max=LONGEST_GAP))


def _finish(estimator: Any) -> Callable[[Tensor], Mapping[str, Tensor]]:
    """From the outputs of the networks (batch, n_outputs) to answers, named as by `to_onnx`."""
    if isinstance(estimator, SSMClassifier):
        if not isinstance(estimator.classes_, list):
            return lambda raw: {"probabilities": raw.softmax(dim=1)}
        sizes = list(estimator.n_classes_)
        return lambda raw: {
            f"probabilities_{k}": part.softmax(dim=1) for k, part in enumerate(raw.split(sizes, dim=1))
        }
    targets = estimator._targets
    mean, std = (torch.as_tensor(part)[:, None] for part in (targets.mean, targets.std))
    loss, levels, count = targets.loss, list(targets.quantiles), targets.n_columns

    def numbers(raw: Tensor) -> Mapping[str, Tensor]:
        z = raw.unflatten(1, (count, -1)).double()
        if loss == "quantile":
            quantiles = (z.sort(dim=2).values * std + mean).float()
            return {"prediction": quantiles[..., levels.index(0.5)], "quantiles": quantiles}
        answers = {"prediction": (z[..., :1] * std + mean)[..., 0].float()}
        if loss == "gaussian":
            spread = (F.softplus(z[..., 1]) + LEAST_VARIANCE).sqrt() * std[:, 0]
            answers["standard_deviation"] = spread.float()
        return answers

    return numbers
