"""SSMForecaster: its decoder and windows against brute force, and what its users do with it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback
from numpy.testing import assert_allclose
from scipy import linalg, stats

from tsssm import Panel, SSMFeaturesForecaster, SSMForecaster, load
from tsssm.estimators._forecaster_training import Cut, Cutter, at_times
from tsssm.forecasting import ForecastNetwork, Track, Tracks, View, answer_loss
from tsssm.forecasting._answers import around
from tsssm.forecasting._network import rates

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

TINY = {
    "sp": 6,
    "max_steps": 3,
    "d_model": 8,
    "d_state": 4,
    "n_layers": 1,
    "random_state": 0,
    "accelerator": "cpu",
}
LENGTH = 90
LOSSES = ("quantile", "gaussian", "student_t", "absolute_error", "squared_error")


def wave(length=LENGTH, phase=0, seed=0):
    t = np.arange(length) + phase
    return 2 * np.sin(2 * np.pi * t / 6) + 0.3 * np.random.default_rng(seed).normal(size=length)


def quick(**parameters):
    return SSMForecaster(**{**TINY, **parameters})


def instances(count=4, length=60):
    frames = {f"s{i}": pd.DataFrame({"y": wave(length, i, seed=i)}) for i in range(count)}
    return pd.concat(frames, names=["series", "time"])


# The decoder


def test_the_state_runs_on_as_the_solution_of_its_equation():
    torch.manual_seed(0)
    net = ForecastNetwork(3, 2, 4, horizon=9, season=4, d_model=8, n_layers=1, bidirectional=False)
    net = net.double().eval()
    for weight in (net.answer.weight, net.skip.weight):
        torch.nn.init.normal_(weight)
    u, tau, ahead = torch.randn(2, 7, 3).double(), torch.tensor([[0.0, 0.3, 7.77]] * 2).double(), None
    ahead = torch.randn(2, 3, 2).double()
    # x' = A x, a block a mode, read by a vector each: cosines first, then sines.
    modes = rates(9, 4)
    blocks = [np.array([[-decay, -turn], [turn, -decay]]) for decay, turn in modes]
    A = linalg.block_diag(*blocks)
    start = np.tile([1.0, 0.0], len(modes))
    turning = [number for number, (_, turn) in enumerate(modes) if turn > 0]
    columns = [2 * number for number in range(len(modes))] + [2 * number + 1 for number in turning]
    flows = np.stack([(linalg.expm(A * float(t)) @ start)[columns] for t in tau[0]])
    assert_allclose(net.basis(tau[0]).numpy(), flows, atol=1e-6)
    x = net.head(net.features(u)[:, -1]).unflatten(1, (8, -1)).detach().numpy()
    G = torch.as_tensor(np.einsum("bep,kp->bke", x, flows))
    hidden = torch.nn.functional.gelu(net.hidden(torch.cat([G, ahead], dim=-1)))
    expected = net.answer(hidden) + net.skip(G)
    found = net(u, None, (tau, ahead))
    assert_allclose(found.detach().numpy(), expected.detach().numpy(), atol=1e-5)


def test_an_untrained_network_adds_nothing():
    net = ForecastNetwork(2, 2, 1, horizon=5, season=1, d_model=4, n_layers=1, bidirectional=False)
    at = torch.ones(3, 2), torch.randn(3, 2, 2)
    assert not net(torch.randn(3, 5, 2), None, at).detach().any()


# Windows


@pytest.mark.parametrize("scaling", ["last", "mean", "robust", "none"])
def test_windows_are_those_of_a_loop(scaling):
    rng = np.random.default_rng(0)
    tracks = []
    for number, length in enumerate((25, 18)):
        y = 100 * number + np.cumsum(rng.normal(size=length))
        y[rng.random(length) < 0.3] = np.nan
        y[-1] = 1.0
        X = rng.normal(size=(length, 1))
        X[rng.random(length) < 0.5] = np.nan
        tracks.append(Track(number, y, 3 * number, 0.2 * rng.normal(size=length), X))
    view = View.of(tracks, 10, 4, 5, scaling)
    data = Tracks(tracks, view)
    rows = torch.tensor([24, 42])
    seen = data.seen(rows)
    for i, track in enumerate(tracks):
        last = len(track.y) - 1
        cells = [
            c for c in range(last - 9, last + 1) if np.isfinite(track.y[c]) or np.isfinite(track.X[c]).any()
        ]
        known = np.array([track.y[c] for c in cells if np.isfinite(track.y[c])])
        centre, scale = {
            "last": (known[-1], known.std()),
            "mean": (known.mean(), known.std()),
            "robust": (
                np.sort(known)[(len(known) - 1) // 2],
                np.subtract(*np.quantile(known, [0.75, 0.25])) / 1.349,
            ),
            "none": (np.nanmean(track.y), np.nanstd(track.y)),
        }[scaling]
        assert_allclose([float(seen.centre[i]), float(seen.scale[i])], [centre, scale])
        times = np.array([c + track.shift[c] for c in cells])
        assert_allclose(seen.dt[i, : len(cells)].numpy(), [1.0, *np.maximum(np.diff(times), 0.01)], rtol=1e-6)
        assert not seen.dt[i, len(cells) :].any() and not seen.u[i, len(cells) :].any()
        for k, c in enumerate(cells):
            there, told = np.isfinite(track.y[c]), np.isfinite(track.X[c, 0])
            z = np.clip((track.y[c] - centre) / scale, -20, 20) if there else 0.0
            phase = 2 * np.pi * (3 * i + c) / 5 * np.arange(1, 3)
            x = (track.X[c, 0] - view.centre[0]) / view.unit[0] if told else 0.0
            kind = [float(i == 0), float(i == 1)]
            expected = [z, there, *np.cos(phase), *np.sin(phase), x, told, *kind]
            assert_allclose(seen.u[i, k].numpy(), expected, atol=1e-5)


def test_targets_of_windows_are_relative_to_the_closed_form():
    y = np.arange(20.0) ** 1.5
    data = Tracks(
        [Track(0, y, 0, np.zeros(20), np.zeros((20, 0)))],
        View.of([Track(0, y, 0, y, np.zeros((20, 0)))], 5, 3, 1, "last"),
    )
    paths = torch.arange(6.0).double().reshape(2, 3)
    batch = Cutter(data, Cut(torch.tensor([8, 12]), paths, paths))(torch.tensor([0, 1]), None)
    for i, origin in enumerate((8, 12)):
        scale = y[origin - 4 : origin + 1].std()
        expected = (y[origin + 1 : origin + 4] - paths[i].numpy()) / scale
        assert_allclose(batch.target[i, :, 0].numpy(), np.clip(expected, -50, 50), rtol=1e-5)
    assert (batch.target[..., 1] == 1).all()
    line = at_times(
        torch.tensor([10.0]), torch.tensor([[20.0, 40.0]]), torch.tensor([[0.0, 0.5, 1.0, 1.75, 9]])
    )
    assert_allclose(line[0].numpy(), [10, 15, 20, 35, 40])


# What answers say


def test_likelihoods_are_those_of_scipy_up_to_a_constant():
    z, t = torch.randn(50, 3).double(), torch.randn(50).double()
    mean = z[:, 0].numpy()
    scale = np.logaddexp(0, z[:, 1].numpy() + np.log(np.expm1(0.5))) + 1e-3
    nu = np.logaddexp(0, z[:, 2].numpy() + 8) + 2.1
    gaussian = answer_loss(z[:, :2], t, "gaussian", ())
    expected = -stats.norm(mean, scale).logpdf(t) - 0.5 * np.log(2 * np.pi)
    assert_allclose(gaussian.numpy(), expected, rtol=1e-9)
    expected = -stats.t(nu, mean, scale).logpdf(t)
    assert_allclose(answer_loss(z, t, "student_t", ()).numpy(), expected, rtol=1e-9)
    asked = np.array([0.1, 0.5, 0.8])
    bands = around(z.numpy(), "student_t", (), asked)
    assert_allclose(bands, stats.t(nu[:, None], 0, scale[:, None]).ppf(asked), rtol=1e-6, atol=1e-9)


def test_quantiles_between_those_learned_are_on_the_line_of_a_normal():
    levels, asked = (0.1, 0.5, 0.9), np.array([0.01, 0.1, 0.3, 0.5, 0.97])
    found = around(np.zeros((1, 3)), "quantile", levels, asked)
    assert_allclose(found[0], stats.norm(0, 0.5).ppf(asked), atol=1e-9)


def test_the_pinball_loss_is_smallest_at_the_quantiles():
    t = torch.as_tensor(np.random.default_rng(0).exponential(size=4000))
    levels = (0.2, 0.5, 0.8)
    first = 0.5 * stats.norm.ppf(levels)

    def loss(quantiles):
        z = torch.as_tensor(np.tile(np.asarray(quantiles) - first, (len(t), 1)))
        return float(answer_loss(z, t, "quantile", levels).mean())

    best = np.quantile(t, levels)
    assert loss(best) < min(loss(best + [0.1, 0, 0]), loss(best - [0, 0.1, 0]), loss(best + [0, 0, 0.1]))


# Forecasts


@pytest.fixture(scope="module", params=LOSSES)
def fitted(request):
    return quick(loss=request.param).fit(pd.Series(wave(), name="load"), fh=np.arange(1, 7))


def test_forecasts_come_back_from_a_file(fitted, tmp_path):
    assert fitted.network_ is not None
    fitted.save(tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    pd.testing.assert_series_equal(loaded.predict(), fitted.predict())
    levels = [0.05, 0.5, 0.95]
    pd.testing.assert_frame_equal(
        loaded.predict_quantiles(alpha=levels), fitted.predict_quantiles(alpha=levels)
    )


def test_quantiles_are_in_order_around_the_forecast(fitted):
    found = fitted.predict_quantiles(alpha=[0.02, 0.3, 0.5, 0.7, 0.98])
    assert (np.diff(found.to_numpy(), axis=1) > 0).all()
    assert_allclose(found[("load", 0.5)], fitted.predict(), atol=0.3)
    variance = fitted.predict_var().to_numpy()
    wide = fitted.predict_interval(coverage=0.6826894921)
    if fitted.loss != "student_t":
        assert_allclose(np.sqrt(variance[:, 0]), np.ptp(wide.to_numpy(), axis=1) / 2, rtol=0.02)


def test_a_time_has_one_forecast_whatever_else_is_asked(fitted):
    together = fitted.predict(fh=[1, 2, 5, 6, 40])
    for step in (2, 6, 40):
        assert_allclose(fitted.predict(fh=[step]), together.loc[[LENGTH - 1 + step]], rtol=1e-6)


def test_predict_proba(fitted):
    found = fitted.predict_proba()
    assert_allclose(found.mean().to_numpy().ravel(), fitted.predict(), rtol=1e-4, atol=1e-3)
    expected = "TDistribution" if fitted.loss == "student_t" else "Normal"
    assert type(found).__name__ == expected


def test_scaling_is_undone_exactly():
    y = pd.Series(wave())
    for scaling in ("mean", "none"):
        one = quick(scaling=scaling).fit(y, fh=[1, 2, 3])
        other = quick(scaling=scaling).fit(1000 * y + 5, fh=[1, 2, 3])
        assert_allclose(other.predict(), 1000 * one.predict() + 5, rtol=1e-3, atol=0.5)
        assert_allclose(other.predict_quantiles(), 1000 * one.predict_quantiles() + 5, rtol=1e-3, atol=0.5)


@pytest.mark.parametrize("loss", ["quantile", "squared_error"])
def test_extreme_units(loss):
    unit = 1e290
    forecaster = quick(loss=loss).fit(pd.Series(unit * wave()), fh=[1, 2])
    expected = unit * quick(loss=loss).fit(pd.Series(wave()), fh=[1, 2]).predict()
    assert_allclose(forecaster.predict(), expected, rtol=1e-2)
    assert np.isfinite(forecaster.predict_interval()).all(axis=None)


def test_short_series_are_forecast_in_closed_form():
    y = pd.Series(wave(14))
    forecaster = quick().fit(y, fh=[1, 2, 3])
    assert forecaster.network_ is None
    pd.testing.assert_series_equal(
        forecaster.predict(), SSMFeaturesForecaster(sp=6).fit(y, fh=[1, 2, 3]).predict()
    )


def test_a_network_learns_what_a_ridge_cannot():
    x = [0.3]
    for _ in range(350):
        x.append(3.9 * x[-1] * (1 - x[-1]))
    y = pd.Series(np.array(x[100:]))
    forecaster = SSMForecaster(
        sp=1,
        max_steps=150,
        d_model=16,
        n_layers=1,
        look_back=8,
        learning_rate=5e-3,
        dropout=0.0,
        random_state=0,
    )
    errors = {}
    for model in (forecaster, SSMFeaturesForecaster(sp=1)):
        model.fit(y.iloc[:240], fh=[1])
        found = [float(model.predict().iloc[0])]
        for t in range(240, 250):
            model.update(y.iloc[t : t + 1], update_params=False)
            found.append(float(model.predict(fh=[1]).iloc[0]))
        errors[type(model).__name__] = np.abs(np.array(found[:-1]) - y.iloc[240:250]).mean()
    assert errors["SSMForecaster"] < 0.5 * errors["SSMFeaturesForecaster"]


def test_variables_ahead_may_be_known_in_part():
    rng = np.random.default_rng(1)
    X = pd.DataFrame({"known": rng.normal(size=LENGTH + 3), "past": rng.normal(size=LENGTH + 3)})
    y = pd.Series(wave() + 3 * X["known"].iloc[:LENGTH])
    forecaster = quick().fit(y, X=X.iloc[:LENGTH], fh=[1, 2, 3])
    assert forecaster.network_.view.d_in == 2 + 2 * 3 + 2 * 2
    whole, part, none = (
        forecaster.predict(X=X.iloc[LENGTH:]),
        forecaster.predict(X=X[["known"]].iloc[LENGTH:]),
        forecaster.predict(),
    )
    expected = 3 * X["known"].iloc[LENGTH:]
    assert_allclose(part - none, expected, atol=1.5)
    assert not np.allclose(whole, part) and np.isfinite(whole).all()
    with pytest.raises(ValueError, match="or those of them that are known in the future"):
        forecaster.predict(X=X.iloc[LENGTH:].assign(new=1.0))


def test_what_never_changes_is_known_ahead():
    y = instances()
    kind = pd.DataFrame({"kind": np.repeat([0.0, 1.0, 0.0, 1.0], 60)}, index=y.index)
    forecaster = quick().fit(y, X=kind, fh=[1, 2])
    assert forecaster.network_.view.static.tolist() == [1.0]
    ahead = pd.concat(
        {f"s{i}": pd.DataFrame({"kind": float(i % 2)}, index=[60, 61]) for i in range(4)}, names=y.index.names
    )
    assert_allclose(forecaster.predict(), forecaster.predict(X=ahead), rtol=1e-5)


def test_targets_and_series_share_a_network():
    Y = pd.DataFrame({"a": wave(), "b": 100 * wave(seed=1)})
    forecaster = quick().fit(Y, fh=[1, 2])
    assert forecaster.network_.shares.shape == (2,) and len(forecaster.targets_) == 2
    found = forecaster.predict()
    assert list(found.columns) == ["a", "b"] and np.abs(found["b"]).max() > 20
    panel = quick().fit(instances(), fh=[1, 2])
    assert panel.predict().index.names == ["series", "time"]


def test_an_update_keeps_the_network():
    whole = pd.Series(wave())
    forecaster = quick().fit(whole.iloc[:80], fh=[1, 2])
    network, model = forecaster.network_, forecaster.targets_[0].alone
    forecaster.update(whole.iloc[80:])
    assert forecaster.network_ is network and forecaster.targets_[0].alone is not model
    assert forecaster.predict().index.tolist() == [LENGTH, LENGTH + 1]


@pytest.mark.skipif(not hasattr(SSMForecaster, "pretrain"), reason="this sktime has no pretrain")
def test_a_pretrained_network_forecasts_series_that_it_has_not_seen(tmp_path):
    forecaster = quick(horizon=4).pretrain(instances())
    network = forecaster.pretrained_network_
    copy = forecaster.clone().fit(pd.Series(wave(20)))
    assert_allclose(copy.pretrained_network_.shares, network.shares)
    found = copy.predict(fh=[1, 2])
    assert_allclose(found, 2 * np.sin(2 * np.pi * (20 + np.arange(2)) / 6), atol=1.0)
    copy.save(tmp_path / "model.safetensors")
    pd.testing.assert_series_equal(load(tmp_path / "model.safetensors").predict([1]), copy.predict([1]))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_forecasts_and_another_others():
    y = pd.Series(wave())
    first, again, other = (quick(random_state=seed).fit(y, fh=[1]).network_ for seed in (0, 0, 1))
    weights = [net.net.state_dict()["hidden.weight"] for net in (first, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_a_missing_end_is_time_that_passed():
    y = pd.Series(wave())
    y.iloc[-3:] = np.nan
    forecaster = quick().fit(y, fh=[1, 2])
    assert np.isfinite(forecaster.predict()).all()


class Stop(Callback):
    def on_train_batch_end(self, *args):
        raise KeyboardInterrupt


def test_an_interrupted_fit_keeps_what_it_has():
    with pytest.warns(UserWarning, match="interrupted"):
        forecaster = quick(callbacks=[Stop()], max_steps=50).fit(pd.Series(wave()), fh=[1])
    assert np.isfinite(forecaster.predict()).all()


@pytest.mark.slow
def test_a_fit_goes_on_from_a_checkpoint(tmp_path):
    y = pd.Series(wave())
    whole = quick(max_steps=4, batch_size=64).fit(y, fh=[1])
    options = {"max_steps": 4, "batch_size": 64, "checkpoint_dir": tmp_path}
    with pytest.raises(ValueError, match="need a random_state"):
        quick(**{**options, "random_state": None}).fit(y, fh=[1])
    kept = quick(**options).fit(y, fh=[1])
    pd.testing.assert_series_equal(kept.predict(), whole.predict())


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("loss", "mape"),
        ("quantiles", (0.1, 0.9)),
        ("look_back", 1),
        ("scaling", "auto"),
        ("backbone", "lstm"),
        ("n_layers", 0),
        ("max_steps", 0),
        ("horizon", 0),
        ("sp", 0),
    ],
)
def test_bad_parameters_are_named(parameter, value):
    with pytest.raises(ValueError, match=f"{parameter} must be"):
        quick(**{parameter: value}).fit(pd.Series(wave()), fh=[1])


# Panels


def panel(count=6):
    rng = np.random.default_rng(0)
    times = [np.sort(rng.uniform(0, 40, 50)) for _ in range(count)]
    pulse = [np.stack([70 + 8 * np.sin(t / 4), 5 * np.cos(t / 4)]) for t in times]
    return Panel.from_arrays(pulse, times, time_unit="h")


def test_a_panel_is_asked_at_any_time(tmp_path):
    X = panel()
    forecaster = quick(sp=1).fit(X, fh=4)
    found = forecaster.predict(X, [0.5, 1.7, 4.0])
    assert found.lengths.tolist() == [3] * 6 and found.n_channels == 2
    alone = forecaster.predict(X, [1.7])
    assert_allclose(alone.values, found.values[1::3], rtol=1e-5)
    quantiles = forecaster.predict_quantiles(X, [1.0], [0.1, 0.9])
    assert (quantiles.values[:, 0] < quantiles.values[:, 1]).all()
    forecaster.save(tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors").predict(X, [0.5, 1.7, 4.0]) == found


def test_true_times_reach_the_network():
    X = panel()
    forecaster = quick(sp=1).fit(X, fh=4)
    tracks, _ = forecaster._panel_grid.channels(X, together=False)
    data = Tracks(tracks, forecaster.network_.view)
    seen = data.seen(data.last_known())
    first = X.times[: X.offsets[1]] / forecaster._panel_grid.step
    cells = np.round(first - first[-1])
    alone = [c for c in np.unique(cells) if (cells == c).sum() == 1][-5:]
    mine = (data.time[: data.offsets[1]] - data.time[data.offsets[1] - 1]).numpy()
    for cell in alone:
        assert_allclose(mine[int(cell) - 1], (first - first[-1])[cells == cell], atol=1e-6)
    assert seen.dt is not None


def test_a_channel_may_read_the_past_of_the_others(tmp_path):
    rng = np.random.default_rng(0)
    lead = rng.normal(size=(8, 90))
    follow = np.roll(lead, 2, axis=1) + 0.1 * rng.normal(size=lead.shape)  # two samples later
    history = Panel.from_arrays(np.stack([lead, follow], axis=1)[:, :, 2:80])
    errors = {}
    for together in (False, True):
        forecaster = quick(sp=1, max_steps=80, look_back=4, learning_rate=1e-2, together=together)
        found = forecaster.fit(history, fh=2).predict(history, [2])
        errors[together] = np.abs(found.values[:, 1] - follow[:, 81]).mean()
    assert forecaster.network_.view.n_ahead == 0 and len(forecaster.network_.view.centre) == 2
    assert errors[True] < 0.6 * errors[False]
    forecaster.save(tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors").predict(history, [2]) == found
