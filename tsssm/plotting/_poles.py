"""The poles of a layer: how fast its modes forget, and at which frequencies they swing."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tsssm.plotting._axes import axes_for, chosen, networks_of, unit_of


class PoleDisplay:
    """Poles of the systems of a layer, in the unit of the times of the series.

    A mode of pole s goes on as exp(s t): its memory fades by a factor e in -1 / Re(s), and it swings with the
    frequency abs(Im(s)) / (2 pi).

    Parameters
    ----------
    poles : array (n_poles,), complex
        In 1 / ``unit``, one of each conjugate pair.
    unit : str
        Unit of time.

    Attributes
    ----------
    decay_times : array (n_poles,)
        In ``unit``.
    frequencies : array (n_poles,)
        In cycles in a ``unit``.
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes

    Notes
    -----
    Those of a liquid layer are those at rest, without input.
    """

    figure_: Any
    ax_: Any

    def __init__(self, poles: npt.ArrayLike, unit: str) -> None:
        self.poles, self.unit = np.asarray(poles, dtype=np.complex128), unit
        self.decay_times = -1.0 / self.poles.real
        self.frequencies = np.abs(self.poles.imag) / (2 * np.pi)

    @classmethod
    def from_estimator(cls, estimator: Any, *, layer: int = 0, ax: Any = None) -> PoleDisplay:
        """Draw those of one layer of a fitted estimator that trains a network, of all members.

        Parameters
        ----------
        estimator : fitted estimator that trains a network
        layer : int, default=0
            Counted from the input.
        ax : matplotlib Axes, optional
            By default those of a new figure.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        IndexError
            If there is no such layer.
        NotFittedError, TypeError, ValueError
            If the estimator is not fitted, or has no network.
        """
        nets: list[Any] = list(networks_of(estimator, cls.__name__))
        number = chosen(layer, len(nets[0].blocks), 1, "layer")[0]
        found = np.concatenate([net.blocks[number].layer.poles().numpy().ravel() for net in nets])
        # Of a pair of conjugates, and of a mode that stands for both, the upper one.
        poles = found[found.imag >= 0] if (found.imag < 0).any() and (found.imag > 0).any() else found
        return cls(poles / float(estimator.time_scale_), unit_of(estimator)).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> PoleDisplay:
        """Draw a dot a pole on ``ax`` or on a new figure; returns itself."""
        self.figure_, (self.ax_,) = axes_for(ax, 1, 4.0)
        one = "sample" if self.unit == "samples" else self.unit
        self.ax_.plot(self.decay_times, self.frequencies, "o", markersize=4, alpha=0.6)
        self.ax_.set_xscale("log")
        swinging = self.frequencies[self.frequencies > 0]
        if len(swinging):
            # Frequencies span decades, and some are zero.
            least = float(swinging.min())
            self.ax_.set_yscale("symlog", linthresh=least)
            self.ax_.set_ylim(-0.2 * least, 2.0 * float(swinging.max()))
        self.ax_.set(xlabel=f"memory −1/Re s ({self.unit})", ylabel=f"frequency |Im s|/2π (cycles / {one})")
        return self
