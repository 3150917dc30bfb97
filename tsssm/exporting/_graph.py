"""Graphs of ONNX operators, written node by node; complex numbers are pairs of real tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx

#: Operators of this version of ONNX's own set, and of no other: runtimes from 2022 on have them.
OPSET = 17


class Complex(NamedTuple):
    """Names of the real and of the imaginary part of a tensor."""

    re: str
    im: str


class Graph:
    """Nodes of a graph, or of the body of a scan in it.

    Parameters
    ----------
    outer : Graph, optional
        The graph around the body of a scan, whose constants and tensors it may use.
    """

    def __init__(self, outer: Graph | None = None) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._root: Graph = self if outer is None else outer._root
        if outer is None:
            self.constants: list[onnx.TensorProto] = []
            self._known: dict[tuple[Any, ...], str] = {}
            self._count = 0

    def name(self, what: str) -> str:
        """A name that nothing else has."""
        self._root._count += 1
        return f"{what}_{self._root._count}"

    def constant(self, value: npt.ArrayLike, dtype: Any = np.float32) -> str:
        """Name of a constant; equal ones are kept once."""
        from onnx import numpy_helper

        array = np.asarray(value, dtype=dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        root = self._root
        if key not in root._known:
            root._known[key] = self.name("constant")
            root.constants.append(numpy_helper.from_array(array, root._known[key]))
        return root._known[key]

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output and return its name."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node of several outputs and return their names."""
        from onnx import helper

        names = [self.name(kind.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names

    # Arithmetic, of names and numbers

    def of(self, value: str | float, dtype: Any = np.float32) -> str:
        """A name as it is, a number as a constant."""
        return value if isinstance(value, str) else self.constant(value, dtype)

    def add(self, a: str | float, b: str | float) -> str:
        return self.op("Add", self.of(a), self.of(b))

    def sub(self, a: str | float, b: str | float) -> str:
        return self.op("Sub", self.of(a), self.of(b))

    def mul(self, a: str | float, b: str | float) -> str:
        return self.op("Mul", self.of(a), self.of(b))

    def div(self, a: str | float, b: str | float) -> str:
        return self.op("Div", self.of(a), self.of(b))

    def total(self, a: str, axis: int = -1, keep: bool = False) -> str:
        """The sum over an axis."""
        return self.op("ReduceSum", a, self.constant([axis], np.int64), keepdims=int(keep))

    def axis(self, a: str, *axes: int) -> str:
        """A tensor with new axes of length 1."""
        return self.op("Unsqueeze", a, self.constant(axes, np.int64))

    def cast(self, a: str, dtype: Any) -> str:
        from onnx import helper

        return self.op("Cast", a, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def linear(self, x: str, weight: npt.ArrayLike, bias: npt.ArrayLike | None = None) -> str:
        """x W^T + b, for weights (out, in) as of `torch.nn.Linear`."""
        y = self.op("MatMul", x, self.constant(np.asarray(weight).T))
        return y if bias is None else self.add(y, self.constant(bias))

    def zeros(self, like: str, shape: Sequence[int], dtype: Any = np.float32) -> str:
        """Zeros (batch, *shape), with the batch of the first axis of another tensor."""
        batch = self.op("Slice", self.op("Shape", like), *(self.constant([k], np.int64) for k in (0, 1)))
        full = self.op("Concat", batch, self.constant(list(shape), np.int64), axis=0) if shape else batch
        return self.op("Expand", self.constant(0.0, dtype), full)

    # Complex numbers

    def complex(self, value: npt.ArrayLike) -> Complex:
        """A complex constant."""
        array = np.asarray(value, dtype=np.complex128)
        return Complex(self.constant(array.real), self.constant(array.imag))

    def cadd(self, a: Complex, b: Complex) -> Complex:
        return Complex(self.add(a.re, b.re), self.add(a.im, b.im))

    def csub(self, a: Complex, b: Complex) -> Complex:
        return Complex(self.sub(a.re, b.re), self.sub(a.im, b.im))

    def cmul(self, a: Complex, b: Complex) -> Complex:
        re = self.sub(self.mul(a.re, b.re), self.mul(a.im, b.im))
        return Complex(re, self.add(self.mul(a.re, b.im), self.mul(a.im, b.re)))

    def scale(self, a: Complex, factor: str | float) -> Complex:
        """A complex tensor times a real one."""
        return Complex(self.mul(a.re, factor), self.mul(a.im, factor))

    def shift(self, a: Complex, by: float) -> Complex:
        """A complex tensor plus a real number."""
        return Complex(self.add(a.re, by), a.im)

    def inverse(self, a: Complex) -> Complex:
        """1 / a."""
        square = self.add(self.mul(a.re, a.re), self.mul(a.im, a.im))
        return Complex(self.div(a.re, square), self.op("Neg", self.div(a.im, square)))

    def product(self, a: Complex, b: Complex, axis: int = -1) -> str:
        """Re(sum of a b) over an axis."""
        return self.total(self.sub(self.mul(a.re, b.re), self.mul(a.im, b.im)), axis)

    def expm1(self, z: Complex) -> Complex:
        """e^z - 1 for Re z <= 0 without a difference of nearly equal numbers.

        With t = tanh(Re z / 2) and s = sin(Im z / 2) its real part is (2 t / (1 - t)) cos(Im z) - 2 s^2.
        """
        t = self.op("Tanh", self.mul(z.re, 0.5))
        below = self.div(self.mul(t, 2.0), self.sub(1.0, t))
        s = self.op("Sin", self.mul(z.im, 0.5))
        re = self.sub(self.mul(below, self.op("Cos", z.im)), self.mul(2.0, self.mul(s, s)))
        return Complex(re, self.mul(self.add(below, 1.0), self.op("Sin", z.im)))

    # Loops over time

    def scan(
        self,
        body: Graph,
        states: Sequence[tuple[str, str, str]],
        inputs: Sequence[tuple[str, str]],
        outputs: Sequence[str],
        *,
        backward: bool = False,
        states_too: bool = False,
    ) -> list[str]:
        """Run a body over the samples of tensors (batch, L, ...), and return its outputs at each of them.

        Parameters
        ----------
        body : Graph
        states : sequence of (str, str, str)
            Start, name in the body, and name of what comes out, of what is carried from sample to sample.
        inputs : sequence of (str, str)
            Names of tensors (batch, L, ...), and of their samples (batch, ...) in the body.
        outputs : sequence of str
            Names in the body.
        backward : bool
            From the last sample to the first; outputs stand where their samples do.
        states_too : bool
            Return the states after the last sample, too, before the outputs.
        """
        from onnx import helper

        # Types of a body are inferred from those of the node, which saves naming them.
        untyped = helper.make_empty_tensor_value_info
        results = [*(end for _, _, end in states), *outputs]
        # Every output is a node of its own: a name may stand for several, or come from outside.
        own = [body.op("Identity", name) for name in results]
        graph = helper.make_graph(
            body.nodes,
            self.name("body"),
            [untyped(name) for name in [*(inside for _, inside, _ in states), *(name for _, name in inputs)]],
            [untyped(name) for name in own],
        )
        direction = int(backward)
        of_outputs: dict[str, Any] = {}
        if outputs:
            of_outputs["scan_output_axes"] = [1] * len(outputs)
            of_outputs["scan_output_directions"] = [direction] * len(outputs)
        found = self.ops(
            "Scan",
            len(results),
            *(start for start, _, _ in states),
            *(name for name, _ in inputs),
            body=graph,
            num_scan_inputs=len(inputs),
            scan_input_axes=[1] * len(inputs),
            scan_input_directions=[direction] * len(inputs),
            **of_outputs,
        )
        return found if states_too else found[len(states) :]
