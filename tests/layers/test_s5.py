"""S5: the layer contract, and what is its own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from contract import BATCH, CHANNELS, LENGTH, N_STATE, LayerContract, Make, close, gaps, maker, signal
from module_contract import ModuleContract
from scipy.linalg import block_diag, expm, solve

from tsssm.hippo import nplr
from tsssm.layers import S5

LAYERS = [
    maker(S5),
    maker(S5, n_blocks=2, method="foh"),
    maker(S5, n_blocks=2, method=0.7),
]


class SharedConvolution:
    """Of the layers whose channels share a state."""

    def test_sequence_equals_convolution(self, make: Make) -> None:
        """With a kernel from each channel to each channel."""
        layer, u = make(False), signal()
        impulses = torch.zeros(CHANNELS, LENGTH, CHANNELS, dtype=u.dtype)
        impulses[torch.arange(CHANNELS), 0, torch.arange(CHANNELS)] = 1
        kernels = layer(impulses)[0].detach().numpy()
        y, _ = layer(u)
        for series in range(BATCH):
            for h in range(CHANNELS):
                expected = sum(
                    np.convolve(u[series, :, source].numpy(), kernels[source, :, h])[:LENGTH]
                    for source in range(CHANNELS)
                )
                close(y[series, :, h], torch.as_tensor(expected))


@pytest.mark.parametrize("make", LAYERS)
class TestContract(SharedConvolution, LayerContract):
    pass


@pytest.mark.parametrize("make", LAYERS[1:2])
class TestModule(ModuleContract):
    pass


@pytest.mark.parametrize("method", ["zoh", "bilinear"])
def test_equals_the_real_block_diagonal_system(method: str) -> None:
    """The modes stand for a real system of J N dimensions in HiPPO's coordinates, after training too."""
    layer = maker(S5, n_blocks=2, method=method).values[0](False)
    p = {name: value.detach().numpy() for name, value in layer.state_dict().items()}
    half = N_STATE // 2
    V = block_diag(*[nplr("legs", N_STATE).V[:, :half]] * 2)
    modal_A = np.exp(p["log_dt"]) * (-np.exp(p["A_real"]) + 1j * p["A_imag"])
    modal_B = np.exp(p["log_dt"])[:, None] * (p["B"][..., 0] + 1j * p["B"][..., 1])
    # Delta is folded into A and B, which have one a mode.
    A, B = 2 * (V * modal_A @ V.conj().T).real, 2 * (V @ modal_B).real
    C = 2 * ((p["C"][0, ..., 0] + 1j * p["C"][0, ..., 1]) @ V.conj().T).real
    u, dt = signal(), gaps()
    y, state = layer(u, dt)
    for series in range(BATCH):
        x = np.zeros(2 * N_STATE)
        for k in range(LENGTH):
            s, u_k = dt[series, k].item(), u[series, k].numpy()
            if method == "zoh":
                x = expm(s * A) @ x + solve(A, (expm(s * A) - np.eye(len(A))) @ B @ u_k)
            else:
                x = solve(np.eye(len(A)) - s / 2 * A, x + s / 2 * A @ x + s * B @ u_k)
            close(y[series, k], torch.as_tensor(C @ x + p["D"] * u_k))
        close(state.x[series], torch.as_tensor(V.conj().T @ x))


def test_initial_system_is_real_and_blocks_are_hippo() -> None:
    torch.manual_seed(0)
    H, N, J = 300, 16, 2
    layer = S5(H, N, n_blocks=J, bidirectional=True, dt_min=0.01, dt_max=0.1)
    form = nplr("legs", N)
    half = J * N // 2
    expected = torch.as_tensor(np.tile(form.Lambda[: N // 2], J), dtype=torch.complex64)
    torch.testing.assert_close(layer.eigenvalues(), expected)
    V = block_diag(*[form.V[:, : N // 2]] * J)
    # In HiPPO's coordinates B and C are real of the stated variance; 6 standard errors.
    modal_B, modal_C = (torch.view_as_complex(t.detach()).numpy() for t in (layer.B, layer.C))
    for real, variance in ((2 * (V @ modal_B).real, 1 / H), (2 * (modal_C @ V.conj().T).real, 1 / (J * N))):
        assert real.mean() == pytest.approx(0, abs=6 * math.sqrt(variance / real.size))
        assert real.var() == pytest.approx(variance, rel=6 * math.sqrt(2 / real.size))
    # V^* B of a real B: projecting to the real coordinates and back changes nothing.
    np.testing.assert_allclose(V.conj().T @ (2 * (V @ modal_B).real), modal_B, atol=1e-5)
    np.testing.assert_allclose(2 * (modal_C @ V.conj().T).real @ V, modal_C, atol=1e-5)
    step = layer.log_dt.exp()
    assert step.shape == (half,) and 0.01 <= step.min() < step.max() <= 0.1


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("H", "N", "J"), [(7, 4, 1), (3, 6, 5)])
def test_number_of_parameters(H: int, N: int, J: int, bidirectional: bool) -> None:
    P, directions = J * N // 2, 1 + bidirectional
    layer = S5(H, N, n_blocks=J, bidirectional=bidirectional)
    assert sum(p.numel() for p in layer.parameters()) == 3 * P + 2 * P * H * (1 + directions) + H


def test_sizes_may_be_numpy_integers() -> None:
    layer = S5(np.int64(4), np.int32(8), n_blocks=np.int64(2))
    assert layer(torch.randn(1, 5, 4))[0].shape == (1, 5, 4)


def test_channels_share_the_state() -> None:
    layer = maker(S5).values[0](False)
    u = signal()
    changed = u.clone()
    changed[:, 0, 2] += 1
    difference = layer(changed)[0] - layer(u)[0]
    assert (difference[:, 1:].abs().amax(dim=(0, 1)) > 1e-6).all()


def test_state_of_another_shape_or_precision_is_refused() -> None:
    layer = S5(CHANNELS, N_STATE)
    u = signal().float()
    with pytest.raises(
        ValueError, match=r"^state.x must be torch.complex64 \(3, 3\) .* got torch.complex128"
    ):
        layer(u, None, S5(CHANNELS, N_STATE).double().initial_state(BATCH))
    with pytest.raises(ValueError, match=r"^state.x must be .* \(3, 3\) .* got torch.complex64 \(3, 6\)"):
        layer(u, None, S5(CHANNELS, N_STATE, n_blocks=2).initial_state(BATCH))
    with pytest.raises(ValueError, match=r"^state.u must be .* \(3, 5\) .* got torch.float32 \(3, 4\)"):
        layer(u, None, S5(4, N_STATE).initial_state(BATCH))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"d_state": 5}, "d_state"),
        ({"d_state": 0}, "d_state"),
        ({"d_model": 0}, "d_model"),
        ({"n_blocks": 0}, "n_blocks"),
        ({"n_blocks": 1.5}, "n_blocks"),
        ({"n_blocks": True}, "n_blocks"),
        ({"method": "tustin"}, "method"),
        ({"method": 1.5}, "method"),
        ({"dt_min": 0.0}, "dt_min"),
        ({"dt_min": 0.2, "dt_max": 0.1}, "dt_min"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} "):
        S5(**{"d_model": CHANNELS, "d_state": N_STATE} | options)
