"""What every state-space layer promises as a module of torch, as tests that its own test module inherits.

Copies, other precisions, compilation and export take the same way through a layer whatever its numbers are,
and compiling takes seconds: they run for one variant of each way, where `contract` runs for all::

    @pytest.mark.parametrize("make", LAYERS[:1])
    class TestModule(ModuleContract): ...
"""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from contract import BATCH, BOTH, CHANNELS, LENGTH, Make, close, gaps, signal


class ModuleContract:
    """Inherited by the tests of each layer, which parametrise ``make``."""

    @BOTH
    def test_copies(self, make: Make, bidirectional: bool) -> None:
        layer, u, dt = make(bidirectional), signal(), gaps()
        expected = layer(u, dt)[0]
        loaded = make(bidirectional)
        for value in loaded.state_dict().values():
            value += 1
        assert not torch.allclose(loaded(u, dt)[0], expected)
        stream = io.BytesIO()
        torch.save(layer.state_dict(), stream)
        stream.seek(0)
        loaded.load_state_dict(torch.load(stream, weights_only=True))
        for other in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer), loaded):
            assert torch.equal(other(u, dt)[0], expected)
            assert torch.equal(other(u)[0], layer(u)[0])

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

    def test_an_exported_layer_takes_other_lengths(self, make: Make) -> None:
        layer, u = make(True).eval(), signal()
        length = torch.export.Dim("length", min=33)
        program = torch.export.export(layer, (u,), dynamic_shapes=({1: length},))
        longer = torch.cat([u] * 40, 1)
        assert longer.shape[1] > 1024  # where the layer itself may take another path
        close(program.module()(longer)[0], layer(longer)[0], 1e-10)

    def test_wrong_shapes(self, make: Make) -> None:
        layer, u, dt = make(False), signal(), gaps()
        with pytest.raises(ValueError, match=rf"^u must be .*{CHANNELS}.*got \({BATCH}, {LENGTH}, 4\)"):
            layer(u[..., :4])
        with pytest.raises(ValueError, match=r"^u must be "):
            layer(u[0])
        with pytest.raises(ValueError, match=r"^u must be .*L >= 1; got \(3, 0, 5\)"):
            layer(u[:, :0])
        for other in (torch.int64, torch.complex128):
            with pytest.raises(ValueError, match=rf"^u must be real floating point .* of {other}"):
                layer(u.to(other))
        with pytest.raises(ValueError, match=r"^dt must be .*got \(3, 39\)"):
            layer(u, dt[:, 1:])
        with pytest.raises(ValueError, match=r"^state must be a .*; got list"):
            layer(u, dt, [layer.initial_state(BATCH)])
        with pytest.raises(ValueError, match=r"^state.* must be "):
            layer(u, dt, layer.initial_state(BATCH + 1))
        with pytest.raises(ValueError, match=r"^u_t must be "):
            layer.step(u, layer.initial_state(BATCH))
        with pytest.raises(ValueError, match=r"^dt must be "):
            layer.step(u[:, 0], layer.initial_state(BATCH), dt[:, :1])

    def test_no_series(self, make: Make) -> None:
        layer, u, dt = make(False), signal()[:0], gaps()[:0]
        for gap in (None, dt):
            y, state = layer(u, gap)
            assert y.shape == u.shape and all(
                len(t) == 0 for t in (state if isinstance(state, tuple) else [state])
            )

    def test_bidirectional_takes_no_state(self, make: Make) -> None:
        layer, u = make(True), signal()
        with pytest.raises(ValueError, match="state"):
            layer(u, None, layer.initial_state(BATCH))
        with pytest.raises(ValueError, match="step"):
            layer.step(u[:, 0], layer.initial_state(BATCH))
