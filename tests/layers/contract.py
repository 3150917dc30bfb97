"""What every state-space layer promises, as tests that a layer's own test module inherits.

A module names its layers once::

    @pytest.mark.parametrize("make", [maker(S4D, method="zoh"), ...])
    class TestContract(LayerContract): ...

``make(bidirectional)`` builds a layer in float64 with `CHANNELS` channels and `N_STATE` state dimensions.
The truth is in `brute_force`.
"""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from brute_force import brute_force
from torch import Tensor

from tsssm.layers import LSSL, SSMLayer

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


def arrays_of(state: Any) -> Tensor:
    """The part of a state that is a function of all inputs so far."""
    return state.x if isinstance(state, tuple) else state


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(
        found.detach(), expected.detach(), rtol=0, atol=tolerance * max(1.0, expected.abs().max().item())
    )


class LayerContract:
    """Inherited by the tests of each layer, which parametrise ``make``."""

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
                # Each direction of each channel has a part in it, of every parameter.
                assert parameter.grad.flatten(min(parameter.ndim, 2) - 1).any(-1).all(), name

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

    @BOTH
    def test_copies(self, make: Make, bidirectional: bool) -> None:
        layer, u, dt = make(bidirectional), signal(), gaps()
        expected = layer(u, dt)[0]
        loaded = type(layer)(CHANNELS, N_STATE, bidirectional=bidirectional, **self._options(layer)).double()
        stream = io.BytesIO()
        torch.save(layer.state_dict(), stream)
        stream.seek(0)
        loaded.load_state_dict(torch.load(stream, weights_only=True))
        for other in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer), loaded):
            assert torch.equal(other(u, dt)[0], expected)
            assert torch.equal(other(u)[0], layer(u)[0])

    @staticmethod
    def _options(layer: SSMLayer) -> dict[str, Any]:
        return {"method": layer.alpha if isinstance(layer, LSSL) else layer.method}

    @BOTH
    def test_precision_can_be_changed(self, make: Make, bidirectional: bool) -> None:
        """By ``to`` as by ``float`` and ``double``, and parameters that float32 holds come back unchanged."""
        layer, u, dt = make(bidirectional).float(), signal(), gaps()
        expected = copy.deepcopy(layer).double()(u, dt)[0]
        for convert in (lambda m: m.to(torch.float64), lambda m: m.double().float().double()):
            close(convert(copy.deepcopy(layer))(u, dt)[0], expected, 1e-14)

    @BOTH
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_input(self, make: Make, bidirectional: bool, dtype: torch.dtype) -> None:
        layer = make(bidirectional).float()
        u, dt = signal().to(dtype), gaps().to(dtype)
        for gap in (None, dt):
            expected = layer(u.float(), None if gap is None else gap.float())[0]
            y = layer(u, gap)[0]
            assert y.dtype == dtype
            # Rounded once on the way out.
            close(y.float(), expected, 2 * torch.finfo(dtype).eps)

    @BOTH
    def test_autocast_leaves_the_system_alone(self, make: Make, bidirectional: bool) -> None:
        layer, u, dt = make(bidirectional).float(), signal().float(), gaps().float()
        for gap in (None, dt):
            expected = layer(u, gap)[0]
            with torch.autocast("cpu", torch.bfloat16):
                y = layer(u, gap)[0]
            close(y.float(), expected, 1e-6)

    def test_compile(self, make: Make) -> None:
        torch.compiler.reset()
        layer, u, dt = make(True), signal(3), gaps(3)
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        for gap in (None, dt):
            y, _ = compiled(u, gap)
            expected, _ = layer(u, gap)
            close(y, expected, 1e-12)
            (found,) = torch.autograd.grad(y.square().sum(), layer.C)
            (value,) = torch.autograd.grad(expected.square().sum(), layer.C)
            torch.testing.assert_close(found, value, rtol=1e-9, atol=1e-9)

    @BOTH
    def test_export(self, make: Make, bidirectional: bool) -> None:
        layer, u, dt = make(bidirectional).eval(), signal(3), gaps(3)
        for arguments in ((u,), (u, dt)):
            program = torch.export.export(layer, arguments)
            close(program.module()(*arguments)[0], layer(*arguments)[0], 1e-12)

    @BOTH
    def test_one_sample(self, make: Make, bidirectional: bool) -> None:
        layer, u, dt = make(bidirectional), signal(1), gaps(1)
        y, _ = layer(u, dt)
        outputs, _ = brute_force(layer, u, dt, [1] * BATCH)
        close(y, torch.as_tensor(np.stack(outputs)))

    def test_wrong_shapes(self, make: Make) -> None:
        layer, u, dt = make(False), signal(), gaps()
        with pytest.raises(ValueError, match=rf"^u must be .*{CHANNELS}.*got \({BATCH}, {LENGTH}, 4\)"):
            layer(u[..., :4])
        with pytest.raises(ValueError, match=r"^u must be "):
            layer(u[0])
        with pytest.raises(ValueError, match=r"^dt must be .*got \(3, 39\)"):
            layer(u, dt[:, 1:])
        with pytest.raises(ValueError, match=r"^state.* must be "):
            layer(u, dt, layer.initial_state(BATCH + 1))
        with pytest.raises(ValueError, match=r"^u_t must be "):
            layer.step(u, layer.initial_state(BATCH))
        with pytest.raises(ValueError, match=r"^dt must be "):
            layer.step(u[:, 0], layer.initial_state(BATCH), dt[:, :1])

    def test_bidirectional_takes_no_state(self, make: Make) -> None:
        layer, u = make(True), signal()
        with pytest.raises(ValueError, match="state"):
            layer(u, None, layer.initial_state(BATCH))
        with pytest.raises(ValueError, match="step"):
            layer.step(u[:, 0], layer.initial_state(BATCH))
