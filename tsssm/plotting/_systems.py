"""What the systems of a trained network remember, in the unit of the times of the series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tsssm.backbone import Backbone
from tsssm.estimators._checks import seed_of
from tsssm.plotting._axes import axes_for, chosen, networks_of, unit_of
from tsssm.training import isolated_rng


class TimescaleDisplay:
    """Timescales 1 / Delta of the systems of each layer, before and after training.

    Parameters
    ----------
    timescales : list of array (n_systems,)
        Those of each layer, of all networks of a committee, in ``unit``.
    initial : list of (float, float)
        Shortest and longest timescale of each layer before training.
    unit : str
        Unit of time.
    before : list of array (n_systems,), optional
        As ``timescales``, before training; known where ``random_state`` is a number.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    """

    figure_: Any
    ax_: Any

    def __init__(
        self,
        timescales: Sequence[npt.NDArray[Any]],
        initial: Sequence[tuple[float, float]],
        unit: str,
        before: Sequence[npt.NDArray[Any]] | None = None,
    ) -> None:
        self.timescales = [np.asarray(one, dtype=np.float64) for one in timescales]
        self.initial = list(initial)
        self.unit = unit
        self.before = None if before is None else [np.asarray(one, dtype=np.float64) for one in before]

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> TimescaleDisplay:
        """Draw those of a fitted `SSMClassifier` or `SSMRegressor`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError, TypeError, ValueError
            If the estimator is not fitted, or has no network.
        """
        nets: list[Any] = list(networks_of(estimator, cls.__name__))
        net, scale, n_layers = nets[0], float(estimator.time_scale_), len(nets[0].blocks)
        learned, before = _timescales(nets, scale), None
        if isinstance(estimator.random_state, (int, np.integer)) and not estimator.warm_start:
            with isolated_rng(seed_of(int(estimator.random_state))):
                before = _timescales([Backbone(**one.config).float() for one in nets], scale)
        ends = (np.broadcast_to(net.config[name], n_layers) for name in ("dt_max", "dt_min"))
        initial = [(scale / fast, scale / slow) for fast, slow in zip(*ends, strict=True)]
        return cls(learned, initial, unit_of(estimator), before).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> TimescaleDisplay:
        """Draw on ``ax`` or a new figure; returns itself.

        A line per system from before training to after it, or, where those before are not known, a box per
        layer from the least to the largest.
        """
        self.figure_, (self.ax_,) = axes_for(ax, 1, 4.0)
        positions = np.arange(1, len(self.timescales) + 1)
        for position, (low, high) in zip(positions, self.initial, strict=True):
            label = "range before training" if position == 1 else None
            self.ax_.fill_between(
                [position - 0.4, position + 0.4], low, high, color="C0", alpha=0.2, label=label
            )
        if self.before is None:
            self.ax_.boxplot(self.timescales, positions=positions, whis=(0, 100), widths=0.5)
        else:
            self._draw_change(positions, self.before)
        self.ax_.set_yscale("log")
        self.ax_.set_xticks(positions, [str(position) for position in positions])
        self.ax_.set(xlabel="layer", ylabel=f"timescale 1/Δ ({self.unit})")
        # Below, as the dots fill the axes and a title is above; one under the other, as axes may be narrow.
        self.ax_.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False)
        return self

    def _draw_change(self, positions: npt.NDArray[Any], before: list[npt.NDArray[np.float64]]) -> None:
        dots: dict[str, Any] = {"marker": "o", "markersize": 3, "linestyle": "none"}
        for position, start, end in zip(positions, before, self.timescales, strict=True):
            ends = np.array([position - 0.25, position + 0.25])
            self.ax_.plot(ends, np.stack([start, end]), color="C0", linewidth=0.5, alpha=0.5)
            for colour, at, values, label in (
                ("C0", ends[0], start, "before"),
                ("C1", ends[1], end, "after"),
            ):
                first = {"label": f"{label} training"} if position == 1 else {}
                self.ax_.plot(np.full(len(values), at), values, color=colour, **dots, **first)


def _timescales(nets: Sequence[Any], scale: float) -> list[npt.NDArray[np.float64]]:
    """Timescales of each layer, of all networks together, in the unit of the times."""
    deltas = [[block.layer.log_dt.detach().double().numpy() for block in net.blocks] for net in nets]
    return [scale * np.exp(-np.concatenate(each)) for each in zip(*deltas, strict=True)]


class ImpulseResponseDisplay:
    """What the channels of a layer answer to a single input of 1: what they remember, and for how long.

    Parameters
    ----------
    time : array (length,)
        Time after the input, in ``unit``; negative before it, where a layer runs both ways.
    responses : array (n_channels, length)
    timescales : array (n_channels,), optional
        For the legend.
    unit : str
        Unit of time.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes

    Notes
    -----
    The samples lie on a grid of one unit of ``time_scale_``. A liquid layer is not linear: this is its answer
    to an input of this size.
    """

    figure_: Any
    ax_: Any

    def __init__(
        self,
        time: npt.NDArray[Any],
        responses: npt.NDArray[Any],
        timescales: npt.NDArray[Any] | None,
        unit: str,
    ) -> None:
        self.time, self.responses, self.timescales, self.unit = time, responses, timescales, unit

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        layer: int = 0,
        channels: int | Sequence[int] | None = None,
        length: int = 200,
        ax: Any = None,
    ) -> ImpulseResponseDisplay:
        """Draw those of one layer of a fitted `SSMClassifier` or `SSMRegressor`, of its first network.

        Parameters
        ----------
        estimator : fitted estimator that trains a network
        layer : int, default=0
            Counted from the input.
        channels : int or sequence of int, optional
            Which of the ``d_model`` channels; by default six, from the shortest timescale to the longest.
        length : int, default=200
            Samples after the input, and before it where the layer runs both ways.
        ax : matplotlib Axes, optional
            By default those of a new figure.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        IndexError
            If there is no such layer or channel.
        NotFittedError, TypeError, ValueError
            If the estimator is not fitted, or has no network.
        """
        net = networks_of(estimator, cls.__name__)[0]
        system: Any = net.blocks[chosen(layer, len(net.blocks), 1, "layer")[0]].layer
        scale, width = estimator.time_scale_, system.d_model
        memory = scale * np.exp(-system.log_dt.detach().double().numpy())
        if channels is None and len(memory) == width:
            picked = np.argsort(memory)[np.linspace(0, width - 1, min(width, 6)).astype(int)].tolist()
        else:
            picked = chosen(channels, width, 6, "channels")
        before = length if system.bidirectional else 0
        u = torch.zeros(len(picked), before + length, width)
        u[torch.arange(len(picked)), before, torch.tensor(picked)] = 1.0
        with torch.no_grad():
            y, _ = system(u, need_state=False)
        responses = y[torch.arange(len(picked)), :, torch.tensor(picked)].numpy()
        time = scale * np.arange(-before, length)
        known = memory[picked] if len(memory) == width else None
        return cls(time, responses, known, unit_of(estimator)).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> ImpulseResponseDisplay:
        """Draw a line per channel on ``ax`` or on a new figure; returns itself."""
        self.figure_, (self.ax_,) = axes_for(ax, 1, 4.0)
        for number, response in enumerate(self.responses):
            label = None if self.timescales is None else f"1/Δ = {self.timescales[number]:.3g} {self.unit}"
            self.ax_.plot(self.time, response, label=label)
        self.ax_.set(xlabel=f"time after the input ({self.unit})", ylabel="response to an input of 1")
        if self.timescales is not None:
            self.ax_.legend()
        return self
