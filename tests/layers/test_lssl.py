"""LSSL: the layer contract, and what is its own. Float64 unless a test says otherwise."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from contract import BATCH, CHANNELS, N_STATE, LayerContract, close, gaps, maker, signal
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.signal import lfilter
from scipy.special import erf

from tsssm import hippo
from tsssm.layers import LSSL

FIXED = {"train_A": False, "train_B": False, "train_dt": False}
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
MEASURES = pytest.mark.parametrize("measure", hippo.MEASURES)
TRAINED = pytest.mark.parametrize("options", [{}, FIXED], ids=["trained", "fixed"])


def options_of(layer: LSSL) -> dict[str, object]:
    names = ("measure", "method", "train_A", "train_B", "train_dt", "shared", "n_readouts")
    return {name: getattr(layer, name) for name in names}


@pytest.mark.parametrize("make", LAYERS)
class TestContract(LayerContract):
    _options = staticmethod(options_of)


@pytest.mark.parametrize("make", [maker(LSSL, n_readouts=3), maker(LSSL, n_readouts=2, **FIXED)])
class TestSeveralReadouts(LayerContract):
    """With more than one readout the layer ends in a nonlinear map, which is tested by itself below."""

    _options = staticmethod(options_of)
    test_equals_brute_force = None
    test_sequence_equals_convolution = None
    test_one_sample = None


@pytest.fixture
def float64() -> Iterator[None]:
    """Parameters are made in float64, and not rounded to float32 first."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def reads_state(layer: LSSL) -> LSSL:
    """The layer with the first readout of each channel reading its first state, and no feedthrough."""
    with torch.no_grad():
        layer.C.zero_()[..., 0] = 1
        layer.D.zero_()
        layer.log_dt.zero_()
    return layer


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


@pytest.mark.usefixtures("float64")
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


def input_of_time(t: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.sin(3 * np.asarray(t)) + np.cos(np.asarray(t)) ** 2


def random_grid(samples: int, end: float, seed: int) -> NDArray[np.float64]:
    inside = np.random.default_rng(seed).uniform(0.5, 1.5, samples).cumsum()
    return np.concatenate([[0.0], end * inside / inside[-1]])


def state_at_the_end(layer: LSSL, times: NDArray[np.float64], at: float) -> NDArray[np.float64]:
    """From rest at times[0]; the input of each step is taken ``at`` this part of it."""
    dt = np.diff(times)
    u = torch.as_tensor(input_of_time(times[:-1] + at * dt))[None, :, None]
    return layer(u.expand(-1, -1, layer.d_model), torch.as_tensor(dt)[None])[1][0].detach().numpy()


@pytest.mark.parametrize("irregular", [False, True])
@pytest.mark.parametrize(
    ("method", "at", "order"), [("bilinear", 0.5, 2), ("backward-euler", 1, 1), ("zoh", 0.5, 2)]
)
@pytest.mark.parametrize("options", [{}, {"measure": "fourier"}, FIXED], ids=["trained", "fourier", "fixed"])
@pytest.mark.usefixtures("float64")
def test_converges_to_the_continuous_system(
    options: dict[str, object], method: str, at: float, order: int, irregular: bool
) -> None:
    """The error against solve_ivp falls as the step to the power of the order, within 20 %."""
    layer = reads_state(LSSL(1, 6, method=method, **options))
    A, B = (value[0].detach().numpy() for value in layer.transition())
    exact = solve_ivp(
        lambda t, x: A @ x + B * input_of_time(t), (0, 2), np.zeros(len(B)), "DOP853", rtol=1e-10, atol=1e-12
    ).y[:, -1]
    errors = []
    for samples in (200, 400, 800) if method != "zoh" or not irregular else (25, 50, 100):
        times = random_grid(samples, 2.0, 0) if irregular else np.linspace(0, 2, samples + 1)
        errors.append(np.abs(state_at_the_end(layer, times, at) - exact).max())
    found = math.log2(errors[0] / errors[-1]) / 2
    assert abs(found - order) < (0.4 if irregular else 0.2), errors


@pytest.mark.parametrize(("method", "at"), [("bilinear", 0.5), ("zoh", 0.5)])
@TRAINED
@pytest.mark.usefixtures("float64")
def test_states_of_two_random_grids_converge(options: dict[str, object], method: str, at: float) -> None:
    """To one another, at the second order of either grid."""
    layer = reads_state(LSSL(1, 6, method=method, **options))
    apart = []
    for samples in (16, 64):
        first, second = (state_at_the_end(layer, random_grid(samples, 2.0, seed), at) for seed in (1, 2))
        apart.append(np.abs(first - second).max())
    assert 0 < apart[1] < apart[0] / 8


# What the paper says about it.


def legendre_coefficients(polynomial: Callable[..., NDArray[np.float64]], count: int) -> NDArray[np.float64]:
    """Of a polynomial on [0, 1] in the orthonormal basis sqrt(2n+1) P_n(2v - 1), by Gauss quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    basis = np.polynomial.legendre.legvander(nodes, count - 1) * np.sqrt(2 * np.arange(count) + 1)
    return basis.T @ (weights / 2 * polynomial((nodes + 1) / 2))


@TRAINED
@pytest.mark.usefixtures("float64")
def test_legs_state_of_a_polynomial_is_its_legendre_coefficients(options: dict[str, object]) -> None:
    """LegS with the time log t, which is HiPPO's x' = (A x + B u) / t, remembers [0, t] evenly.

    Second order in the step: sixteen times the samples, 200 times the accuracy at least. The degree is 4, so
    that the states from 5 on must vanish.
    """
    layer = reads_state(LSSL(1, 8, method="bilinear", **options))
    p = np.polynomial.Polynomial([1.0, -2.0, 0.5, 3.0, -1.5])
    expected = legendre_coefficients(lambda v: p(2 * v), 8)
    errors = []
    for samples in (50, 800):
        clock = np.linspace(math.log(0.1), math.log(2.0), samples + 1)
        start = torch.as_tensor(legendre_coefficients(lambda v: p(0.1 * v), 8)).view(1, 1, 8)
        u = torch.as_tensor(p(np.exp((clock[1:] + clock[:-1]) / 2)))[None, :, None]
        state = layer(u, torch.as_tensor(np.diff(clock))[None], start)[1]
        errors.append(np.abs(state[0, 0].detach().numpy() - expected).max())
    assert errors[1] < 1e-4 and errors[1] < errors[0] / 200
    assert np.abs(expected[5:]).max() < 1e-12 < np.abs(expected[:5]).min()


@TRAINED
def test_gate_of_a_recurrent_network(options: dict[str, object]) -> None:
    """Lemma 3.1: A = -1, B = 1 by backward Euler with the step exp(z) is a gate sigmoid(z). To 1e-12."""
    layer = reads_state(LSSL(1, 1, method="backward-euler", **options).double())
    A, B = layer.transition()
    assert A.item() == -1 and B.item() == 1
    random = np.random.default_rng(0)
    z, u = random.normal(scale=3, size=30), random.normal(size=30)
    y = layer(torch.as_tensor(u)[None, :, None], torch.as_tensor(np.exp(z))[None])[0][0, :, 0]
    x = 0.0
    for k in range(30):
        gate = 1 / (1 + np.exp(-z[k]))
        x = (1 - gate) * x + gate * u[k]
        assert y[k].item() == pytest.approx(x, abs=1e-12)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.usefixtures("float64")
def test_reproduces_any_finite_impulse_response(shared: bool) -> None:
    """Section 3: two channels of N states are two given filters of N taps, by the bilinear transform.

    A_bar is the shift S for A = 2 (S - I)(S + I)^-1 = 4 (1/2 - (S + I)^-1) and a step of 1, which lies in the
    class, within the bounds of LagT: D = 1/2, T = -(S + I), P Q = 4. C then holds the taps. To 1e-10.
    """
    taps = np.random.default_rng(0).normal(size=(2, 9))
    layer = LSSL(2, 9, measure="lagt", shared=shared)
    S = np.eye(9, k=-1)
    with torch.no_grad():
        layer.A_log_P.fill_(math.log(2))
        layer.A_log_Q.fill_(math.log(2))
        layer.A_T[0], layer.A_T[1] = -1, -1
        layer.log_dt.zero_()
        layer.D.zero_()
        A = layer.transition()[0][0].numpy()
        np.testing.assert_allclose(A, 2 * (S - np.eye(9)) @ np.linalg.inv(S + np.eye(9)), atol=1e-12)
        # B_bar = (I - A / 2)^-1 B is the first unit vector.
        layer.B[:] = torch.as_tensor((np.eye(9) - A / 2)[:, 0])
        layer.C[0, 0] = torch.as_tensor(taps)
    u = signal(30)[..., :2]
    scanned, _ = layer(u)
    layer._convolves = lambda device: True
    for y in (scanned, layer(u)[0], layer(u, torch.ones(BATCH, 30))[0]):
        for h in range(2):
            close(y[..., h], torch.as_tensor(lfilter(taps[h], 1.0, u[..., h].numpy(), axis=1)))


@TRAINED
def test_halving_a_held_step_changes_nothing(options: dict[str, object]) -> None:
    """Zero-order hold: one step is two halves with the same input. To 1e-10."""
    layer = LSSL(CHANNELS, N_STATE, method="zoh", **options).double()
    u, dt = signal(), gaps()
    y, state = layer(u, dt)
    z, same = layer(u.repeat_interleave(2, 1), dt.repeat_interleave(2, 1) / 2)
    close(z[:, 1::2], y)
    close(same, state)


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
