"""What every layer is: a system per channel, run over a sequence or one sample at a time."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from numbers import Integral
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Layer = TypeVar("Layer", bound="SSMLayer")


class SSMLayer(nn.Module):
    """Base of the state-space layers and their contract.

    Sequences are (batch, L, d_model); ``dt`` (batch, L) is the elapsed time since the previous sample in
    units of the grid on which the layer's timescales live: None is a regular grid, 0 is padding.
    Every call takes and returns the state, which is never kept on the module.

    Parameters
    ----------
    d_model : int
        Channels H.
    d_state : int
        Real dimensions N of the state of each channel.
    bidirectional : bool
        Add a second readout of the same system run from the last sample to the first.

    Notes
    -----
    A subclass implements ``_run`` and ``initial_state`` and names the parameters of its system in
    ``system_names``: those train with a smaller learning rate and without weight decay. It has the readouts
    ``C`` (directions, ...) and the direct part ``D``.
    """

    C: nn.Parameter
    D: nn.Parameter

    system_names: tuple[str, ...] = ()
    state_type: type = Tensor

    def __init__(self, d_model: int, d_state: int = 64, *, bidirectional: bool = False) -> None:
        super().__init__()
        check_sizes(d_model=d_model, d_state=d_state)
        self.d_model = int(d_model)
        self.d_state = int(d_state)
        self.bidirectional = bidirectional

    def forward(
        self, u: Tensor, dt: Tensor | None = None, state: Any = None, *, need_state: bool = True
    ) -> tuple[Tensor, Any]:
        """Run the layer over a sequence.

        Parameters
        ----------
        u : Tensor (batch, L, d_model)
            Finite, also where ``dt`` is 0: such a sample does not move the state, but 0 times infinity would.
        dt : Tensor (batch, L), optional
            Elapsed time since the previous sample, at least 0; the first entry is the time since ``state``.
        state : optional
            What an earlier call returned; zero by default.
        need_state : bool
            Without it the second result is None, and on a regular grid a layer may compute its output by
            convolution, where that is faster.

        Returns
        -------
        y : Tensor (batch, L, d_model)
        state
            State after the last sample, of the forward direction.

        Raises
        ------
        ValueError
            If shapes disagree, or a state is given to a bidirectional layer.
        """
        if u.ndim != 3 or u.shape[1] == 0 or u.shape[2] != self.d_model or not u.is_floating_point():
            expected = f"real floating point (batch, L, {self.d_model}) with L >= 1"
            raise ValueError(f"u must be {expected}; got {tuple(u.shape)} of {u.dtype}.")
        if dt is not None and dt.shape != u.shape[:2]:
            raise ValueError(f"dt must be {tuple(u.shape[:2])}; got {tuple(dt.shape)}.")
        if self.bidirectional and state is not None:
            raise ValueError("A bidirectional layer sees the whole sequence at once: it takes no state.")
        if state is not None and not isinstance(state, self.state_type):
            name, got = self.state_type.__name__, type(state).__name__
            raise ValueError(f"state must be a {name}, as this layer returns it; got {got}.")
        y, state = self._run(u, dt, state, need_state)
        return y, state if need_state else None

    def step(self, u_t: Tensor, state: Any, dt: Tensor | None = None) -> tuple[Tensor, Any]:
        """Advance by one sample: u_t (batch, d_model), dt (batch,); returns y_t and the new state.

        Raises
        ------
        ValueError
            If shapes disagree, or the layer is bidirectional.
        """
        if self.bidirectional:
            raise ValueError("A bidirectional layer sees the whole sequence at once: it cannot step.")
        if u_t.ndim != 2 or u_t.shape[1] != self.d_model:
            raise ValueError(f"u_t must be (batch, {self.d_model}); got {tuple(u_t.shape)}.")
        if dt is not None and dt.shape != u_t.shape[:1]:
            raise ValueError(f"dt must be {tuple(u_t.shape[:1])}; got {tuple(dt.shape)}.")
        y, state = self(u_t[:, None], None if dt is None else dt[:, None], state)
        return y[:, 0], state

    def directions(self: Layer) -> tuple[Layer, Layer]:
        """The two directions of a bidirectional layer, each as a layer that takes and gives a state.

        The first runs forwards. The second is given sequences reversed in time, with the gaps of
        `tsssm.ops.reversed_gaps` reversed as well. `joined` makes the output of this layer of theirs. They
        hold copies of the parameters, which are not trained.

        Raises
        ------
        ValueError
            If the layer has one direction.
        """
        if not self.bidirectional:
            raise ValueError("The layer has one direction; make it with bidirectional=True for two.")
        forwards, backwards = copy.deepcopy(self), copy.deepcopy(self)
        for number, way in enumerate((forwards, backwards)):
            way.bidirectional = False
            way.C = nn.Parameter(way.C.detach()[number : number + 1].clone())
            way.requires_grad_(False)
        nn.init.zeros_(backwards.D)
        return forwards, backwards

    def joined(self, forward: Tensor, backward: Tensor) -> Tensor:
        """The output (batch, L, d_model) of which `directions` give the parts, both in the order of time."""
        return forward + backward

    def initial_state(self, batch: int) -> Any:
        """The zero state for ``batch`` sequences."""
        raise NotImplementedError

    def poles(self) -> Tensor:
        """Eigenvalues of A times Delta in 1 / (unit of ``dt``), a row for each channel that has a state.

        Complex (rows, modes), one or both of a conjugate pair: a mode of pole s goes on as exp(s t). Of a
        liquid layer they are those at rest, without input.
        """
        raise NotImplementedError

    def _run(self, u: Tensor, dt: Tensor | None, state: Any, need_state: bool) -> tuple[Tensor, Any]:
        """The layer on arguments that have been checked, in one direction or both."""
        raise NotImplementedError

    def system_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the system itself (A, B, Delta), which train slowly and are not decayed."""
        for name, parameter in self.named_parameters(recurse=False):
            if name in self.system_names:
                yield parameter


def log_uniform_steps(d_model: int, dt_min: float, dt_max: float) -> Tensor:
    """Logarithms (d_model,) of timescales Delta drawn log-uniformly from [dt_min, dt_max].

    Raises
    ------
    ValueError
        Unless 0 < dt_min <= dt_max.
    """
    check_steps(dt_min, dt_max)
    low, high = math.log(dt_min), math.log(dt_max)
    return low + (high - low) * torch.rand(d_model)


def default_complex() -> torch.dtype:
    """The complex dtype of the precision in which torch makes new parameters."""
    return torch.get_default_dtype().to_complex()


def check_sizes(**sizes: object) -> None:
    """Raise ValueError unless every size, by name, is a positive int."""
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} must be a positive int; got {value!r}.")


def check_steps(dt_min: float, dt_max: float) -> None:
    """Raise ValueError unless 0 < dt_min <= dt_max < inf."""
    if not 0 < dt_min <= dt_max < math.inf:
        raise ValueError(f"dt_min and dt_max must satisfy 0 < dt_min <= dt_max; got {dt_min} and {dt_max}.")
