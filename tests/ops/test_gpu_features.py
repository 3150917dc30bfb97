"""The Triton kernel of the pooled scan, interpreted, against the reference in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from interpreted import pooled_by_kernels, pooling, pooling_kernels
from pooled_systems import TOLERANCE, assert_pooled, in_float64, operands
from torch._subclasses.fake_tensor import FakeTensorMode

from tsssm.features import StateSpaceFeatures
from tsssm.ops import features, pooled_scan, reference
from tsssm.ops import operands as dispatch
from tsssm.ops.gpu.features.states import follow
from tsssm.panel import Panel

pytestmark = pytest.mark.triton

FLOAT32 = TOLERANCE[torch.float32]


def pooled(given: dict[str, Any], samples: int = 4, readouts: int = 8, **kept: bool) -> torch.Tensor:
    with pooled_by_kernels(samples, readouts):
        return pooled_scan(**given, **kept)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize(
    ("lengths", "sizes", "kept"),
    [
        # Less than a tile, whole tiles and one sample more, one sample; several tiles of readouts.
        ((3, 8, 1, 5), {"modes": 3, "groups": 2, "readouts": 16}, {}),
        ((1,), {"modes": 1, "groups": 1, "readouts": 8, "channels": 1, "held": 1}, {}),
        ((9,), {"modes": 2, "groups": 1, "readouts": 24, "held": 0}, {"competition": False}),
        ((6, 2), {"modes": 2, "groups": 2, "readouts": 8, "channels": 4}, {"shares": False}),
    ],
)
def test_kernel_equals_reference(
    lengths: tuple[int, ...], sizes: dict[str, int], kept: dict[str, bool], dense: bool
) -> None:
    given = operands(lengths, dense=dense, **sizes, dtype=torch.float32)
    assert_pooled(pooled(given, **kept), given, **kept)


@pytest.mark.parametrize("dense", [False, True])
def test_tiles_that_a_device_sees(dense: bool) -> None:
    """As launches choose them, with fewer modes and readouts than a tile has, and more readouts."""
    for readouts in (8, 40):
        given = operands((17,), dense=dense, modes=3, groups=1, readouts=readouts, dtype=torch.float32)
        with pooled_by_kernels(pooling._SAMPLES, pooling._READOUTS, pooling._LEAST):
            assert_pooled(pooled_scan(**given), given)


@pytest.mark.parametrize("dense", [False, True])
def test_a_regular_grid(dense: bool) -> None:
    given = operands((7, 4), dense=dense, modes=2, groups=1, readouts=8, dtype=torch.float32)
    given |= {"steps": given["steps"][:1], "index": torch.zeros(11, dtype=torch.int32)}
    assert_pooled(pooled(given), given)


def test_channels_that_a_group_does_not_take() -> None:
    """Groups of some channels, of all and of none; what is not taken is not read."""
    given = operands((5,), modes=2, groups=3, readouts=8, channels=3, held=2, dtype=torch.float32)
    given["mix_u"] *= torch.tensor([[0.0, 1, 0], [1, 1, 1], [0, 0, 0]])
    given["mix_held"] *= torch.tensor([[0.0, 1], [0, 0], [0, 0]])
    found = pooled(given)
    assert_pooled(found, given)
    channel, share = pooling.used_channels(given["mix_u"])
    assert channel.shape == share.shape == (3, 3) and channel[0, 0] == 1 and share[0, 1:].tolist() == [0, 0]
    assert pooling.used_channels(given["mix_u"][[0, 2]])[0].shape == (2, 1)
    assert pooling.used_channels(torch.zeros(2, 0))[1].shape == (2, 0)


def test_a_slow_system_over_many_tiles() -> None:
    """The state passes from tile to tile: after 60 samples it still knows the first."""
    given = operands((60,), modes=1, groups=1, readouts=8, dtype=torch.float32)
    given |= {"steps": given["steps"][:1] * 1e-3, "index": torch.zeros(60, dtype=torch.int32)}
    found = pooled(given)
    assert_pooled(found, given)
    given["u"][:, 0] += 1000.0
    assert (pooled(given)[:, :, 2] - found[:, :, 2]).abs().max() > 100 * FLOAT32


def test_transitions_compose_in_any_order() -> None:
    """The interpreter goes through a tile from the left; a device composes what is composed already."""
    random = torch.Generator().manual_seed(0)
    maps = [tuple(torch.randn(4, 5, generator=random, dtype=torch.float64)) for _ in range(3)]
    f, g, h = maps
    after = follow.fn
    left = after(*after(*f, *g), *h)
    right = after(*f, *after(*g, *h))
    x = torch.randn(5, generator=random, dtype=torch.complex128)
    end = x
    for ar, ai, br, bi in maps:
        end = torch.complex(ar, ai) * end + torch.complex(br, bi)
    for ar, ai, br, bi in (left, right):
        torch.testing.assert_close(torch.complex(ar, ai) * x + torch.complex(br, bi), end)  # float64


def test_equal_readouts_all_count() -> None:
    given = operands((5,), groups=2, modes=2, readouts=8, dtype=torch.float32)
    given["u"], given["held"] = torch.zeros_like(given["u"]), torch.zeros_like(given["held"])
    given["weight"] = torch.full((5,), 0.25)
    given["thresholds"][0, :, 0] = 0.0  # equal is not above
    found = pooled(given)
    assert torch.equal(found[0, :, :2], 1.25 * (given["thresholds"] < 0).float())
    assert not found[:, :, 2].any() and (found[:, :, 3] == 1.25).all()


def test_a_series_without_samples() -> None:
    """The public scan refuses it; the kernel has nothing to add."""
    given = operands((4, 3), groups=1, modes=2, readouts=8, dtype=torch.float32)
    given["offsets"] = torch.tensor([0, 4, 4, 7])
    with pytest.raises(ValueError, match="offsets must increase"):
        pooled(given)
    with pooled_by_kernels():
        found = pooling_kernels.pooled_scan(*given.values(), 8, True, True, 1)
    assert not found[1].any()
    expected = reference.pooled_scan(*in_float64(given).values(), 8, True, True)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=FLOAT32)


@pytest.mark.parametrize("dense", [False, True])
def test_the_same_bits_again_and_whatever_the_other_series(dense: bool) -> None:
    given = operands((6, 5), dense=dense, groups=1, modes=2, readouts=8, dtype=torch.float32)
    both = pooled(given)
    assert torch.equal(pooled(given), both)
    alone = {name: given[name][..., 6:] for name in ("u", "held", "index", "weight")}
    assert torch.equal(pooled({**given, **alone, "offsets": torch.tensor([0, 5])})[0], both[1])


def test_memory_layout_does_not_matter() -> None:
    given = operands((5, 2), groups=2, modes=3, readouts=8, dtype=torch.float32)
    odd = {name: t.T.contiguous().T if t.ndim == 2 else t for name, t in given.items()}
    odd |= {"index": given["index"].repeat(2, 1).T[:, 0], "A": given["A"].conj().resolve_conj().conj()}
    odd["C"] = given["C"].transpose(1, 2).contiguous().transpose(1, 2)
    odd["thresholds"] = given["thresholds"].flip(1).contiguous().flip(1)
    assert not odd["u"].is_contiguous() and not odd["C"].is_contiguous()
    assert torch.equal(pooled(odd), pooled(given))


@pytest.mark.parametrize("basis", ["diagonal", "legt"])
def test_features_of_irregular_series_with_missing_values(
    basis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the transformer computes by the kernel, and without it."""
    rng = np.random.default_rng(0)
    times = [np.sort(rng.uniform(0, 6, n)) for n in (6, 4)]
    series = [rng.normal(size=(2, len(t))) for t in times]
    series[0][1, 2:4] = np.nan
    panel = Panel.from_arrays(series, times)
    sizes = {"n_features": 32, "basis": basis, "n_scales": 1, "pooling": ("ppv", "competition")}
    with monkeypatch.context() as patch:
        patch.setattr(features, "runs_compiled", lambda *_, **__: False)
        fitted = StateSpaceFeatures(**sizes, normalize="auto", seed=0).fit(panel)
        expected = fitted.transform(panel)
    with pooled_by_kernels(samples=16):
        found = fitted.transform(panel)
    assert found.any() and found.dtype == np.float32
    # Half of the features are roots, whose error is that of the squares where they are small.
    np.testing.assert_allclose(found**2, expected**2, rtol=0, atol=FLOAT32)


# ----------------------------------------------------------------------------------------- who is called when


def test_cuda_tensors_go_to_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_HAS_TRITON", True)
    with FakeTensorMode():
        u = torch.empty(2, 20, device="cuda")
        assert dispatch.backend("features", u.device) is pooling_kernels
        assert dispatch.runs_compiled(u, on_gpu=True) and dispatch.has_kernels(u.device)
        assert not dispatch.runs_compiled(u.double(), on_gpu=True)
        monkeypatch.setattr(dispatch, "_HAS_TRITON", False)
        assert not dispatch.runs_compiled(u, on_gpu=True) and not dispatch.has_kernels(u.device)
    assert dispatch.has_kernels(torch.device("cpu")) and not dispatch.has_kernels(torch.device("meta"))


@pytest.mark.parametrize(("modes", "goes"), [(64, True), (65, False)])
def test_systems_too_large_for_the_registers_go_to_plain_pytorch(
    modes: int, goes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(features, "runs_compiled", lambda u, on_gpu: asked.append(on_gpu))
    pooled_scan(**operands((2,), modes=modes, groups=1, readouts=8, dtype=torch.float32))
    assert asked == [goes]
