"""Networks of diagonal layers in one compiled call a sample, for all layers together."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tsssm.backbone import Backbone, NoNorm, TimeBatchNorm, TimeLayerNorm
from tsssm.discretize import gbt_alpha
from tsssm.layers import DSS, S4D, LiquidS4
from tsssm.layers._shared import SharedStateLayer
from tsssm.ops.bounds import liquid_bound

Array = npt.NDArray[Any]

# Channels or modes of a register in float32.
_W = 16
# An eigenvalue below this is an integrator; 1 / |A|^2 of a smaller one would overflow.
_SLOWEST = 1e-18
_NONE = np.empty((0, 0, 0), np.float32)


class CompiledState(NamedTuple):
    """What a network carries from sample to sample; `tsssm.ops.cpu.stream.advance` has the shapes."""

    x: Array
    previous: Array
    sums: Array
    latest: Array
    kept: Array
    clock: Array
    current: Array

    def copy(self) -> CompiledState:
        """A state that shares no memory with this one."""
        return CompiledState(*(array.copy() for array in self))


class _Layer(NamedTuple):
    """One layer in registers, as `tsssm.ops.cpu.stream.advance` takes it."""

    system: Array
    steps: Array
    readout: Array
    inputs: Array
    outputs: Array
    D: Array
    bounds: Array


def has_compiled_form(net: Backbone) -> bool:
    """Whether `CompiledNetwork` takes a network: float32, with equal blocks around one diagonal layer."""
    blocks: list[Any] = list(net.blocks)
    norms = {type(norm) for norm in (net.norm, *(block.norm for block in blocks))}
    # Layers of one type may still differ in rule and in the number of modes.
    layers = {_kind(block.layer) for block in blocks}
    return (
        all(parameter.dtype == torch.float32 for parameter in net.parameters())
        and len(layers) == 1
        and _is_diagonal(blocks[0].layer)
        and all(norm in (TimeBatchNorm, TimeLayerNorm, NoNorm) for norm in norms)
        and len(norms) == 1
    )


def _kind(layer: Any) -> Any:
    return type(layer), getattr(layer, "method", None), *(p.shape for p in layer.parameters())


def _is_diagonal(layer: Any) -> bool:
    if type(layer) is LiquidS4:
        return layer.system == "diagonal" and layer.kernel == "exact" and layer.order is None
    return type(layer) in (S4D, DSS) or isinstance(layer, SharedStateLayer)


class CompiledNetwork:
    """The weights of a network as the compiled step takes them.

    Parameters
    ----------
    net : Backbone
        One of which `has_compiled_form` is true, on the CPU. Its weights are copied.

    Raises
    ------
    ValueError
        If the weights do not fit together.
    """

    def __init__(self, net: Backbone) -> None:
        stream = _stream()
        with torch.no_grad():
            blocks: list[Any] = list(net.blocks)
            layers = [_layer(block.layer) for block in blocks]
            H = net.head.in_features
            method = blocks[0].layer.method
            alpha = gbt_alpha(method)
            kinds = {"zoh": stream.ZOH, "foh": stream.FOH}
            poolings = {"mean": stream.MEAN, "max": stream.MAX, "last": stream.LAST}
            kind = stream.GBT if alpha is not None else kinds[str(method)]
            norms = [*(block.norm for block in blocks), net.norm]
            self._weights: tuple[Any, ...] = (
                _registers(_with_bias(net.encoder)),
                np.stack([_registers(_scale_and_shift(norm, H)) for norm in norms]),
                float(net.norm.eps) if isinstance(net.norm, TimeLayerNorm) else 0.0,
                *(np.stack(parts) for parts in zip(*layers, strict=True)),
                np.stack([_halves(_with_bias(block.mix)) for block in blocks]),
                _with_bias(net.head),
            )
            self._options = (
                H,
                poolings[net.pooling],
                kind,
                alpha or 0.0,
            )
        # The coefficients of one gap, which the next sample most likely has too.
        n_modes = len(layers) * layers[0].steps.size
        self._rows = np.empty(stream.N_ROW_PLANES * n_modes, np.float32)
        self._gap_of_rows = np.zeros(1, np.float32)
        self._known: tuple[CompiledState, int] | None = None
        encoder, norms, _, *others = self._weights
        work = self._rows, self._gap_of_rows
        self._sizes = stream.check_weights(encoder, norms, *others, *work, *self._options[:3])

    def fork(self) -> CompiledNetwork:
        """The same weights with coefficients of its own, so that both may run at the same time."""
        other = object.__new__(CompiledNetwork)
        other.__dict__.update(self.__dict__)
        other._rows, other._gap_of_rows = self._rows.copy(), self._gap_of_rows.copy()
        return other

    def initial_state(self, batch: int) -> CompiledState:
        """The state of ``batch`` series before their first sample."""
        sizes = self._sizes
        H = sizes.channels
        return CompiledState(
            np.zeros((batch, sizes.layers, sizes.units, 2, sizes.width), np.float32),
            np.zeros((batch, sizes.layers, sizes.previous), np.float32),
            np.zeros((batch, H)),
            np.zeros((batch, H), np.float32),
            np.zeros((batch, H), np.float32),
            np.zeros((batch, 2)),
            np.zeros((batch, sizes.outputs)),
        )

    def advance(self, state: CompiledState, u: Array, dt: Array, y: Array) -> None:
        """Run the network over samples, as `LayerwiseNetwork.advance`.

        Raises
        ------
        ValueError
            For samples, outputs and states of other shapes.
        """
        stream = _stream()
        batch = stream.check_samples(self._sizes, u, dt, y)
        # A stream hands the same state over with every sample; what it is made of does not change.
        if self._known is None or self._known[0] is not state or self._known[1] != batch:
            stream.check_states(self._sizes, batch, *state)
            self._known = state, batch
        stream.advance(u, dt, *self._weights, *self._options, self._rows, self._gap_of_rows, *state, y)


def _stream() -> Any:
    # Numba and the kernel are loaded by the first network that has a use for them.
    from tsssm.ops.cpu import stream

    return stream


def _layer(layer: Any) -> _Layer:
    """The system of a layer, one per channel or one for all."""
    A, step = layer.eigenvalues().numpy(), torch.exp(layer.log_dt).numpy()
    D = _registers(layer.D.numpy())
    bounds = D[:0]
    if not isinstance(layer, SharedStateLayer):
        B, C = layer.input_vector().numpy(), layer.readout()[0, 0].numpy()
        steps = _registers(step, 1.0).repeat(A.shape[1], axis=0)
        readout = _by_unit([_registers(C.real.T), _registers(C.imag.T)])
        if isinstance(layer, LiquidS4):
            bound = liquid_bound(layer.eigenvalues(), layer.input_vector())
            bounds = _by_unit([_registers(bound.numpy().T)])[:, 0]
        return _Layer(_system(A, B), steps, readout, _NONE, _NONE, D, bounds)
    B, C = layer.input_matrix().numpy(), layer.output_matrix()[0].numpy()
    system = _system(A[:, None], np.ones_like(A)[:, None])
    padded = len(system) * _W
    inputs = np.concatenate([_registers(B.real.T), _registers(B.imag.T)], axis=1)
    outputs = np.zeros((2, padded, *D.shape), np.float32)
    outputs[0, : len(A)] = _registers(C.real.T)
    outputs[1, : len(A)] = _registers(-C.imag.T)
    outputs = outputs.reshape(2 * padded, *D.shape)
    return _Layer(system, _registers(step, 1.0), _NONE, inputs, outputs, D, bounds)


def _system(A: Array, B: Array) -> Array:
    """Parts of A and B (H, N) in registers (U, 4, W); lanes without a channel have a stable system."""
    slow = np.maximum(abs(A.real), abs(A.imag)) < _SLOWEST
    A = np.where(slow, -_SLOWEST + 1j * A.imag, A)
    parts = (A.real, -1.0), (A.imag, 0.0), (B.real, 0.0), (B.imag, 0.0)
    return _by_unit([_registers(part.T, fill) for part, fill in parts])


def _by_unit(parts: list[Array]) -> Array:
    """Registers (N, P, W) of some numbers of each mode, in the order of the units: (U, parts, W)."""
    # Mode by mode for each register of channels.
    return np.ascontiguousarray(np.stack(parts).transpose(2, 1, 0, 3).reshape(-1, len(parts), _W))


def _registers(values: Array, fill: float = 0.0) -> Array:
    """Numbers (..., H) as float32 registers (..., P, W); ``fill`` stands where there is no channel."""
    missing = -values.shape[-1] % _W
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)], constant_values=fill)
    return np.ascontiguousarray(padded.reshape(*values.shape[:-1], -1, _W), np.float32)


def _with_bias(linear: nn.Linear) -> Array:
    """Weights (inputs + 1, outputs) of a linear map, the bias last."""
    return np.ascontiguousarray(torch.cat([linear.weight.T, linear.bias[None]]).numpy())


def _halves(weights: Array) -> Array:
    """Weights (H + 1, 2 H) of values and gates in registers (H + 1, 2 P, W)."""
    return np.concatenate([_registers(half) for half in np.split(weights, 2, axis=1)], axis=1)


def _scale_and_shift(norm: nn.Module, H: int) -> Array:
    """What a normalisation multiplies and adds at last, (2, H)."""
    one, zero = torch.ones(H), torch.zeros(H)
    pair: tuple[Tensor, Tensor] = (one, zero)
    if isinstance(norm, TimeBatchNorm):
        inner = norm.norm
        assert inner.running_mean is not None and inner.running_var is not None
        scale = inner.weight.double() / torch.sqrt(inner.running_var.double() + inner.eps)
        pair = (scale, inner.bias.double() - scale * inner.running_mean.double())
    elif isinstance(norm, TimeLayerNorm):
        pair = (norm.weight, norm.bias)
    return torch.stack(pair).numpy()
