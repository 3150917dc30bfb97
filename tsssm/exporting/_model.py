"""Whole models as ONNX graphs: over series of any length, or sample by sample."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tsssm.backbone import Backbone
from tsssm.encoding import PanelEncoder
from tsssm.exporting._cells import Cell
from tsssm.exporting._encoding import SampleEncoder, seen_values
from tsssm.exporting._features import linear_outputs
from tsssm.exporting._graph import OPSET, Graph
from tsssm.exporting._layers import features, head
from tsssm.features import StateSpaceFeatures

if TYPE_CHECKING:
    import onnx

#: From the name of the outputs of the networks (batch, n_outputs) to answers, by what they are: the name and
#: the shape of each without the batch.
Finish = Callable[[Graph, str], Mapping[str, tuple[str, tuple[int, ...]]]]

# ONNX's oldest file format with these operators, so that runtimes of that time read it.
_FORMAT = 8


def series_model(
    members: Sequence[Backbone], encoder: PanelEncoder, finish: Finish, notes: Mapping[str, Any]
) -> onnx.ModelProto:
    """A model of whole series: values (batch, length, d), and times (batch, length) if there are any."""
    g = Graph()
    inputs: list[Any] = [("values", np.float32, ["batch", "length", encoder.n_channels])]
    if encoder.has_times:
        inputs.append(("times", np.float64, ["batch", "length"]))
    u, dt, back = _encoded(g, encoder)

    def run(g: Graph, cell: Cell, v: str, backward: bool) -> str:
        body = Graph(g)
        names = body.name("u"), body.name("gap")
        before = [body.name("state") for _ in cell.shapes]
        y, after = cell.step(body, *names, before)
        starts = [g.zeros(v, shape) for shape in cell.shapes]
        states = list(zip(starts, before, after, strict=True))
        pairs = list(zip((v, back if backward else dt), names, strict=True))
        return g.scan(body, states, pairs, [y], backward=backward)[0]

    outputs = [head(g, net, _pooled(g, net.pooling, features(g, net, u, run), dt, back)) for net in members]
    return _model(g, inputs, _answers(finish(g, _mean(g, outputs))), notes)


def linear_model(
    features: StateSpaceFeatures,
    coef: npt.NDArray[np.float64],
    intercept: npt.NDArray[np.float64],
    finish: Finish,
    notes: Mapping[str, Any],
) -> onnx.ModelProto:
    """A model of whole series that is linear in features: values (batch, length, d)."""
    g = Graph()
    inputs = [("values", np.float32, ["batch", "length", features.encoder.n_channels])]
    return _model(g, inputs, _answers(finish(g, linear_outputs(g, features, coef, intercept))), notes)


def sample_model(
    members: Sequence[Backbone], encoder: PanelEncoder, finish: Finish, notes: Mapping[str, Any]
) -> onnx.ModelProto:
    """A model of one sample: values (batch, d), time (batch, 1) if there is any, and a state in and out."""
    g = Graph()
    inputs: list[Any] = [("values", np.float32, ["batch", encoder.n_channels])]
    memory = _Memory(g)
    if encoder.has_times:
        inputs.append(("time", np.float64, ["batch", 1]))
        time = "time"
    else:
        number = memory.take((1,), np.float64)
        time = number
        memory.give(g.op("Add", number, g.constant(1.0, np.float64)))
    samples = SampleEncoder(encoder)
    before = [memory.take(*shape) for shape in samples.shapes]
    nobody = g.zeros("values", (1,))
    encoded, after = samples.step(g, "values", time, nobody, before)
    memory.give(*after)
    present = g.cast(encoded.present, np.bool_)
    started = g.cast(before[0], np.bool_)
    # What is said before the first sample is what a sample without values would have said.
    dt = g.op("Where", g.op("Or", present, started), encoded.dt, g.constant(1.0))

    def kept(name: str, after: str, rank: int) -> str:
        mask = g.axis(present, *range(2, rank)) if rank > 2 else present
        return g.op("Where", mask, after, name)

    def run(g: Graph, cell: Cell, v: str, backward: bool) -> str:
        states = [memory.take(shape) for shape in cell.shapes]
        y, after = cell.step(g, v, dt, states)
        ranks = [len(shape) + 1 for shape in cell.shapes]
        memory.give(*(kept(*three) for three in zip(states, after, ranks, strict=True)))
        return y

    outputs = []
    for net in members:
        z = features(g, net, encoded.u, run)
        states = [memory.take((shape,), np.float32) for shape in (net.head.in_features,) * 3]
        states += [memory.take((1,), np.float32) for _ in range(2)]
        pooled, after = _pooled_so_far(g, net.pooling, z, dt, states)
        memory.give(*(kept(*pair, 2) for pair in zip(states, after, strict=True)))
        outputs.append(head(g, net, pooled))
    latest = memory.take((members[0].head.out_features,))
    speaks = g.op("Or", present, g.op("Not", started))
    memory.give(g.op("Where", speaks, _mean(g, outputs), latest))
    results = _answers(finish(g, memory.after[-1]))
    for (name, dtype, shape), found in zip(memory.inputs, memory.after, strict=True):
        results.append((f"{name}_after", dtype, shape, found))
    return _model(g, [*inputs, *memory.inputs], results, notes)


class _Memory:
    """The state of a sample model: inputs of the graph, and what they become."""

    def __init__(self, g: Graph) -> None:
        self.g = g
        self.inputs: list[tuple[str, Any, list[Any]]] = []
        self.after: list[str] = []

    def take(self, shape: tuple[int, ...], dtype: Any = np.float32) -> str:
        """Name of a part (batch, *shape) of the state before the sample."""
        name = f"state_{len(self.inputs)}"
        self.inputs.append((name, dtype, ["batch", *shape]))
        return name

    def give(self, *names: str) -> None:
        """Say what the next parts become, in the order in which they were taken."""
        self.after.extend(names)


def _encoded(g: Graph, encoder: PanelEncoder) -> tuple[str, str, str]:
    """Inputs (batch, L, d_in) and gaps (batch, L, 1), forwards and backwards; 0 where there is no sample."""
    seen = g.cast(seen_values(g, "values", encoder), np.float32)
    length = g.op("Gather", g.op("Shape", "values"), g.constant(1, np.int64))
    numbers = g.op("Range", g.constant(0, np.int64), length, g.constant(1, np.int64))
    positions = g.axis(g.cast(numbers, np.float64), 0, 2)
    # A series without any value is its first sample.
    empty = g.sub(1.0, g.op("ReduceMax", seen, axes=[1, 2], keepdims=1))
    at_start = g.cast(g.op("Equal", positions, g.constant(0.0, np.float64)), np.float32)
    forced = g.mul(empty, at_start)
    if encoder.has_times:
        times = g.axis("times", 2)
    else:
        times = g.op("Add", positions, g.cast(g.mul(forced, 0.0), np.float64))
    samples, body = SampleEncoder(encoder), Graph(g)
    values, time, one = (body.name(name) for name in ("values", "time", "forced"))
    before = [body.name("state") for _ in samples.shapes]
    encoded, after = samples.step(body, values, time, one, before)
    starts = [g.zeros("values", *shape) for shape in samples.shapes]
    u, dt, present = g.scan(
        body,
        list(zip(starts, before, after, strict=True)),
        [("values", values), (times, time), (forced, one)],
        [*encoded],
    )
    return u, dt, _backwards(g, dt, present)


def _backwards(g: Graph, dt: str, present: str) -> str:
    """Gaps for the way back, as `ops.sequence.reversed_gaps`: 1 at the last sample that time reaches."""
    body = Graph(g)
    dt_k, there, started, pending = (body.name(name) for name in ("gap", "present", "started", "pending"))
    moves = body.cast(body.op("Greater", dt_k, body.constant(0.0)), np.float32)
    is_started, is_there = (body.cast(name, np.bool_) for name in (started, there))
    found = body.op("Where", is_started, pending, moves)
    reached = body.op("Max", started, moves)
    takes = body.op("And", is_there, body.cast(reached, np.bool_))
    states = [
        (g.zeros("values", (1,)), started, reached),
        (g.zeros("values", (1,)), pending, body.op("Where", takes, dt_k, pending)),
    ]
    return g.scan(body, states, [(dt, dt_k), (present, there)], [body.mul(found, there)], backward=True)[0]


def _pooled(g: Graph, pooling: str, h: str, dt: str, back: str) -> str:
    """Summaries (batch, H) of features (batch, L, H), as `backbone.POOLINGS`."""
    if pooling == "mean":
        weight = g.add(dt, back)
        return g.div(g.total(g.mul(h, weight), 1), g.total(weight, 1))
    counts = g.op("Greater", dt, g.constant(0.0))
    if pooling == "max":
        return g.op("ReduceMax", g.op("Where", counts, h, g.constant(-np.inf)), axes=[1], keepdims=0)
    # Backwards, the first sample that time reaches.
    body = Graph(g)
    z, there, done = (body.name(name) for name in ("z", "there", "done"))
    first = body.mul(there, body.sub(1.0, done))
    states = [(g.zeros("values", (1,)), done, body.op("Max", done, there))]
    pairs = [(h, z), (g.cast(counts, np.float32), there)]
    return g.total(g.scan(body, states, pairs, [body.mul(z, first)], backward=True)[0], 1)


def _pooled_so_far(g: Graph, pooling: str, z: str, dt: str, states: list[str]) -> tuple[str, list[str]]:
    """The summary (batch, H) after one more sample, and the state: sum, last, kept, first gap, time."""
    sums, latest, kept, first, total = states
    began = g.op("Greater", total, g.constant(0.0))
    counts = g.op("Greater", dt, g.constant(0.0))
    first = g.op("Where", began, first, dt)
    elapsed = g.add(total, dt)
    if pooling == "max":
        start = g.op("Where", began, kept, g.constant(-np.inf))
        kept = g.op("Where", counts, g.op("Max", start, z), start)
    else:
        kept = g.op("Where", counts, z, kept)
    pooled = kept
    # A mean that moves by its difference to the new one keeps its digits over any length: twice the mean so
    # far, which every sample counts in with the gaps before and after it.
    if pooling == "mean":
        share = g.div(dt, g.op("Max", elapsed, g.constant(1e-30)))
        sums = g.add(sums, g.mul(share, g.sub(g.add(latest, z), sums)))
        last = g.div(first, g.op("Max", elapsed, g.constant(1e-30)))
        pooled = g.mul(0.5, g.add(sums, g.mul(last, kept)))
    return pooled, [sums, z, kept, first, elapsed]


def _answers(found: Mapping[str, tuple[str, tuple[int, ...]]]) -> list[Any]:
    return [(name, np.float32, ["batch", *shape], answer) for name, (answer, shape) in found.items()]


def _mean(g: Graph, outputs: list[str]) -> str:
    return outputs[0] if len(outputs) == 1 else g.op("Mean", *outputs)


def _model(
    g: Graph, inputs: Sequence[Any], outputs: Sequence[Any], notes: Mapping[str, Any]
) -> onnx.ModelProto:
    from onnx import checker, helper

    from tsssm._version import __version__

    def described(name: str, dtype: Any, shape: Any) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)

    for name, _, _, found in outputs:
        g.nodes.append(helper.make_node("Identity", [found], [name]))
    graph = helper.make_graph(
        g.nodes,
        "tsssm",
        [described(*one) for one in inputs],
        [described(*one[:3]) for one in outputs],
        g.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_FORMAT)
    model.producer_name, model.producer_version = "tsssm", __version__
    helper.set_model_props(model, {name: json.dumps(value) for name, value in notes.items()})
    checker.check_model(model)
    return model
