"""Liquid-S4: the layer contract, and what is its own."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from brute_force import dense_system, one_step
from contract import BATCH, BOTH, CHANNELS, LENGTH, N_STATE, LayerContract, Make, close, gaps, maker, signal
from module_contract import ModuleContract
from torch import Tensor

from tsssm import hippo
from tsssm.layers import LSSL, S4D, LiquidS4
from tsssm.ops import operands

LAYERS = [
    maker(LiquidS4),
    maker(LiquidS4, init="inv", method="bilinear"),
    maker(LiquidS4, init="lin", method=0.7),
    maker(LiquidS4, kernel="exact", order=3, method="bilinear", real_part="softplus"),
    maker(LiquidS4, kernel="kb"),
    maker(LiquidS4, kernel="pb", order=4, init="inv"),
]
LOW_RANK = [
    maker(LiquidS4, system="dplr"),
    maker(LiquidS4, system="dplr", kernel="exact", order=3, init="legt", method=0.7),
    maker(LiquidS4, system="dplr", kernel="kb", order=3, init="fourier", real_part="softplus"),
    maker(LiquidS4, system="dplr", kernel="pb", init="lagt", method="backward-euler"),
]


def all_of(state: tuple[Tensor, Tensor]) -> Tensor:
    """Both parts of a state in one."""
    return torch.cat([part.flatten(1) for part in state], dim=1)


class Contract(LayerContract):
    test_sequence_equals_convolution = None  # its response depends on the input
    # Each sample multiplies the state by A_bar + B_bar u, so that two samples of one input are not one.
    test_a_hold_may_be_refined = None

    @BOTH
    @pytest.mark.parametrize("irregular", [False, True])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_finite_for_large_inputs(
        self, make: Make, bidirectional: bool, irregular: bool, dtype: torch.dtype
    ) -> None:
        layer = make(bidirectional).to(dtype)
        u = 1e6 * torch.sign(signal(100)).to(dtype)
        u = torch.cat([u, u.abs(), -u.abs()])
        dt = gaps(100).to(dtype).repeat(3, 1) if irregular else None
        y, state = layer(u, dt)
        assert y.isfinite().all() and all(part.isfinite().all() for part in state)
        y.sum().backward()
        assert all(p.grad.isfinite().all() for p in layer.parameters())

    def test_the_whole_state_is_left_alone_by_padding_and_carried_over_a_cut(self, make: Make) -> None:
        layer, u, dt = make(False), signal(), gaps()
        dt[:, 20:23] = 0
        _, whole = layer(u, dt)
        _, state = layer(u[:, :21], dt[:, :21])
        _, cut = layer(u[:, 21:], dt[:, 21:], state)
        close(all_of(cut), all_of(whole))
        keep = [k for k in range(LENGTH) if k not in (20, 21, 22)]
        _, without = layer(u[:, keep], dt[:, keep])
        close(all_of(without), all_of(whole))

    def test_gap_of_zero_leaves_the_state_alone(self, make: Make) -> None:
        layer, u, dt = make(False), signal(), gaps()
        _, state = layer(u, dt)
        _, same = layer(1e6 * u, torch.zeros_like(dt), state)
        close(all_of(same), all_of(state), 0.0)

    def test_superposition_fails(self, make: Make) -> None:
        layer, u, v = make(False), signal(), signal(seed=9)
        difference = layer(u + v)[0] - layer(u)[0] - layer(v)[0]
        assert difference.abs().max() > 1e-3

    def test_liquid_terms_are_of_second_order(self, make: Make) -> None:
        """For a small input the response is linear but for a part that shrinks with its square."""
        layer, u = make(False), signal()
        linear = [(layer(scale * u)[0] - layer(-scale * u)[0]) / 2 for scale in (1e-4, 1e-5)]
        rest = [(layer(scale * u)[0] + layer(-scale * u)[0]) / 2 for scale in (1e-4, 1e-5)]
        close(linear[0], 10 * linear[1], 1e-8)
        assert (rest[0].abs().max() / rest[1].abs().max()).item() == pytest.approx(100, rel=1e-3)


@pytest.mark.parametrize("make", LAYERS)
class TestContract(Contract):
    pass


@pytest.mark.parametrize("make", LOW_RANK)
class TestLowRankContract(Contract):
    pass


@pytest.mark.parametrize("make", [LAYERS[0], *LAYERS[3:]])
class TestModule(ModuleContract):
    pass


@pytest.mark.parametrize("make", LOW_RANK[:1])
class TestLowRankModule(ModuleContract):
    # A graph of every sample, slow to make: a test of its own, of two samples.
    test_compile = None
    test_export = None
    test_an_exported_layer_takes_other_lengths = None


def test_compile_and_export_over_a_low_rank_system() -> None:
    torch.compiler.reset()
    layer, u, dt = LOW_RANK[0].values[0](False), signal(2), gaps(2)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    y, expected = compiled(u, dt)[0], layer(u, dt)[0]
    close(y, expected, 1e-12)
    (found,) = torch.autograd.grad(y.square().sum(), layer.P)
    (value,) = torch.autograd.grad(expected.square().sum(), layer.P)
    torch.testing.assert_close(found, value, rtol=1e-9, atol=1e-9)
    program = torch.export.export(layer.eval(), (u, dt))
    close(program.module()(u, dt)[0], expected, 1e-12)


@pytest.mark.parametrize("options", [{}, {"order": 3}, {"kernel": "kb"}, {"kernel": "pb", "order": 4}])
def test_small_inputs_approach_the_linear_layer(options: dict[str, object]) -> None:
    """The liquid term is of second order in the input."""
    liquid, linear = LiquidS4(CHANNELS, N_STATE, **options).double(), S4D(CHANNELS, N_STATE).double()
    linear.load_state_dict({name: value for name, value in liquid.state_dict().items() if name != "scale"})
    u = signal()
    gap = [(liquid(scale * u)[0] - linear(scale * u)[0]).abs().max().item() / scale for scale in (1e-4, 1e-6)]
    assert gap[0] / gap[1] == pytest.approx(100, rel=0.05)


@pytest.mark.parametrize("make", LAYERS[:3])
def test_no_input_drives_two_states_apart(make: Make) -> None:
    """Mode by mode, and beyond its bound a larger input changes nothing about how they approach."""
    layer, dt = make(False), gaps()
    apart = []
    for size in (0.1, 1e3, 1e4):
        u = size * torch.sign(signal())
        state, other = layer.initial_state(BATCH), layer.initial_state(BATCH)
        random = torch.Generator().manual_seed(4)
        other = other._replace(x=torch.randn(*other.x.shape, generator=random, dtype=torch.complex128))
        distances = [(other.x - state.x).abs()]
        for k in range(LENGTH):
            _, state = layer.step(u[:, k], state, dt[:, k])
            _, other = layer.step(u[:, k], other, dt[:, k])
            distances.append((other.x - state.x).abs())
        assert all((b <= a + 1e-10).all() for a, b in zip(distances, distances[1:], strict=False))
        apart.append(distances[-1])
    close(apart[2], apart[1], 1e-9)
    assert (apart[1] - apart[0]).abs().max() > 1e-3


def equation_6(layer: LiquidS4, u: Tensor, liquid: bool = True) -> Tensor:
    """Outputs (BATCH, L, CHANNELS) of the recurrence without any bound, or of its linear part."""
    y = np.empty(u.shape)
    for h in range(CHANNELS):
        system = dense_system(layer, h)
        A_bar, B_bar, _ = one_step(system.A, system.B, system.step, layer.method)
        x = np.zeros((len(u), len(B_bar)), complex)
        for k, u_k in enumerate(u[:, :, h].numpy().T):
            w = B_bar * u_k[:, None]
            x = x @ A_bar.T + liquid * w * x + w
            y[:, k, h] = (x @ system.C[0]).real + system.D * u_k
    return torch.as_tensor(y)


def noise_and_walk() -> Tensor:
    """White noise and, in the last series, random walks, of unit variance."""
    u = signal(150)
    u[-1] = u[-1].cumsum(0)
    return (u - u.mean(1, keepdim=True)) / u.std(1, keepdim=True)


@pytest.mark.parametrize("init", ["legs", "lin", "inv"])
@pytest.mark.parametrize("method", ["zoh", "bilinear"])
def test_ordinary_inputs_run_equation_6(init: str, method: str) -> None:
    torch.manual_seed(0)
    layer, u = (
        LiquidS4(CHANNELS, 16, init=init, method=method, dt_min=0.01, dt_max=0.5).double(),
        noise_and_walk(),
    )
    y, linear = layer(u)[0], equation_6(layer, u, liquid=False)
    close(y, equation_6(layer, u), 1e-10)
    # It is no small correction where the input is smooth.
    assert (y - linear)[-1].std() > 0.02 * linear[-1].std()


def test_ordinary_inputs_run_equation_6_over_a_low_rank_system() -> None:
    torch.manual_seed(0)
    layer, u = LiquidS4(CHANNELS, 16, system="dplr", dt_min=0.01, dt_max=0.5).double(), noise_and_walk()
    expected, linear = equation_6(layer, u), equation_6(layer, u, liquid=False)
    error = (layer(u)[0] - expected).std() / (expected - linear).std()
    assert error < 0.05


@pytest.mark.parametrize(
    "options", [{"init": init} for init in ("legs", "lin", "inv")] + [{"system": "dplr", "init": "legt"}]
)
def test_a_positive_input_starts_by_slowing_the_decay(options: dict[str, str]) -> None:
    """The phases: B is real and positive, and with other ones the linear part is the same, the liquid not."""
    torch.manual_seed(0)
    layer, u = LiquidS4(CHANNELS, N_STATE, **options).double(), signal()
    assert (layer.B[..., 0] > 0).all() and layer.B[..., 1].abs().max() < 1e-12
    if "system" in options:
        return
    turned = copy.deepcopy(layer)
    turn = torch.polar(torch.ones(3), torch.tensor([0.5, 1.0, 2.0])).to(torch.complex128)
    with torch.no_grad():
        turned.B.copy_(torch.view_as_real(torch.view_as_complex(layer.B) * turn))
        turned.C.copy_(torch.view_as_real(torch.view_as_complex(layer.C) / turn))
    small = [other(1e-6 * u)[0] * 1e6 for other in (layer, turned)]
    close(small[0], small[1], 1e-5)
    assert (layer(u)[0] - turned(u)[0]).abs().max() > 1e-3


def test_no_gradient_hangs_on_how_a_clipped_input_is_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a transform a clipped transition lies on the unit circle: inside it or outside is rounding."""
    random, gradients = torch.Generator().manual_seed(0), []
    u = torch.randn(4, 100, 16, generator=random)
    for runs_compiled in (operands.runs_compiled, lambda *arguments: False):
        monkeypatch.setattr(operands, "runs_compiled", runs_compiled)
        torch.manual_seed(0)
        layer = LiquidS4(16, 16, method="bilinear", dt_min=0.005, dt_max=0.3)
        layer(u)[0].square().mean().backward()
        gradients.append(layer.B.grad)
    close(gradients[0] / gradients[1].abs().max(), gradients[1] / gradients[1].abs().max(), 1e-5)


def test_weights_without_a_scale_are_of_the_equations_without_one() -> None:
    torch.manual_seed(0)
    layer, u = LiquidS4(CHANNELS, N_STATE).double(), 0.03 * signal()
    weights = {name: value for name, value in layer.state_dict().items() if name != "scale"}
    other = LiquidS4(CHANNELS, N_STATE, strength=1.0).double()
    other.load_state_dict(weights)
    assert (other.scale == 1).all()
    close(other(u)[0], equation_6(other, u), 1e-10)
    assert not torch.allclose(other(u)[0], layer(u)[0])


@pytest.mark.parametrize("system", ["diagonal", "dplr"])
def test_every_order_adds_to_the_full_recurrence(system: str) -> None:
    torch.manual_seed(0)
    full = LiquidS4(CHANNELS, N_STATE, system=system, method="bilinear", dt_min=0.05, dt_max=0.1).double()
    # Small enough that the bounds, which are others for the chain over a "dplr" system, stay inactive.
    u, dt = 0.4 * signal(), gaps()
    expected, errors = full(u, dt)[0], []
    for order in range(2, 7):
        truncated = LiquidS4(CHANNELS, N_STATE, system=system, method="bilinear", order=order).double()
        truncated.load_state_dict(full.state_dict())
        errors.append((truncated(u, dt)[0] - expected).abs().max().item())
    assert all(after < 0.3 * before for before, after in zip(errors, errors[1:], strict=False))


@pytest.mark.parametrize(("init", "rank"), [("legs", 1), ("legt", 2), ("lagt", 1), ("fourier", 1)])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_low_rank_system_starts_at_hippo(init: str, rank: int, bidirectional: bool) -> None:
    layer = LiquidS4(CHANNELS, 16, init=init, system="dplr", bidirectional=bidirectional)
    system = dense_system(layer.double(), 0)
    form = hippo.nplr(init, 16)
    # Pairs stand in the same order; the shift of measures that do not decay is at most 1e-3.
    expected = np.diag(form.Lambda) - form.P.T @ form.P.conj()
    assert np.abs(system.A - expected).max() < (1e-5 if init == "legs" else 1.01e-3)
    assert np.linalg.eigvals(system.A).real.max() < 1e-6
    np.testing.assert_allclose(system.B, 0.125 * form.B, rtol=1e-6, atol=1e-6)  # the strength
    assert layer.P.shape == (rank, CHANNELS, 8, 2)
    numbers = sum(parameter.numel() for parameter in layer.parameters())
    assert numbers == CHANNELS * (16 * (2 + (1 + bidirectional) + rank) + 2)


def test_number_of_parameters() -> None:
    for options in ({}, {"kernel": "pb"}):
        numbers = sum(parameter.numel() for parameter in LiquidS4(CHANNELS, 16, **options).parameters())
        assert numbers == CHANNELS * (3 * 16 + 2)


def test_order_of_the_kernels_is_two_by_default() -> None:
    assert LiquidS4(CHANNELS).order is None
    assert LiquidS4(CHANNELS, kernel="kb").order == LiquidS4(CHANNELS, kernel="pb").order == 2


def test_state_of_another_kernel_is_refused() -> None:
    kb, pb = LiquidS4(CHANNELS, N_STATE, kernel="kb"), LiquidS4(CHANNELS, N_STATE, kernel="pb", order=3)
    with pytest.raises(ValueError, match=r"^state.history must be .*\(2, 2, 5, 3\).*got .*\(2, 1, 5, 3\)"):
        pb(torch.zeros(2, 4, CHANNELS), None, kb.initial_state(2))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"method": "foh"}, "method"),
        ({"method": "tustin"}, "method"),
        ({"method": "zoh", "system": "dplr"}, "method"),
        ({"kernel": "cauchy"}, "kernel"),
        ({"kernel": "cauchy", "order": 2}, "kernel"),
        ({"order": 1}, "order"),
        ({"strength": 0.0}, "strength"),
        ({"strength": True}, "strength"),
        ({"order": True}, "order"),
        ({"order": 2.0, "kernel": "pb"}, "order"),
        ({"system": "dense"}, "system"),
        ({"real_part": "square"}, "real_part"),
        ({"d_state": 3}, "d_state"),
        ({"d_state": 3, "system": "dplr"}, "d_state"),
        ({"d_state": 0, "system": "dplr"}, "d_state"),
        ({"init": "hippo"}, "init"),
        ({"init": "lin", "system": "dplr"}, "init"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be"):
        LiquidS4(**{"d_model": CHANNELS, "d_state": N_STATE} | options)


@pytest.mark.parametrize("options", [{}, {"order": 2}, {"kernel": "kb", "order": 6}, {"kernel": "pb"}])
@pytest.mark.parametrize("system", ["diagonal", "dplr"])
@pytest.mark.parametrize("size", [1e15, 1e20, 1e30])
def test_inputs_whose_squares_overflow(size: float, system: str, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    layer = LiquidS4(4, 8, system=system, **options)
    u = size * torch.sign(torch.randn(1, 50, 4))
    for dt in (None, torch.rand(1, 50)):
        y, state = layer(u, dt)
        assert y.isfinite().all() and all(part.isfinite().all() for part in state)


@pytest.mark.parametrize("layer", [S4D, LiquidS4, LSSL])
def test_sizes_may_be_numpy_integers(layer: type) -> None:
    u = torch.randn(1, 5, 4)
    assert layer(np.int64(4), np.int32(8))(u)[0].shape == u.shape
