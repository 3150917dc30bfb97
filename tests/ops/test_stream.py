"""The compiled step of a whole network against the same network in float64, layer by layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tsssm.backbone import BACKBONES, Backbone
from tsssm.streaming._compiled import CompiledNetwork, has_compiled_form
from tsssm.streaming._layerwise import LayerwiseNetwork

LENGTH, BATCH = 40, 3
# float32, relative to the largest output.
TOLERANCE = 1e-5


def problem(**options: Any) -> tuple[Backbone, np.ndarray, np.ndarray]:
    """A network, inputs (L, batch, 3) and gaps (L, batch): repeated, zero, absent and very long ones."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Backbone(3, 4, **{"n_layers": 2, "d_model": 8, "d_state": 4, "bidirectional": False, **options})
    rng = np.random.default_rng(0)
    gaps = rng.choice([0.0, 1.0, 1.0, 0.25, 3.0, 1e4], size=(LENGTH, BATCH))
    gaps[rng.random(gaps.shape) < 0.2] = -1.0
    gaps[0] = [1.0, 1.0, -1.0]
    gaps[1, 2] = 1.0
    u = rng.normal(size=(LENGTH, BATCH, 3))
    return net.eval(), u.astype(np.float32), gaps.astype(np.float32)


def outputs(network: Any, u: np.ndarray, gaps: np.ndarray, pieces: int = 1) -> np.ndarray:
    """Outputs (L, batch, 4) of a network that is given the samples in so many pieces."""
    state = network.initial_state(BATCH)
    parts = []
    for u_k, gaps_k in zip(np.array_split(u, pieces), np.array_split(gaps, pieces), strict=True):
        y = np.empty((len(u_k), BATCH, 4))
        network.advance(state, u_k, gaps_k, y)
        parts.append(y)
    return np.concatenate(parts)


def check(net: Backbone, u: np.ndarray, gaps: np.ndarray) -> None:
    assert has_compiled_form(net)
    got = outputs(CompiledNetwork(net), u, gaps, pieces=LENGTH)
    expected = outputs(LayerwiseNetwork(net.double()), u, gaps)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


@pytest.mark.parametrize(
    "backbone, method",
    [(name, method) for name in ("s4d", "s5", "linoss", "liquid-s4") for method in BACKBONES[name].methods],
)
def test_every_rule(backbone: str, method: str) -> None:
    check(*problem(backbone=backbone, discretization=method))


@pytest.mark.parametrize("backbone", ["s4d", "s5", "liquid-s4"])
@pytest.mark.parametrize("d_model, d_state", [(1, 2), (16, 16), (17, 10), (33, 4)])
def test_sizes_around_a_register(backbone: str, d_model: int, d_state: int) -> None:
    check(*problem(backbone=backbone, d_model=d_model, d_state=d_state, norm="layer"))


@pytest.mark.parametrize("pooling", ["mean", "max", "last"])
def test_poolings(pooling: str) -> None:
    check(*problem(pooling=pooling, n_layers=1))


def test_the_pieces_do_not_matter() -> None:
    net, u, gaps = problem(backbone="s4d", discretization="foh")
    network = CompiledNetwork(net)
    whole = outputs(network, u, gaps)
    for pieces in (3, LENGTH):
        assert np.array_equal(outputs(network, u, gaps, pieces), whole)
    assert np.array_equal(outputs(network.fork(), u, gaps), whole)


def test_a_series_without_a_sample_keeps_its_output() -> None:
    net, u, gaps = problem()
    y = outputs(CompiledNetwork(net), u, gaps)
    assert not y[0, 2].any()
    repeated = gaps[1:] < 0
    assert np.array_equal(y[1:][repeated], y[:-1][repeated])


def test_an_integrator() -> None:
    net, u, gaps = problem()
    with torch.no_grad():
        for block in net.blocks:
            block.layer.A_real.fill_(-200.0)  # whose exponential is 0 in float32
            block.layer.A_imag.zero_()
    check(net, u, np.minimum(gaps, 3.0))


@pytest.mark.parametrize("method", BACKBONES["liquid-s4"].methods)
def test_liquid_terms_of_any_size_stay_bounded(method: str) -> None:
    net, u, gaps = problem(backbone="liquid-s4", discretization=method, norm="none", n_layers=1)
    for size in (1e2, 1e6):
        check(net.float(), u * np.float32(size), gaps)


def test_what_has_no_compiled_form() -> None:
    assert not has_compiled_form(problem(backbone="s4")[0])
    assert not has_compiled_form(problem(backbone="liquid-s4-kb")[0])
    assert not has_compiled_form(problem()[0].double())
    mixed, other = problem()[0], problem(d_state=8)[0]
    mixed.blocks[1] = other.blocks[1]
    assert not has_compiled_form(mixed)
