"""The network: a stack of state-space layers, pooled over time or read at samples, with a linear head.

Symbols and shapes: u (batch, L, d_in) inputs, dt (batch, L) elapsed time since the previous sample (None on a
regular grid, 0 on padding), h (batch, L, d_model) features between the layers. Padding is what follows the
last sample with a positive gap; a gap of 0 before it stands between two samples with one time stamp.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsssm.layers import DSS, LSSL, S4, S4D, S5, LinOSS, LiquidS4, SSMLayer
from tsssm.ops import batch_norm, dropout_noise, gated_mix, reached_samples
from tsssm.pooling import POOLINGS

__all__ = ["BACKBONES", "NORMS", "POOLINGS", "Backbone", "LayerChoice"]


class LayerChoice(NamedTuple):
    """A state-space layer: its class, its discretisations (the default one first), and its other options.

    ``has_readouts`` says whether the layer takes a number of readouts per channel, ``n_readouts``;
    ``on_grid`` is the default discretisation where every gap is one unit, if that is another one.
    """

    layer: Callable[..., SSMLayer]
    methods: tuple[str | float, ...]
    options: Mapping[str, Any] = MappingProxyType({})
    has_readouts: bool = False
    on_grid: str | None = None


# Without Euler steps, with which a stable system grows as soon as a step is long.
_TRANSFORMS = ("bilinear", "backward-euler")
_HOLD = ("zoh", *_TRANSFORMS)
_HOLDS = ("zoh", "foh", *_TRANSFORMS)
# Half way between the two transforms. The bilinear one keeps over any gap what fast modes hold, 0.97 of a
# state over a hundred units; backward Euler forgets it, and damps everything else for that. Chosen on regular
# and irregular series by cross-validation (examples/benchmarks/ucr_backbones.py).
_FORGETTING = (0.75, *_TRANSFORMS)
# Where no gap is long there is nothing to forget, and LSSL is better by its paper's bilinear rule: by
# 0.014 +- 0.005 of accuracy, cross-validated on 24 regular sets (the same script). For S4 the two are alike.
_EVEN = "bilinear"
_FIXED = {"train_A": False, "train_B": False, "train_dt": False}

#: State-space layers that a backbone can be made of.
BACKBONES: dict[str, LayerChoice] = {
    "liquid-s4": LayerChoice(LiquidS4, _HOLD),
    "liquid-s4-kb": LayerChoice(LiquidS4, _HOLD, {"kernel": "kb"}),
    "liquid-s4-pb": LayerChoice(LiquidS4, _HOLD, {"kernel": "pb"}),
    "s4d": LayerChoice(S4D, _HOLDS),
    "dss": LayerChoice(DSS, _HOLDS),
    "s5": LayerChoice(S5, _HOLDS, {"n_blocks": 4}),
    "linoss": LayerChoice(LinOSS, _HOLDS, {"n_blocks": 4}),
    "s4": LayerChoice(S4, _FORGETTING),
    "lssl": LayerChoice(LSSL, (*_FORGETTING, "zoh"), has_readouts=True, on_grid=_EVEN),
    "lssl-fixed": LayerChoice(LSSL, (*_FORGETTING, "zoh"), _FIXED, has_readouts=True, on_grid=_EVEN),
}


class TimeBatchNorm(nn.Module):
    """Batch normalisation over the samples of all series, padding left out of the statistics.

    Parameters
    ----------
    d_model : int
        Channels.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(d_model)

    def forward(self, h: Tensor, dt: Tensor | None = None) -> Tensor:
        """Normalise h (batch, L, d_model); in training, padding (trailing zeros of ``dt``) becomes 0."""
        norm = self.norm
        mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
        if self.training:
            keep = None if dt is None else reached_samples(dt)
            # A batch of one sample has no variance of its own; on a device `batch_norm` sees to that.
            counted = keep is not None and h.device.type == "cpu"
            if (int(keep.sum()) if keep is not None and counted else h.shape[0] * h.shape[1]) > 1:
                cast(Tensor, norm.num_batches_tracked).add_(1)
                return batch_norm(h, mean, variance, norm.weight, norm.bias, keep, eps=norm.eps)
        return F.batch_norm(h.flatten(0, 1), mean, variance, norm.weight, norm.bias, eps=norm.eps).view_as(h)


class TimeLayerNorm(nn.LayerNorm):
    """Layer normalisation of every sample on its own; takes and ignores the gaps."""

    def forward(self, h: Tensor, dt: Tensor | None = None) -> Tensor:
        """Normalise h (batch, L, d_model) over its channels."""
        return super().forward(h)


class NoNorm(nn.Module):
    """Stands where no normalisation is wanted."""

    def __init__(self, d_model: int) -> None:
        super().__init__()

    def forward(self, h: Tensor, dt: Tensor | None = None) -> Tensor:
        """Return h (batch, L, d_model) as it is."""
        return h


#: Normalisations of the features between layers.
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": TimeBatchNorm,
    "layer": TimeLayerNorm,
    "none": NoNorm,
}


class DropoutNoise(nn.Module):
    """Draws from a generator of its own, so that training in several threads is reproducible.

    Parameters
    ----------
    p : float
        Share of entries to drop.

    Attributes
    ----------
    generator : torch.Generator or None
        None is torch's global generator.
    """

    generator: torch.Generator | None = None

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor] | None:
        """Two tensors of noise of the shape of h for `gated_mix`, or None outside of training."""
        if not self.training or self.p == 0:
            return None
        return dropout_noise(h, self.generator), dropout_noise(h, self.generator)


class Block(nn.Module):
    """Pre-norm residual block: norm, state-space layer, GELU, dropout, gated linear map, dropout.

    Parameters
    ----------
    layer : SSMLayer
        The state-space layer, which says how many channels the block has.
    norm : {"batch", "layer", "none"}
    dropout : float
    """

    def __init__(self, layer: SSMLayer, norm: str, dropout: float) -> None:
        super().__init__()
        self.norm = NORMS[norm](layer.d_model)
        self.layer = layer
        self.mix = nn.Linear(layer.d_model, 2 * layer.d_model)
        self.dropout = DropoutNoise(dropout)

    def forward(self, h: Tensor, dt: Tensor | None = None) -> Tensor:
        """Map h (batch, L, d_model) to the same shape."""
        y, _ = self.layer(self.norm(h, dt), dt, need_state=False)
        return self.mixed(h, y)

    def mixed(self, h: Tensor, y: Tensor) -> Tensor:
        """The output of the block for its input h and the output y of its layer, both (batch, L, d_model)."""
        return gated_mix(h, y, self.mix.weight, self.mix.bias, self.dropout(h), self.dropout.p)

    def advance(self, h: Tensor, dt: Tensor | None, state: Any) -> tuple[Tensor, Any]:
        """As `forward`, from a state of the layer, None before the first sample; and the state after it."""
        y, state = self.layer(self.norm(h, dt), dt, state)
        return self.mixed(h, y), state


def _for_each_layer(name: str, value: float | Sequence[float], n_layers: int) -> list[float]:
    if not isinstance(value, Sequence):
        return [value] * n_layers
    if len(value) != n_layers:
        raise ValueError(
            f"{name} must be a number, or one for each of the {n_layers} layers; got {len(value)} numbers."
        )
    return list(value)


class Backbone(nn.Module):
    """Linear encoder, blocks around state-space layers, norm, pooling over time, linear head.

    Parameters
    ----------
    d_in, n_outputs : int
        Inputs per sample, outputs per series.
    backbone : str
        Which state-space layer, a key of ``BACKBONES``.
    n_layers, d_model, d_state : int
        Blocks, channels between them, and real state dimensions per channel.
    bidirectional : bool
        Whether every layer also runs from the last sample to the first.
    dropout : float
        Share of features dropped in training.
    norm : {"batch", "layer", "none"}
        Normalisation before every layer and before pooling.
    pooling : {"mean", "max", "last"}
        Summary over time; "mean" weighs every sample by the time it stands for (`tsssm.pooling.Mean`).
    discretization : str or float, optional
        One of ``BACKBONES[backbone].methods``; by default the first. A number is the alpha of a generalised
        bilinear transform.
    n_readouts : int
        Outputs of the system of each channel, which a linear map mixes; only of the LSSLs, 1 for the others.
    dt_min, dt_max : float or sequence of float
        Range of the initial Delta of the layers, in 1 / (unit of ``dt``); sequences have a number per layer.

    Attributes
    ----------
    config : dict
        The arguments, with the rule of discretisation that was chosen: ``Backbone(**net.config)`` is a
        network of the same shape.

    Raises
    ------
    ValueError
        If a name is none of those listed, a sequence has not one number per layer, or no layer can be built.
    """

    def __init__(
        self,
        d_in: int,
        n_outputs: int,
        *,
        backbone: str = "s4d",
        n_layers: int = 4,
        d_model: int = 32,
        d_state: int = 16,
        bidirectional: bool = True,
        dropout: float = 0.1,
        norm: str = "batch",
        pooling: str = "mean",
        discretization: str | float | None = None,
        n_readouts: int = 1,
        dt_min: float | Sequence[float] = 1e-3,
        dt_max: float | Sequence[float] = 1e-1,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "d_in": d_in,
            "n_outputs": n_outputs,
            "backbone": backbone,
            "n_layers": n_layers,
            "d_model": d_model,
            "d_state": d_state,
            "bidirectional": bidirectional,
            "dropout": dropout,
            "norm": norm,
            "pooling": pooling,
            "discretization": None,
            "n_readouts": n_readouts,
            "dt_min": dt_min,
            "dt_max": dt_max,
        }
        for name, value, table in (
            ("backbone", backbone, BACKBONES),
            ("norm", norm, NORMS),
            ("pooling", pooling, POOLINGS),
        ):
            if value not in table:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, table))}; got {value!r}.")
        layer, methods, fixed, has_readouts, _ = BACKBONES[backbone]
        if discretization is not None and discretization not in methods:
            raise ValueError(
                f"discretization must be None or, for backbone {backbone!r}, one of "
                f"{', '.join(map(repr, methods))}; got {discretization!r}."
            )
        method = self.config["discretization"] = discretization or methods[0]
        options = {"bidirectional": bidirectional, "method": method, **fixed}
        if has_readouts:
            options["n_readouts"] = n_readouts
        elif n_readouts != 1:
            takers = ", ".join(repr(name) for name, choice in BACKBONES.items() if choice.has_readouts)
            raise ValueError(
                f"n_readouts must be 1 for backbone {backbone!r}; got {n_readouts!r}. More need {takers}."
            )
        lows, highs = (_for_each_layer(*one, n_layers) for one in (("dt_min", dt_min), ("dt_max", dt_max)))
        self.pooling = pooling
        self.encoder = nn.Linear(d_in, d_model)
        self.blocks = nn.ModuleList(
            Block(layer(d_model, d_state, dt_min=low, dt_max=high, **options), norm, dropout)
            for low, high in zip(lows, highs, strict=True)
        )
        self.norm = NORMS[norm](d_model)
        self.head = nn.Linear(d_model, n_outputs)

    def forward(self, u: Tensor, dt: Tensor | None = None, at: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Map series to outputs.

        Parameters
        ----------
        u : Tensor (batch, L, d_in)
        dt : Tensor (batch, L), optional
            Elapsed time since the previous sample, positive at least once in every series; 0 is padding.
        at : pair of integer Tensors (m,), optional
            Series and samples whose features the head reads, in place of their summary over time.

        Returns
        -------
        Tensor (batch, n_outputs), or (m, n_outputs) with ``at``
        """
        h = self.features(u, dt)
        return self.head(POOLINGS[self.pooling](h, dt) if at is None else h[at])

    def features(self, u: Tensor, dt: Tensor | None = None) -> Tensor:
        """Features (batch, L, d_model) of each sample, which are pooled or read by the head."""
        h = self.encoder(u)
        for block in self.blocks:
            h = block(h, dt)
        return self.norm(h, dt)

    def advance(
        self, u: Tensor, dt: Tensor | None, states: Sequence[Any] | None = None
    ) -> tuple[Tensor, list[Any]]:
        """As `features`, continuing from the states of the layers after the samples before; of one direction.

        ``states``, one per layer, are what an earlier call returned beside the features (batch, L, d_model);
        None stands for those before the first sample.
        """
        h, after = self.encoder(u), []
        for block, state in zip(self.blocks, states or [None] * len(self.blocks), strict=True):
            h, state = cast(Block, block).advance(h, dt, state)
            after.append(state)
        return self.norm(h, dt), after

    def set_dropout_generator(self, generator: torch.Generator | None) -> None:
        """Let dropout draw from ``generator``, on the device of the network; None is torch's global one."""
        for module in self.modules():
            if isinstance(module, DropoutNoise):
                module.generator = generator

    def parameter_groups(
        self, learning_rate: float, ssm_learning_rate: float, weight_decay: float
    ) -> list[dict[str, Any]]:
        """Groups for an optimiser, each with ``params``, ``lr`` and ``weight_decay``.

        The systems of the layers (A, B, Delta) have a learning rate of their own and no weight decay; biases,
        norms and the feedthrough D are not decayed either; everything else is.
        """
        system, plain, decayed = [], [], []
        ssm = {
            id(parameter)
            for module in self.modules()
            if isinstance(module, SSMLayer)
            for parameter in module.system_parameters()
        }
        for name, parameter in self.named_parameters():
            if id(parameter) in ssm:
                system.append(parameter)
            elif parameter.ndim < 2 or name.endswith(".D"):
                plain.append(parameter)
            else:
                decayed.append(parameter)
        groups = (
            (system, ssm_learning_rate, 0.0),
            (plain, learning_rate, 0.0),
            (decayed, learning_rate, weight_decay),
        )
        return [{"params": params, "lr": lr, "weight_decay": decay} for params, lr, decay in groups if params]
