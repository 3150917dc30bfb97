"""From fitted estimators to ONNX files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tsssm.estimators import SSMClassifier, SSMRegressor
from tsssm.estimators._number_targets import LEAST_VARIANCE
from tsssm.exporting._checks import ExportError, check_exportable
from tsssm.exporting._graph import Graph
from tsssm.exporting._model import sample_model, series_model
from tsssm.exporting._notes import notes_of
from tsssm.persistence import write_atomically
from tsssm.training import members_of

if TYPE_CHECKING:
    import onnx

Answers = Mapping[str, tuple[str, tuple[int, ...]]]

_ENDING = ".onnx"


def to_onnx(
    estimator: SSMClassifier | SSMRegressor,
    path: str | os.PathLike[str] | None = None,
    *,
    streaming: bool = False,
) -> onnx.ModelProto:
    """Write a fitted estimator as an ONNX model, scaling and treatment of missing values inside.

    Needs the package onnx (``pip install 'tsssm[onnx]'``); to run the model takes no Python. It has operators
    of ONNX's own set 17 alone, and a loop over time, so that one file serves series of any length.

    Parameters
    ----------
    estimator : SSMClassifier or SSMRegressor
        Fitted with ``n_features=0``: the closed form is not written.
    path : path, optional
        Ending in ".onnx"; None writes no file.
    streaming : bool, default=False
        One sample with a state in and out, as `Stream`, in place of whole series; needs
        ``bidirectional=False``.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    NotFittedError
        Before ``fit``.
    TypeError
        For another estimator.
    ExportError
        For what has no ONNX form: the closed form, first-order hold, LSSL with zero-order hold, and streams
        of bidirectional networks. It is a ValueError.
    ValueError
        For a path with another ending.
    ImportError
        Where onnx is not installed.
    OSError
        If the file cannot be written.

    Notes
    -----
    Inputs of a model of whole series: ``values`` (batch, length, channels), float32, with NaN where missing;
    and, if the estimator was fitted to series with times, ``times`` (batch, length), float64, in the unit
    that the metadata name as ``time_unit``. Series of other lengths are padded with NaN at the end (with any
    times); a sample that is NaN in every channel counts as none. A model of samples has ``values`` (batch,
    channels), ``time`` (batch, 1) and ``state_0``, ``state_1``, ..., all zeros before the first sample; what
    they become comes out as ``state_0_after`` and so on.

    Outputs: ``probabilities`` of a classifier, one for each column of y if there are several
    (``probabilities_0``, ...), in the order of ``classes`` in the metadata; of a regressor ``prediction``
    (batch, n_outputs), with the loss "gaussian" also ``standard_deviation``, with "quantile" also
    ``quantiles`` (batch, n_outputs, n_quantiles).

    Examples
    --------
    >>> import numpy as np
    >>> from tsssm import SSMClassifier
    >>> from tsssm.exporting import to_onnx
    >>> X = np.random.default_rng(0).normal(size=(20, 2, 30))
    >>> small = {"n_features": 0, "n_members": 1, "n_layers": 1, "d_model": 8}
    >>> clf = SSMClassifier(**small, max_epochs=1, random_state=0).fit(X, np.arange(20) % 2)
    >>> model = to_onnx(clf)  # doctest: +SKIP
    """
    members = members_of(check_exportable(estimator, path, _ENDING, "to_onnx"))
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise ImportError("to_onnx needs the package onnx: pip install 'tsssm[onnx]'.") from error
    if streaming and any(member.config["bidirectional"] for member in members):
        raise ExportError(
            "A bidirectional network has to see the end of a series before it can answer: fit with "
            "bidirectional=False to export a stream."
        )
    write = sample_model if streaming else series_model
    finish = _finish_classes if isinstance(estimator, SSMClassifier) else _finish_numbers
    model = write(members, estimator.encoder_, lambda g, raw: finish(g, raw, estimator), notes_of(estimator))
    if path is not None:
        write_atomically(Path(path), model.SerializeToString())
    return model


def _finish_classes(g: Graph, raw: str, estimator: Any) -> Answers:
    if not isinstance(estimator.classes_, list):
        return {"probabilities": (g.op("Softmax", raw, axis=1), (estimator.n_classes_,))}
    sizes = estimator.n_classes_
    parts = g.ops("Split", len(sizes), raw, g.constant(sizes, np.int64), axis=1)
    columns = enumerate(zip(parts, sizes, strict=True))
    return {f"probabilities_{k}": (g.op("Softmax", part, axis=1), (size,)) for k, (part, size) in columns}


def _finish_numbers(g: Graph, raw: str, estimator: Any) -> Answers:
    count = len(estimator._y_mean)
    z = g.op("Reshape", raw, g.constant([-1, count, estimator._outputs_per_target()], np.int64))
    mean, std = (g.constant(part[:, None]) for part in (estimator._y_mean, estimator._y_std))

    def in_units(part: str) -> str:
        return g.add(g.mul(part, std), mean)

    def column(part: str, k: int) -> str:
        return g.op("Gather", part, g.constant(k, np.int64), axis=2)

    if estimator.loss == "quantile":
        levels = list(estimator.quantiles)
        found, _ = g.ops("TopK", 2, z, g.constant([len(levels)], np.int64), axis=2, largest=0)
        quantiles = in_units(found)
        middle = column(quantiles, levels.index(0.5))
        return {"prediction": (middle, (count,)), "quantiles": (quantiles, (count, len(levels)))}
    answers = {"prediction": (column(in_units(z), 0), (count,))}
    if estimator.loss == "gaussian":
        variance = g.add(g.op("Softplus", column(z, 1)), LEAST_VARIANCE)
        spread = g.mul(g.op("Sqrt", variance), g.constant(estimator._y_std))
        answers["standard_deviation"] = spread, (count,)
    return answers
