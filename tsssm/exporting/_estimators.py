"""From fitted estimators to ONNX files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import block_diag

from tsssm.backbone import Backbone
from tsssm.estimators import SSMClassifier, SSMFeaturesClassifier, SSMFeaturesRegressor, SSMRegressor
from tsssm.estimators._numbers import LEAST_VARIANCE
from tsssm.exporting._checks import CLOSED_FORMS, ExportError, check_common, check_exportable
from tsssm.exporting._features import check_features, linear_outputs
from tsssm.exporting._graph import Graph
from tsssm.exporting._model import linear_model, sample_model, series_model
from tsssm.exporting._notes import notes_of
from tsssm.persistence import write_atomically
from tsssm.training import members_of

if TYPE_CHECKING:
    import onnx

Answers = Mapping[str, tuple[str, tuple[int, ...]]]

_ENDING = ".onnx"


def to_onnx(
    estimator: SSMClassifier | SSMRegressor | SSMFeaturesClassifier | SSMFeaturesRegressor,
    path: str | os.PathLike[str] | None = None,
    *,
    streaming: bool = False,
) -> onnx.ModelProto:
    """Write a fitted estimator as an ONNX model, scaling and treatment of missing values inside.

    Needs the package onnx (``pip install 'tsssm[onnx]'``); to run the model takes no Python. It has operators
    of ONNX's own set 17 alone, and a loop over time, so that one file serves series of any length.

    Parameters
    ----------
    estimator : SSMClassifier, SSMRegressor, SSMFeaturesClassifier or SSMFeaturesRegressor
        Fitted. With a closed form, alone or beside networks, to series on a regular grid without times and
        without missing values.
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
        For what has no ONNX form: the closed form of series with times or missing values, and of a stream
        (``n_features=0`` does without it); what reads clinical charts; first-order hold; LSSL with zero-order
        hold; and streams of bidirectional networks. It is a ValueError.
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
    that is ``time_unit`` of the metadata. Series of other lengths are padded with NaN at the end (with any
    times); a sample that is NaN in every channel counts as none. A model of samples has ``values`` (batch,
    channels), ``time`` (batch, 1) and ``state_0``, ``state_1``, ..., all zeros before the first sample; what
    they become comes out as ``state_0_after`` and so on.

    The closed form depends on the curve between samples; a value that is missing before the end of a series
    makes the answer of a file with a closed form NaN.

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
    closed = isinstance(estimator, CLOSED_FORMS)
    if closed:
        check_common(estimator, path, _ENDING, "to_onnx")
    else:
        net = check_exportable(estimator, path, _ENDING, "to_onnx", closed_form=not streaming)
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise ImportError("to_onnx needs the package onnx: pip install 'tsssm[onnx]'.") from error
    if closed:
        model = _closed_form_model(estimator, streaming)
    else:
        model = _network_model(estimator, members_of(net), streaming)
    if path is not None:
        write_atomically(Path(path), model.SerializeToString())
    return model


def _closed_form_model(estimator: Any, streaming: bool) -> onnx.ModelProto:
    if streaming:
        raise ExportError("A closed form cannot be exported to ONNX with streaming=True; networks can.")
    features = check_features(estimator.features_)

    def finish(g: Graph, closed: str) -> Answers:
        if isinstance(estimator, SSMFeaturesClassifier):
            return _finish_classes(g, _logits(g, closed, estimator), estimator)
        targets = estimator._targets
        std, mean = (g.constant(part, np.float64) for part in (targets.std, targets.mean))
        prediction = g.op("Add", g.op("Mul", closed, std), mean)
        return {"prediction": (g.cast(prediction, np.float32), (targets.n_columns,))}

    return linear_model(features, estimator.coef_, estimator.intercept_, finish, notes_of(estimator))


def _network_model(estimator: Any, members: list[Backbone], streaming: bool) -> onnx.ModelProto:
    if streaming and any(member.config["bidirectional"] for member in members):
        raise ExportError(
            "streaming=True needs networks in one direction, because others read a series from its end, too: "
            "fit with bidirectional=False."
        )
    write = sample_model if streaming else series_model
    form = estimator.closed_form_
    features = None if form is None else check_features(form.features)

    def finish(g: Graph, raw: str) -> Answers:
        closed = None if features is None else linear_outputs(g, features, form.coef, form.intercept)
        if isinstance(estimator, SSMClassifier):
            if closed is not None and estimator.blend_ is not None:
                sizes = [len(classes) for classes in estimator._targets.listed]
                start, own = (g.constant(np.repeat(part, sizes)) for part in estimator.blend_.T)
                raw = g.add(g.mul(_logits(g, closed, estimator), start), g.mul(raw, own))
            return _finish_classes(g, raw, estimator)
        return _finish_numbers(g, raw, estimator, closed)

    return write(members, estimator.encoder_, finish, notes_of(estimator))


def _logits(g: Graph, closed: str, estimator: Any) -> str:
    """Logits (batch, n_outputs) that outputs (batch, m) of a linear model stand for."""
    blocks = [
        slope * (np.array([[-1.0, 1.0]]) if len(classes) == 2 else np.eye(len(classes)))
        for slope, classes in zip(estimator._targets.slopes, estimator._targets.listed, strict=True)
    ]
    return g.cast(g.op("MatMul", closed, g.constant(block_diag(*blocks), np.float64)), np.float32)


def _finish_classes(g: Graph, raw: str, estimator: Any) -> Answers:
    if not isinstance(estimator.classes_, list):
        return {"probabilities": (g.op("Softmax", raw, axis=1), (estimator.n_classes_,))}
    sizes = estimator.n_classes_
    parts = g.ops("Split", len(sizes), raw, g.constant(sizes, np.int64), axis=1)
    columns = enumerate(zip(parts, sizes, strict=True))
    return {f"probabilities_{k}": (g.op("Softmax", part, axis=1), (size,)) for k, (part, size) in columns}


def _finish_numbers(g: Graph, raw: str, estimator: Any, closed: str | None) -> Answers:
    targets = estimator._targets
    count, loss = targets.n_columns, targets.loss
    z = g.op("Reshape", raw, g.constant([-1, count, targets.n_each], np.int64))
    mean, std = (g.constant(part[:, None]) for part in (targets.mean, targets.std))

    def in_units(part: str) -> str:
        return g.add(g.mul(part, std), mean)

    def column(part: str, k: int) -> str:
        return g.op("Gather", part, g.constant(k, np.int64), axis=2)

    levels = list(targets.quantiles)

    def in_order(part: str) -> str:
        return g.ops("TopK", 2, part, g.constant([len(levels)], np.int64), axis=2, largest=0)[0]

    if closed is not None:
        # Mean or median become the blend; what is said of the spread stays.
        centre = column(in_order(z), levels.index(0.5)) if loss == "quantile" else column(z, 0)
        start, own = (g.constant(part) for part in estimator.blend_.T)
        blend = g.add(g.mul(g.cast(closed, np.float32), start), g.mul(centre, own))
        moved = np.ones(targets.n_each)
        moved[1:] = loss == "quantile"
        z = g.add(z, g.mul(g.axis(g.sub(blend, centre), 2), g.constant(moved)))
    if loss == "quantile":
        quantiles = in_units(in_order(z))
        middle = column(quantiles, levels.index(0.5))
        return {"prediction": (middle, (count,)), "quantiles": (quantiles, (count, len(levels)))}
    answers = {"prediction": (column(in_units(z), 0), (count,))}
    if loss == "gaussian":
        variance = g.add(g.op("Softplus", column(z, 1)), LEAST_VARIANCE)
        spread = g.mul(g.op("Sqrt", variance), g.constant(targets.std))
        answers["standard_deviation"] = spread, (count,)
    return answers
