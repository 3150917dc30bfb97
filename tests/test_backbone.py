from __future__ import annotations

from itertools import cycle, product

import pytest
import torch
from torch.nn import functional as F

from tsssm.backbone import BACKBONES, NORMS, POOLINGS, Backbone, TimeBatchNorm
from tsssm.layers import SSMLayer

# Every norm with every pooling over one layer, and every other layer with one of each in turn.
NETWORKS = [
    *product(["s4d"], NORMS, POOLINGS),
    *zip((name for name in BACKBONES if name != "s4d"), cycle(NORMS), cycle(POOLINGS), strict=False),
]
# float32 through two layers, in two shapes of the same products.
FLOAT32 = {"rtol": 1e-4, "atol": 2e-5}


def small(**options):
    torch.manual_seed(0)
    defaults = {"n_layers": 2, "d_model": 4, "d_state": 4, "dt_min": 0.05, "dt_max": 0.5}
    return Backbone(3, 2, **{**defaults, **options})


def gaps(batch, length):
    return torch.rand(batch, length) + 0.5


@pytest.mark.parametrize(("backbone", "norm", "pooling"), NETWORKS)
def test_a_padded_batch_gives_each_series_its_own_output(backbone, norm, pooling):
    net = small(backbone=backbone, norm=norm, pooling=pooling).eval()
    lengths = [7, 1, 4]
    u, dt = torch.randn(3, 7, 3), gaps(3, 7)
    for row, length in enumerate(lengths):
        dt[row, length:] = 0
    together = net(u, dt)  # what stands in the padding is noise on purpose
    alone = torch.cat(
        [net(u[i : i + 1, :length], dt[i : i + 1, :length]) for i, length in enumerate(lengths)]
    )
    torch.testing.assert_close(together, alone, **FLOAT32)


@pytest.mark.parametrize(
    ("backbone", "pooling"), [*product(BACKBONES, ["mean"]), ("s4d", "max"), ("s4d", "last")]
)
def test_no_gaps_mean_gaps_of_one(backbone, pooling):
    net = small(backbone=backbone, pooling=pooling).eval()
    u = torch.randn(2, 6, 3)
    torch.testing.assert_close(net(u), net(u, torch.ones(2, 6)), **FLOAT32)


@pytest.mark.parametrize(("backbone", "norm", "pooling"), NETWORKS)
def test_gradients_reach_every_parameter(backbone, norm, pooling):
    net = small(backbone=backbone, norm=norm, pooling=pooling, dropout=0.0)
    net(torch.randn(4, 6, 3), gaps(4, 6)).square().sum().backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_constant_gaps_are_longer_timescales():
    net = small(backbone="s4d").eval()
    u = torch.randn(2, 6, 3)
    irregular = net(u, torch.full((2, 6), 2.5))
    with torch.no_grad():
        for block in net.blocks:
            block.layer.log_dt += torch.log(torch.tensor(2.5))
    torch.testing.assert_close(irregular, net(u), **FLOAT32)


def test_mean_pooling_weighs_samples_by_the_time_they_stand_for():
    h = torch.tensor([[[1.0], [2.0], [4.0], [9.0]]], dtype=torch.float64)
    dt = torch.tensor([[1.0, 3.0, 0.5, 0.0]], dtype=torch.float64)
    # half of the gap on either side; the gap after the last sample is the first gap; then padding
    weights = torch.tensor([(1 + 3) / 2, (3 + 0.5) / 2, (0.5 + 1) / 2, 0.0], dtype=torch.float64)
    expected = (weights * h[0, :, 0]).sum() / weights.sum()
    torch.testing.assert_close(POOLINGS["mean"](h, dt)[0, 0], expected)
    assert POOLINGS["mean"](h, torch.ones(1, 4, dtype=torch.float64)).item() == 4.0


@pytest.mark.parametrize("name", POOLINGS)
def test_a_summary_piece_by_piece_is_that_of_the_whole(name):
    """Up to every sample, among them such as have the time stamp of the one before."""
    h = torch.randn(2, 9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    dt = torch.tensor([[1, 0.5, 0, 2, 1, 3, 0.1, 1, 0], [1, 1, 1, 0, 0, 0.3, 2, 2, 1]], dtype=torch.float64)
    pooling, pieces = POOLINGS[name], []
    state = pooling.start(h[:, 0])
    for piece in (slice(0, 1), slice(1, 4), slice(4, 9)):
        summaries, state = pooling.advance(h[:, piece], dt[:, piece], state)
        pieces.append(summaries)
    found = torch.cat(pieces, dim=1)
    for k in range(9):
        torch.testing.assert_close(found[:, k], pooling(h[:, : k + 1], dt[:, : k + 1]))


def test_mean_pooling_does_not_lean_towards_dense_stretches():
    # A signal that is 1 for half of the time and 0 for the other half, the ones sampled ten times as densely.
    dt = torch.cat([torch.full((100,), 0.1), torch.full((10,), 1.0)])[None]
    h = torch.cat([torch.ones(100), torch.zeros(10)])[None, :, None]
    assert h.mean() > 0.9
    assert abs(POOLINGS["mean"](h, dt).item() - 0.5) < 0.05


def test_batch_statistics_leave_padding_out():
    norm = TimeBatchNorm(3)
    h, dt = torch.randn(2, 5, 3), gaps(2, 5)
    dt[1, 2:] = 0
    h[1, 2:] = 1e6
    out = norm(h, dt)
    valid = torch.cat([h[0], h[1, :2]])
    # running_mean starts at 0 and moves by the momentum 0.1
    torch.testing.assert_close(norm.norm.running_mean, 0.1 * valid.mean(dim=0))
    expected = (valid - valid.mean(dim=0)) / (valid.var(dim=0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(torch.cat([out[0], out[1, :2]]), expected, rtol=1e-5, atol=1e-5)
    assert not out[1, 2:].any()


def test_a_repeated_time_stamp_is_no_padding():
    """Training and evaluation agree, once evaluation has the statistics of the batch."""
    net = small(dropout=0.0).requires_grad_(False)
    u, dt = torch.randn(3, 7, 3), gaps(3, 7)
    dt[:, 3] = 0
    dt[1, 5:] = 0
    norms = [module for module in net.modules() if isinstance(module, TimeBatchNorm)]
    seen = {norm: [] for norm in norms}
    hooks = [
        norm.register_forward_pre_hook(lambda norm, given: seen[norm].append(given[0])) for norm in norms
    ]
    expected = net(u, dt)
    for hook in hooks:
        hook.remove()
    for norm in norms:
        samples = torch.cat([seen[norm][0][[0, 2]].flatten(0, 1), seen[norm][0][1, :5]])
        norm.norm.running_mean.copy_(samples.mean(dim=0))
        norm.norm.running_var.copy_(samples.var(dim=0, unbiased=False))
    torch.testing.assert_close(net.eval()(u, dt), expected, **FLOAT32)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_parameter_groups_hold_every_parameter_once(backbone):
    net = small(backbone=backbone)
    groups = net.parameter_groups(1e-2, 1e-3, 0.1)
    grouped = [p for group in groups for p in group["params"]]
    assert len(grouped) == len(set(grouped)) == len(list(net.parameters()))
    settings = {p: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    for module in net.modules():
        if isinstance(module, SSMLayer):
            assert all(settings[p] == (1e-3, 0.0) for p in module.system_parameters())
            assert settings[module.C] == (1e-2, 0.1)
            assert settings[module.D] == (1e-2, 0.0)
    assert settings[net.encoder.weight] == (1e-2, 0.1)
    assert settings[net.encoder.bias] == settings[net.norm.norm.weight] == (1e-2, 0.0)


@pytest.mark.parametrize(
    ("backbone", "method"),
    [(name, method) for name, choice in BACKBONES.items() for method in choice.methods],
)
def test_every_discretisation_runs_and_matters(backbone, method):
    u, dt = torch.randn(2, 6, 3), gaps(2, 6)
    out = small(backbone=backbone, discretization=method).eval()(u, dt)
    default = small(backbone=backbone).eval()(u, dt)
    assert out.isfinite().all()
    assert torch.equal(out, default) == (method == BACKBONES[backbone].methods[0])


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_default_forgets_over_long_gaps(backbone):
    """Nearly all of what slow and fast modes hold, after a few gaps of many of their time constants."""
    net = small(backbone=backbone, d_model=16, d_state=16, dt_min=0.01, dt_max=0.1, bidirectional=False)
    layer = net.blocks[0].layer
    with torch.no_grad():
        _, before = layer(torch.randn(2, 50, 16), torch.ones(2, 50))
        after = before
        for _ in range(5):
            _, after = layer.step(torch.zeros(2, 16), after, torch.full((2,), 1e4))
    sizes = [(state.x if isinstance(state, tuple) else state).norm() for state in (before, after)]
    assert sizes[1] < 0.01 * sizes[0]


@pytest.mark.parametrize("name", ["backbone", "norm", "pooling", "discretization"])
def test_unknown_names_are_refused_by_name(name):
    with pytest.raises(ValueError, match=f"{name} must be .*; got 'nothing'"):
        small(**{name: "nothing"})


def test_first_order_hold_is_refused_where_it_has_no_meaning():
    with pytest.raises(ValueError, match="for backbone 'liquid-s4'.*got 'foh'"):
        small(backbone="liquid-s4", discretization="foh")


def test_a_block_in_training_drops_a_share_and_in_evaluation_nothing():
    torch.manual_seed(0)
    net = small(dropout=0.25)
    net.set_dropout_generator(torch.Generator().manual_seed(0))
    block = net.blocks[0]
    h = torch.randn(20, 50, net.config["d_model"])
    level = 2**15 - 2**16 * 0.75  # values below it are dropped
    first, second = block.dropout(h)
    assert not torch.equal(first, second)
    for noise in (first, second):
        # five standard deviations of a share of 8,000 draws
        assert abs((noise < level).float().mean() - 0.25) < 5 * (0.25 * 0.75 / noise.numel()) ** 0.5
    assert block.eval().dropout(h) is None
    by_hand = block.mix(F.gelu(block.layer(block.norm(h))[0]))
    torch.testing.assert_close(block(h), h + F.glu(by_hand, dim=-1))
