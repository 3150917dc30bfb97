"""Layers and networks as ONNX operators: from their parameters to cells, and what stands around these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tsssm.backbone import Backbone, TimeBatchNorm
from tsssm.discretize import gbt_alpha
from tsssm.exporting._cells import (
    Cell,
    CorrelationCell,
    DiagonalCell,
    LowRankCell,
    SharedCell,
    TridiagonalCell,
)
from tsssm.exporting._checks import ExportError
from tsssm.exporting._graph import Graph
from tsssm.layers import DSS, LSSL, S4, S4D, S5, LinOSS, LiquidS4, SSMLayer
from tsssm.ops.bounds import liquid_bound

Array = npt.NDArray[Any]

#: From a system, inputs (batch, L, H), and whether time runs backwards, to outputs (batch, L, M H).
RunCell = Callable[[Graph, Cell, str, bool], str]


def cells_of(layer: SSMLayer) -> list[Cell]:
    """The system of a layer, once for each of its directions.

    Raises
    ------
    ExportError
        For a layer, or a rule of discretisation, that has no cell.
    """
    with torch.no_grad():
        for classes, make in _MAKERS:
            if isinstance(layer, classes):
                return make(layer)
    raise ExportError(f"{type(layer).__name__} cannot be exported to ONNX.")


def _modal(layer: S4D | DSS | LiquidS4) -> list[Cell]:
    system = _array(layer.eigenvalues()), _array(layer.input_vector())
    readouts, step = _array(layer.readout()), _array(torch.exp(layer.log_dt.double()))
    alpha, bound = _alpha(layer.method), None
    if isinstance(layer, LiquidS4):
        if layer.system != "diagonal" or (layer.kernel == "exact" and layer.order is not None):
            raise ExportError(
                "Liquid-S4 over a diagonal plus low-rank system, or its recurrence up to an order, cannot be "
                "exported to ONNX."
            )
        if layer.order is not None:
            into_state = layer.kernel == "kb"
            return [CorrelationCell(*system, C, step, alpha, layer.order, into_state) for C in readouts]
        bound = _array(liquid_bound(layer.eigenvalues(), layer.input_vector()))
    return [DiagonalCell(*system, C, step, alpha, bound) for C in readouts]


def _shared(layer: S5 | LinOSS) -> list[Cell]:
    system = _array(layer.eigenvalues()), _array(layer.input_matrix())
    step, alpha = _array(torch.exp(layer.log_dt.double())), _alpha(layer.method)
    return [SharedCell(*system, C, step, alpha) for C in _array(layer.output_matrix())]


def _low_rank(layer: S4) -> list[Cell]:
    Lambda, P, Q, B = (_array(part) for part in layer._system())
    step = _array(torch.exp(layer.log_dt.double()))
    return [LowRankCell(Lambda, P, Q, B, C, step, layer.alpha) for C in _array(layer.readout())]


def _lssl(layer: LSSL) -> list[Cell]:
    if layer.alpha is None or layer.dense_steps:
        raise ExportError(
            f"LSSL with discretization={layer.method!r} has a dense matrix for every step, and cannot be "
            "exported to ONNX; the other rules can."
        )
    step = _array(torch.exp(layer.log_dt.double()))
    alpha, shape = layer.alpha, (layer.d_model, layer.n_modes)
    if layer.train_A:
        P, D, Q, T = (_array(part) for part in layer._factors(torch.float64))
        B = Q * _array(layer.B.double())
        shift, scale, B = (np.broadcast_to(part, shape) for part in (D, P * Q, B))
        T = np.broadcast_to(T, (3, *shape))
        readouts = _array(layer.C.double()) / Q
        return [TridiagonalCell(T, shift, scale, B, C, step, alpha) for C in readouts]
    # As in the layer: unitary coordinates in which A is diagonal plus low rank, one of each conjugate pair.
    basis, weight, low_rank = (_array(part) for part in (layer.basis, layer.weight, layer.low_rank))
    if len(low_rank) > 2:
        raise ExportError(f"LSSL of rank {len(low_rank)} cannot be exported to ONNX.")
    shape = (layer.d_model, len(weight))
    B = np.broadcast_to(_array(layer.B.double()).reshape(-1, layer.n_modes) @ basis.conj(), shape)
    Lambda = np.broadcast_to(_array(layer.eigenvalues), shape)
    P = np.broadcast_to(low_rank[:, None], (len(low_rank), *shape))
    readouts = _array(layer.C.double()) @ (weight * basis)
    return [LowRankCell(Lambda, P, weight * P, B, C, step, alpha) for C in readouts]


_MAKERS: tuple[tuple[tuple[type, ...], Callable[[Any], list[Cell]]], ...] = (
    ((S4D, DSS, LiquidS4), _modal),
    ((S5, LinOSS), _shared),
    ((S4,), _low_rank),
    ((LSSL,), _lssl),
)


def _alpha(method: str | float) -> float | None:
    if method == "foh":
        raise ExportError("discretization='foh' cannot be exported to ONNX; the other rules can.")
    return gbt_alpha(method)


def _array(part: Tensor) -> Array:
    found: Array = part.detach().cpu().resolve_conj().numpy()
    return found.astype(np.complex128 if np.iscomplexobj(found) else np.float64)


def features(g: Graph, net: Backbone, u: str, run: RunCell) -> str:
    """Features (batch, L, H), or (batch, H) of a single sample, before they are pooled."""
    h = _linear(g, net.encoder, u)
    for block in cast(Any, net.blocks):
        y = _layer(g, block.layer, _norm(g, block.norm, h), run)
        mixed = g.ops("Split", 2, _linear(g, block.mix, _gelu(g, y)), axis=-1)
        h = g.add(h, g.mul(mixed[0], g.op("Sigmoid", mixed[1])))
    return _norm(g, net.norm, h)


def head(g: Graph, net: Backbone, pooled: str) -> str:
    """Outputs (batch, n_outputs) from pooled features."""
    return _linear(g, net.head, pooled)


def _layer(g: Graph, layer: SSMLayer, v: str, run: RunCell) -> str:
    outputs = [run(g, cell, v, k == 1) for k, cell in enumerate(cells_of(layer))]
    y = outputs[0] if len(outputs) == 1 else g.add(*outputs)
    D = _array(cast(Tensor, layer.D)).reshape(-1, layer.d_model)
    through = [g.mul(v, g.constant(row)) for row in D]
    y = g.add(y, through[0] if len(through) == 1 else g.op("Concat", *through, axis=-1))
    mix = getattr(layer, "mix", None)
    return y if mix is None else _linear(g, mix, _gelu(g, y))


def _linear(g: Graph, module: nn.Linear, x: str) -> str:
    return g.linear(x, _array(module.weight), _array(module.bias))


def _gelu(g: Graph, x: str) -> str:
    below = g.op("Erf", g.mul(x, 2**-0.5))
    return g.mul(g.mul(x, 0.5), g.add(below, 1.0))


def _norm(g: Graph, module: nn.Module, h: str) -> str:
    if isinstance(module, TimeBatchNorm):
        norm = module.norm
        mean, variance = (_array(cast(Tensor, part)) for part in (norm.running_mean, norm.running_var))
        factor = _array(norm.weight) / np.sqrt(variance + norm.eps)
        return g.add(g.mul(h, g.constant(factor)), g.constant(_array(norm.bias) - mean * factor))
    if isinstance(module, nn.LayerNorm):
        weights = [g.constant(_array(part)) for part in (module.weight, module.bias)]
        return g.op("LayerNormalization", h, *weights, axis=-1, epsilon=module.eps)
    return h
