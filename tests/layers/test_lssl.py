"""LSSL: the layer contract, and what is its own. Float64 unless a test says otherwise."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from contract import BATCH, CHANNELS, N_STATE, LayerContract, Make, close, gaps, maker, signal
from lssl_variants import FIXED, TRAINED
from module_contract import ModuleContract
from scipy.special import erf

from tsssm import hippo
from tsssm.layers import LSSL

LAYERS = [
    maker(LSSL),
    maker(LSSL, measure="legt", method=0.3, shared=True),
    maker(LSSL, measure="fourier", method="backward-euler", train_B=False),
    maker(LSSL, measure="lagt", method="zoh", train_dt=False),
    maker(LSSL, **FIXED),
    maker(LSSL, measure="legt", method="backward-euler", train_A=False, train_B=False),
    maker(LSSL, measure="lagt", method=0.3, train_A=False, shared=True),
    maker(LSSL, measure="fourier", method="zoh", **FIXED),
]
READOUTS = [maker(LSSL, n_readouts=3), maker(LSSL, n_readouts=2, **FIXED)]
MEASURES = pytest.mark.parametrize("measure", hippo.MEASURES)


@pytest.mark.parametrize("make", LAYERS)
class TestContract(LayerContract):
    pass


# A scan by tridiagonal solves, by dense matrices and in the low-rank form, and the map of several readouts.
@pytest.mark.parametrize("make", [LAYERS[0], LAYERS[3], LAYERS[4], READOUTS[0]])
class TestModule(ModuleContract):
    def test_an_exported_layer_takes_other_lengths(self, make: Make) -> None:
        if make(True).method == "zoh":
            pytest.skip("dense powers are doubled in a Python loop, which export unrolls")
        super().test_an_exported_layer_takes_other_lengths(make)


@pytest.mark.parametrize("make", READOUTS)
class TestSeveralReadouts(LayerContract):
    """With more than one readout the layer ends in a nonlinear map, which is tested by itself below."""

    test_equals_brute_force = None
    test_sequence_equals_convolution = None
    test_one_sample = None


# The system and its class.


@MEASURES
@pytest.mark.parametrize("d_state", [1, 2, 5, 8, 64])
@pytest.mark.usefixtures("float64")
def test_trained_system_starts_as_the_hippo_matrix(measure: str, d_state: int) -> None:
    """To 1e-8, and by hand from the parameters: the class is A = P (D + T^-1) Q."""
    layer = LSSL(2, d_state, measure=measure)
    p = {name: value[..., 1, :].detach().numpy() for name, value in layer.named_parameters() if "A_" in name}
    T = np.diag(p["A_T"][0][1:], -1) + np.diag(p["A_T"][1]) + np.diag(p["A_T"][2][:-1], 1)
    inner = np.diag(p["A_D"]) + np.linalg.inv(T)
    by_hand = np.exp(p["A_log_P"])[:, None] * inner * np.exp(p["A_log_Q"])
    A, B = (value[1].detach().numpy() for value in layer.transition())
    expected, vector = hippo.transition(measure, layer.n_modes)
    V = hippo.low_recurrence(measure, layer.n_modes).V
    np.testing.assert_allclose(V @ by_hand @ V.T, expected, rtol=0, atol=1e-8)
    np.testing.assert_allclose(V @ A @ V.T, expected, rtol=0, atol=1e-8)
    np.testing.assert_allclose(V @ B, vector, rtol=0, atol=1e-8)


def test_the_state_that_fourier_leaves_out_is_not_missed() -> None:
    even, odd = (hippo.transition("fourier", n) for n in (6, 5))
    # The states are c_0, s_0, c_1, ..., and s_0 is the one left out.
    kept = [0, 2, 3, 4, 5]
    np.testing.assert_array_equal(even[0][np.ix_(kept, kept)], odd[0])
    assert not even[0][1].any() and not even[0][:, 1].any() and even[1][1] == 0
    assert LSSL(2, 6, measure="fourier").n_modes == LSSL(2, 5, measure="fourier").n_modes == 5


@MEASURES
def test_training_keeps_the_layer_finite(measure: str) -> None:
    """On the running sum, which rewards unstable systems, at ten times a usual learning rate; in float32.

    Without the bounds the loss of each of these is infinite or not a number within twenty steps.
    """
    torch.manual_seed(0)
    layer = LSSL(4, 16, measure=measure, dt_max=0.5)
    u, dt = torch.randn(8, 100, 4), 2 * torch.rand(8, 100)
    system = [{"params": list(layer.system_parameters()), "lr": 0.1}, {"params": [layer.C, layer.D]}]
    optimiser = torch.optim.Adam(system, lr=1e-2)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = (layer(u, dt, need_state=False)[0] - u.cumsum(1)).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.isfinite(losses).all() and losses[-1] < losses[0] / 2
    # A state left alone decays in the norm that the bounds are about, whatever the steps are.
    layer = layer.double()
    x = torch.randn(3, 4, layer.n_modes, dtype=torch.float64)
    ratio = torch.exp(layer.A_log_Q - layer.A_log_P)
    before = (ratio * x.square()).sum(-1)
    for gap in (0.01, 1.0, 1000.0):
        _, x = layer(torch.zeros(3, 1, 4, dtype=x.dtype), torch.full((3, 1), gap, dtype=x.dtype), x)
        after = (ratio * x.square()).sum(-1)
        assert (after <= before * (1 + 1e-12)).all()
        before = after


# Three views of one function.

VIEWS = [{}, {"measure": "fourier", "shared": True}, {"train_A": False}, {"measure": "legt", **FIXED}]


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("method", ["bilinear", "backward-euler", 0.7, "zoh"])
@pytest.mark.parametrize("options", VIEWS)
def test_views_agree(
    options: dict[str, object], method: str | float, bidirectional: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Convolution, scan on the regular grid and scan of equal gaps, with all gradients; to 1e-9."""
    torch.manual_seed(0)
    layer = LSSL(3, 16, method=method, bidirectional=bidirectional, n_readouts=2, **options).double()
    u, ones = signal(50)[..., :3], torch.ones(BATCH, 50, dtype=torch.float64)
    results = []
    for dt, convolves in ((None, True), (None, False), (ones, False)):
        monkeypatch.setattr(layer, "_convolves", lambda device, value=convolves: value)
        inputs = u.clone().requires_grad_()
        y, state = layer(inputs, dt)
        wanted = [inputs, *layer.parameters()]
        gradients = torch.autograd.grad(y.square().sum() + state.sin().sum(), wanted)
        results.append([y, state, *gradients])
    for other in results[1:]:
        for found, expected in zip(other, results[0], strict=True):
            close(found, expected, 1e-9)


@TRAINED
def test_views_agree_for_a_long_series_and_a_large_state(options: dict[str, object]) -> None:
    """Where the non-normal LegS makes powers of its matrix grow before they decay."""
    torch.manual_seed(0)
    layer = LSSL(3, 64, **options).double()
    u = torch.randn(1, 300, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scanned, state = layer(u)
    # And in float32, in which the system of a fixed layer is not rounded.
    single, _ = copy.deepcopy(layer).float()(u.float())
    layer._convolves = lambda device: True
    convolved, same = layer(u)
    close(scanned, convolved, 1e-9)
    close(state, same, 1e-9)
    close(single.double(), convolved, 1e-5)


@TRAINED
def test_several_readouts_are_mixed_at_each_position(options: dict[str, object]) -> None:
    """GELU of M single readouts and a linear map, by SciPy."""
    torch.manual_seed(0)
    layer = LSSL(3, 4, n_readouts=2, **options).double()
    single = LSSL(3, 4, **options).double()
    u, dt = signal()[..., :3], gaps()
    features = []
    for m in range(2):
        state = layer.state_dict() | {"C": layer.C[:, m : m + 1], "D": layer.D[m : m + 1]}
        single.load_state_dict({name: state[name] for name in single.state_dict()})
        y = single(u, dt)[0].detach().numpy()
        features.append(y * (1 + erf(y / math.sqrt(2))) / 2)
    weight, bias = (value.detach().numpy() for value in (layer.mix.weight, layer.mix.bias))
    assert weight.shape == (3, 6)
    expected = np.concatenate(features, axis=2) @ weight.T + bias
    close(layer(u, dt)[0], torch.as_tensor(expected))


# Options.


def test_fixed_system_is_fixed_and_keeps_its_precision() -> None:
    layer = LSSL(CHANNELS, N_STATE, **FIXED)
    assert {name for name, _ in layer.named_parameters()} == {"C", "D"}
    assert list(layer.system_parameters()) == []
    for convert in (torch.nn.Module.half, torch.nn.Module.float, lambda m: m.to(torch.float32)):
        converted = convert(copy.deepcopy(layer))
        for name, buffer in layer.named_buffers():
            assert torch.equal(converted.get_buffer(name), buffer), name
    A, B = hippo.transition("legs", N_STATE)
    assert torch.equal(layer.A, torch.as_tensor(A)) and torch.equal(layer.B, torch.as_tensor(B))


CLASS = {"A_log_P", "A_D", "A_log_Q", "A_T"}


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {*CLASS, "B", "log_dt"}),
        ({"train_B": False}, {*CLASS, "log_dt"}),
        ({"train_dt": False}, {*CLASS, "B"}),
        ({"train_A": False}, {"B", "log_dt"}),
        ({"train_A": False, "train_B": False}, {"log_dt"}),
    ],
)
@pytest.mark.parametrize("shared", [False, True])
def test_what_is_trained(options: dict[str, bool], names: set[str], shared: bool) -> None:
    layer = LSSL(CHANNELS, N_STATE, shared=shared, **options)
    found = dict(layer.named_parameters())
    assert set(layer.system_names) == names and found.keys() == names | {"C", "D"}
    rows = 1 if shared else CHANNELS
    for name in names - {"log_dt"}:
        assert found[name].shape[-2:] == (rows, N_STATE), name


def test_number_of_parameters() -> None:
    """As the docstring counts them; T has two entries more, which are not used."""
    count = sum(parameter.numel() for parameter in LSSL(5, 6, n_readouts=2, bidirectional=True).parameters())
    assert count - 2 * 5 == 5 * (6 * 6 - 2) + 5 * 6 + 5 + 2 * 2 * 5 * 6 + 2 * 5 + (2 * 5 + 1) * 5


@pytest.mark.parametrize("options", [{}, FIXED, {"n_readouts": 3}])
def test_readouts_start_standard_normal(options: dict[str, object]) -> None:
    """As in the authors' code: the response to white noise has about its size, whatever the order."""
    torch.manual_seed(0)
    layer = LSSL(64, 64, **options)
    assert layer.C.detach().std() == pytest.approx(1, rel=0.05)
    with torch.no_grad():
        layer.D.zero_()
        layer.mix = None
        assert 0.5 < layer(torch.randn(2, 300, 64))[0].std() < 2


def test_timescales_are_spread_geometrically() -> None:
    layer = LSSL(CHANNELS, N_STATE, dt_min=1e-3, dt_max=1e-1, train_dt=False)
    expected = torch.tensor([10.0 ** (-3 + k / 2) for k in range(5)], dtype=torch.float64)
    torch.testing.assert_close(layer.log_dt.exp(), expected)


@TRAINED
def test_state_of_another_size_is_refused(options: dict[str, object]) -> None:
    layer = LSSL(CHANNELS, N_STATE, **options)
    with pytest.raises(ValueError, match=r"^state must be \(3, 5, 6\); got \(3, 5, 7\)"):
        layer(signal().float(), gaps().float(), torch.zeros(3, CHANNELS, N_STATE + 1))


@TRAINED
@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"measure": "chebyshev"}, "measure"),
        ({"method": "foh"}, "method"),
        ({"method": -0.5}, "method"),
        ({"d_state": 0}, "d_state"),
        ({"d_model": 2.5}, "d_model"),
        ({"n_readouts": 0}, "n_readouts"),
        ({"n_readouts": True}, "n_readouts"),
        ({"dt_min": -1.0}, "dt_min"),
        ({"dt_max": 1e-4}, "dt_max"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], wrong: dict[str, object], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        LSSL(**{"d_model": CHANNELS, "d_state": N_STATE} | options | wrong)


@pytest.mark.parametrize("measure", hippo.MEASURES)
def test_euler_steps_of_a_trained_system(measure: str) -> None:
    """At alpha = 0 the pivots of the tridiagonal solve may vanish, above all those of a large "fourier"."""
    layer = LSSL(2, 64, measure=measure, method="euler", dt_min=1e-4, dt_max=2e-4).double()
    A, B = layer.transition()
    u = torch.randn(1, 6, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    dt = torch.tensor([[1.0, 0.5, 2.0, 0.0, 1.0, 0.1]], dtype=torch.float64)
    for gaps_given in (None, dt):
        x = torch.zeros(1, 2, layer.n_modes, dtype=u.dtype)
        for k in range(6):
            s = layer.log_dt.exp()[:, None] * (1 if gaps_given is None else dt[0, k])
            x = x + s * (torch.einsum("hij,bhj->bhi", A, x) + B * u[:, k, :, None])
        close(layer(u, gaps_given)[1], x, 1e-9)
