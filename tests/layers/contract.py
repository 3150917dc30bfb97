"""What every state-space layer computes, as tests that a layer's own test module inherits.

A module names its layers once, in every variant that computes something else::

    LAYERS = [maker(S4D), maker(S4D, init="lin", method="foh"), ...]

    @pytest.mark.parametrize("make", LAYERS)
    class TestContract(LayerContract): ...

``make(bidirectional)`` builds a layer in float64 with `CHANNELS` channels and `N_STATE` state dimensions.
The truth is in `brute_force`; what a layer is as a module of torch is in `module_contract`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from brute_force import brute_force
from torch import Tensor

from tsssm.layers import SSMLayer
from tsssm.ops import reversed_gaps

CHANNELS, N_STATE, BATCH, LENGTH = 5, 6, 3, 40

Make = Callable[[bool], SSMLayer]
BOTH = pytest.mark.parametrize("bidirectional", [False, True], ids=["causal", "bidirectional"])


def maker(layer: type[SSMLayer], **options: Any) -> Any:
    """A parameter for ``make``: a layer of these options."""

    def make(bidirectional: bool) -> SSMLayer:
        torch.manual_seed(0)
        built = layer(CHANNELS, N_STATE, bidirectional=bidirectional, **options).double()
        with torch.no_grad():
            # Away from the initial values, at which B is real and all channels share A.
            for parameter in built.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        return built

    return pytest.param(make, id="-".join(str(value) for value in options.values()) or "defaults")


def signal(length: int = LENGTH, seed: int = 1) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(BATCH, length, CHANNELS, generator=random, dtype=torch.float64)


def gaps(length: int = LENGTH, seed: int = 2) -> Tensor:
    """Irregular gaps around 1, all distinct."""
    random = torch.Generator().manual_seed(seed)
    return 0.2 + 2 * torch.rand(BATCH, length, generator=random, dtype=torch.float64)


def padded_gaps() -> tuple[Tensor, list[int]]:
    """Gaps with a zero inside, ending after a different number of samples in each series."""
    dt, lengths = gaps(), [LENGTH, LENGTH - 9, 1]
    dt[:, 5] = 0
    for row, length in enumerate(lengths):
        dt[row, length:] = 0
    return dt, lengths


def smooth(times: Tensor) -> Tensor:
    """A signal of three frequencies (*, CHANNELS), another in each channel, at times (*)."""
    t, phase = times[..., None], torch.arange(CHANNELS, dtype=times.dtype)
    return torch.sin(0.4 * t + phase) + 0.5 * torch.cos(1.1 * t) + 0.3 * torch.sin(2.3 * t - phase)


def random_grid(samples: int, seed: int) -> Tensor:
    """Gaps (BATCH, samples) that differ by up to three times and add up to 10."""
    random = torch.Generator().manual_seed(seed)
    dt = 0.5 + torch.rand(BATCH, samples, generator=random, dtype=torch.float64)
    return 10 * dt / dt.sum(1, keepdim=True)


def arrays_of(state: Any) -> Tensor:
    """The part of a state that is a function of all inputs so far."""
    return state.x if isinstance(state, tuple) else state


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(
        found.detach(), expected.detach(), rtol=0, atol=tolerance * max(1.0, expected.abs().max().item())
    )


class LayerContract:
    """Inherited by the tests of each layer, which parametrise ``make``."""

    @pytest.mark.parametrize("irregular", [True, False])
    def test_directions_are_cut_anywhere(self, make: Make, irregular: bool) -> None:
        """Forwards from cut to cut, backwards too, with zero gaps and padding, and joined: the whole."""
        layer, u = make(True), signal()
        dt, lengths = padded_gaps() if irregular else (None, [LENGTH] * BATCH)
        back = None if dt is None else reversed_gaps(dt)
        ways = layer.directions()
        cuts = [0, 7, 8, 30, LENGTH]
        pieces = list(zip(cuts[:-1], cuts[1:], strict=True))
        ahead, behind = [], []
        state = None
        for start, stop in pieces:
            y, state = ways[0](u[:, start:stop], None if dt is None else dt[:, start:stop], state)
            ahead.append(y)
        state = None
        for start, stop in reversed(pieces):
            gap = None if back is None else back[:, start:stop].flip(1)
            y, state = ways[1](u[:, start:stop].flip(1), gap, state)
            behind.insert(0, y.flip(1))
        found, expected = layer.joined(torch.cat(ahead, 1), torch.cat(behind, 1)), layer(u, dt)[0]
        for row, length in enumerate(lengths):
            close(found[row, :length], expected[row, :length])
        with pytest.raises(ValueError, match="one direction"):
            make(False).directions()

    @BOTH
    @pytest.mark.parametrize("regular", [True, False])
    def test_equals_brute_force(self, make: Make, bidirectional: bool, regular: bool) -> None:
        layer, u = make(bidirectional), signal()
        dt, lengths = torch.ones(BATCH, LENGTH, dtype=u.dtype), [LENGTH] * BATCH
        if not regular:
            dt, lengths = gaps(), [LENGTH, LENGTH - 9, 1]
            for row, length in enumerate(lengths):
                dt[row, length:] = 0
        y, state = layer(u, None if regular else dt)
        outputs, states = brute_force(layer, u, dt, lengths)
        for series, expected in enumerate(outputs):
            close(y[series, : len(expected)], torch.as_tensor(expected))
        close(arrays_of(state), torch.as_tensor(states).to(arrays_of(state).dtype))

    @BOTH
    def test_float32(self, make: Make, bidirectional: bool) -> None:
        """Within 1e-4 of the largest output: forty steps of a system with Delta up to 0.1."""
        layer, u, dt = make(bidirectional), signal(), gaps()
        expected, _ = layer(u, dt)
        regular, _ = layer(u)
        single = layer.float()
        y, state = single(u.float(), dt.float())
        assert y.dtype == torch.float32 and not arrays_of(state).dtype.itemsize > 8
        close(y.double(), expected, 1e-4)
        close(single(u.float())[0].double(), regular, 1e-4)

    @pytest.mark.parametrize("irregular", [False, True])
    def test_sequence_equals_steps(self, make: Make, irregular: bool) -> None:
        layer, u = make(False), signal()
        dt = gaps() if irregular else None
        y, final = layer(u, dt)
        state = layer.initial_state(BATCH)
        for k in range(LENGTH):
            y_k, state = layer.step(u[:, k], state, None if dt is None else dt[:, k])
            close(y_k, y[:, k])
        close(arrays_of(state), arrays_of(final))

    def test_sequence_equals_convolution(self, make: Make) -> None:
        layer, u = make(False), signal()
        impulse = torch.zeros(1, LENGTH, CHANNELS, dtype=u.dtype)
        impulse[:, 0] = 1
        kernel = layer(impulse)[0][0].detach().numpy()
        y, _ = layer(u)
        for series in range(BATCH):
            for h in range(CHANNELS):
                expected = np.convolve(u[series, :, h].numpy(), kernel[:, h])[:LENGTH]
                close(y[series, :, h], torch.as_tensor(expected))

    @pytest.mark.parametrize("irregular", [False, True])
    @pytest.mark.parametrize("at", [1, 20, LENGTH - 1])
    def test_a_later_input_changes_nothing_before(self, make: Make, at: int, irregular: bool) -> None:
        layer, u = make(False), signal()
        dt = gaps() if irregular else None
        y, _ = layer(u, dt)
        changed = u.clone()
        changed[:, at:] += 100
        z, _ = layer(changed, dt)
        assert torch.equal(z[:, :at], y[:, :at])
        assert not torch.allclose(z[:, at], y[:, at])

    @pytest.mark.parametrize("irregular", [False, True])
    @pytest.mark.parametrize("at", [1, 7, 32, LENGTH - 1])
    def test_state_is_carried_over_a_cut(self, make: Make, at: int, irregular: bool) -> None:
        layer, u = make(False), signal()
        dt = gaps() if irregular else None
        y, final = layer(u, dt)
        first, state = layer(u[:, :at], None if dt is None else dt[:, :at])
        second, end = layer(u[:, at:], None if dt is None else dt[:, at:], state)
        close(torch.cat([first, second], dim=1), y)
        close(arrays_of(end), arrays_of(final))

    def test_initial_state_is_the_default(self, make: Make) -> None:
        layer, u, dt = make(False), signal(), gaps()
        close(layer(u, dt, layer.initial_state(BATCH))[0], layer(u, dt)[0])
        close(layer(u, None, layer.initial_state(BATCH))[0], layer(u)[0])

    @BOTH
    @pytest.mark.parametrize("c", [0.5, 3.0])
    def test_constant_gap_is_another_timescale(self, make: Make, bidirectional: bool, c: float) -> None:
        layer, u = make(bidirectional), signal()
        by_gap, _ = layer(u, torch.full((BATCH, LENGTH), c, dtype=u.dtype))
        with torch.no_grad():
            layer.log_dt += math.log(c)
        close(by_gap, layer(u)[0])

    @BOTH
    def test_padding_changes_nothing(self, make: Make, bidirectional: bool) -> None:
        layer, u = make(bidirectional), signal()
        dt, lengths = padded_gaps()
        garbage = u.clone()
        for row, length in enumerate(lengths):
            garbage[row, length:] = 1e6
        y, state = layer(garbage, dt)
        for row, length in enumerate(lengths):
            alone, end = layer(u[row : row + 1, :length], dt[row : row + 1, :length])
            close(y[row : row + 1, :length], alone)
            close(arrays_of(state)[row : row + 1], arrays_of(end))

    @BOTH
    def test_padding_on_a_regular_grid_changes_nothing(self, make: Make, bidirectional: bool) -> None:
        layer, u = make(bidirectional), signal()
        alone, end = layer(u[:, :23])
        dt = torch.ones(BATCH, LENGTH, dtype=u.dtype)
        dt[:, 23:] = 0
        y, state = layer(u, dt)
        close(y[:, :23], alone)
        close(arrays_of(state), arrays_of(end))

    @pytest.mark.parametrize("irregular", [False, True])
    def test_reversed_series_gives_reversed_output(self, make: Make, irregular: bool) -> None:
        """With the readouts of the two directions exchanged; D, which has no direction, stays."""
        layer, u = make(True), signal()
        dt = gaps() if irregular else None
        y, _ = layer(u, dt)
        exchanged = copy.deepcopy(layer)
        with torch.no_grad():
            exchanged.C.copy_(layer.C.flip(0))
        turned = None if dt is None else torch.cat([dt[:, :1], dt[:, 1:].flip(1)], dim=1)
        z, _ = exchanged(u.flip(1), turned)
        close(z.flip(1), y)

    @BOTH
    def test_every_parameter_has_a_gradient(self, make: Make, bidirectional: bool) -> None:
        for dt in (None, gaps()):
            layer = make(bidirectional)
            y, _ = layer(signal(), dt)
            y.square().mean().backward()
            for name, parameter in layer.named_parameters():
                assert parameter.grad is not None and parameter.grad.isfinite().all(), name
                # Each channel has a part in it, and each direction of C.
                channels = [axis for axis, size in enumerate(parameter.shape) if size == CHANNELS][:1]
                kept = {*channels, *([0] if name == "C" else [])}
                others = [axis for axis in range(parameter.ndim) if axis not in kept]
                reached = (parameter.grad != 0).any(others) if others else parameter.grad != 0
                assert reached.all(), name

    def test_gradient_flows_through_the_state(self, make: Make) -> None:
        """Cutting a sequence changes no gradient, so that truncation is a choice (detach) and no accident."""
        u, dt = signal(), gaps()
        whole, cut = make(False), make(False)
        whole(u, dt)[0].square().sum().backward()
        first, state = cut(u[:, :17], dt[:, :17])
        second, _ = cut(u[:, 17:], dt[:, 17:], state)
        (first.square().sum() + second.square().sum()).backward()
        for (name, a), b in zip(whole.named_parameters(), cut.parameters(), strict=True):
            torch.testing.assert_close(
                b.grad, a.grad, rtol=1e-8, atol=1e-8 * a.grad.abs().max().item(), msg=name
            )

    def test_system_parameters(self, make: Make) -> None:
        layer = make(False)
        system = {id(parameter) for parameter in layer.system_parameters()}
        names = {name for name, parameter in layer.named_parameters() if id(parameter) in system}
        assert names == set(layer.system_names) and not names & {"C", "D"}

    def test_a_hold_may_be_refined(self, make: Make) -> None:
        """A sample added on the assumed course of the input changes nothing, and only under that assumption.

        The input is held ("zoh") or linear ("foh") between samples; the other rules approximate, so that a
        finer grid is another answer.
        """
        layer, u, dt = make(False), signal(), gaps()
        before = torch.cat([torch.zeros_like(u[:, :1]), u[:, :-1]], dim=1) if layer.method == "foh" else u
        part = torch.rand(dt.shape, generator=torch.Generator().manual_seed(5), dtype=dt.dtype)
        between = before + part[..., None] * (u - before)
        finer = torch.stack([part * dt, (1 - part) * dt], dim=2).flatten(1)
        y, state = layer(u, dt)
        fine, fine_state = layer(torch.stack([between, u], dim=2).flatten(1, 2), finer)
        if layer.method in ("zoh", "foh"):
            close(fine[:, 1::2], y)
            close(arrays_of(fine_state), arrays_of(state))
        else:
            assert not torch.allclose(arrays_of(fine_state), arrays_of(state), rtol=1e-6)

    def test_two_random_grids_converge(self, make: Make) -> None:
        """States after the same signal at two sets of times, of which one has four times the samples.

        Samples stand at the ends of their steps, so that a state is off by the first power of the step at
        most: eight times the samples take the grids at least five times closer to one another.
        """
        layer, apart = make(False), []
        for samples in (24, 192):
            grids = [random_grid(samples, seed=1), random_grid(4 * samples, seed=2)]
            with torch.no_grad():
                coarse, fine = (arrays_of(layer(smooth(dt.cumsum(1)), dt)[1]) for dt in grids)
            apart.append((coarse - fine).abs().max().item() / fine.abs().max().item())
        assert apart[1] < 0.05 and apart[1] < apart[0] / 5, apart

    @BOTH
    def test_one_sample(self, make: Make, bidirectional: bool) -> None:
        layer, u, dt = make(bidirectional), signal(1), gaps(1)
        y, _ = layer(u, dt)
        outputs, _ = brute_force(layer, u, dt, [1] * BATCH)
        close(y, torch.as_tensor(np.stack(outputs)))
