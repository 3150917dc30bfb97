"""Training series that are changed at random: what comes out is what the changed recording would give."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from sklearn.base import clone

from tsssm import Panel, SSMClassifier, SSMRegressor, load
from tsssm.encoding import PanelEncoder
from tsssm.estimators import _blending
from tsssm.training import Augmentation, Batches, LabelledBatch

TINY = {"n_features": 0, "n_members": 1, "n_layers": 1, "d_model": 4, "d_state": 4, "random_state": 0}


def recordings(missing: bool, regular: bool = False) -> Panel:
    """Six series of three channels and different lengths, no value twice."""
    rng = np.random.default_rng(0)
    lengths = [9, 30, 17, 22, 30, 12]
    series = [rng.normal(size=(3, n)) for n in lengths]
    if missing:
        for values in series:
            values[1:, 1:][rng.uniform(size=values[1:, 1:].shape) < 0.4] = np.nan
    times = None if regular else [np.cumsum(rng.uniform(0.2, 3, size=n)) for n in lengths]
    return Panel.from_arrays(series, times)


def batch_of(encoder: PanelEncoder, panel: Panel, target: torch.Tensor | None = None) -> LabelledBatch:
    target = torch.zeros(len(panel), 1) if target is None else target
    return Batches(encoder.encode(panel), target, batch_size=len(panel)).batch(torch.arange(len(panel)))


def changed(encoder: PanelEncoder, batch: LabelledBatch, seed: int = 0, **ways) -> LabelledBatch:
    own = Augmentation(len(encoder.numeric), encoder.missing, **ways)
    return own(batch, torch.Generator().manual_seed(seed))


def parts(panel: Panel, rows: list[np.ndarray]) -> Panel:
    """Some samples of each series."""
    series = [one.values[own].T for one, own in zip(panel, rows, strict=True)]
    times = [one.times[own] for one, own in zip(panel, rows, strict=True)] if panel.has_times else None
    return Panel.from_arrays(series, times)


def assert_same(batch: LabelledBatch, expected: LabelledBatch) -> None:
    length = expected.u.shape[1]
    torch.testing.assert_close(batch.u[:, :length], expected.u, rtol=1e-5, atol=1e-6)
    assert not bool(batch.u[:, length:].any())
    if batch.dt is None:
        assert expected.dt is None
    else:
        gaps = torch.ones_like(batch.dt[:, :length]) if expected.dt is None else expected.dt
        torch.testing.assert_close(batch.dt[:, :length], gaps, rtol=1e-5, atol=1e-6)
        assert not bool(batch.dt[:, length:].any())


def kept_samples(encoder: PanelEncoder, panel: Panel, batch: LabelledBatch) -> list[np.ndarray]:
    """Which samples of each series a batch holds, by the first channel, which is never missing."""
    whole = batch_of(encoder, panel).u[..., 0]
    found = []
    for own, now, length in zip(whole, batch.u[..., 0], panel.lengths, strict=True):
        rows = [int(torch.nonzero(own[:length] == value)[0, 0]) for value in now if value != 0]
        found.append(np.array(rows))
    return found


@pytest.mark.parametrize("missing", [False, True])
def test_what_is_not_asked_for_does_not_happen(missing):
    panel = recordings(missing)
    encoder = PanelEncoder().fit(panel)
    assert encoder.missing is missing
    batch = batch_of(encoder, panel)
    assert_same(changed(encoder, batch), batch)


@pytest.mark.parametrize("missing", [False, True])
def test_a_faster_recording_is_one_with_shorter_times(missing):
    panel = recordings(missing)
    encoder = PanelEncoder().fit(panel)
    faster = Panel.from_arrays([one.values.T for one in panel], [one.times / 1.3 for one in panel])
    assert_same(changed(encoder, batch_of(encoder, panel), speed=(1.3, 1.3)), batch_of(encoder, faster))


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("regular", [False, True])
@pytest.mark.parametrize("way", [{"crop": 0.4}, {"drop_samples": 0.8}], ids=["crop", "drop"])
def test_what_is_left_is_encoded_like_a_recording_of_that_alone(way, regular, missing):
    panel = recordings(missing, regular)
    encoder = PanelEncoder().fit(panel)
    batch = changed(encoder, batch_of(encoder, panel), **way)
    rows = kept_samples(encoder, panel, batch)
    assert all(0 < len(own) < length for own, length in zip(rows, panel.lengths, strict=True))
    if "crop" in way:
        assert [len(own) for own in rows] == np.ceil(0.4 * panel.lengths).astype(int).tolist()
        assert all((np.diff(own) == 1).all() for own in rows)
        expected = batch_of(encoder, parts(panel, rows))
    else:
        assert all((np.diff(own) > 0).all() for own in rows) and len({len(own) for own in rows}) > 1
        # Without times what is left out is a gap all the same.
        clocks = (
            panel
            if panel.has_times
            else Panel.from_arrays(
                [one.values.T for one in panel], [np.arange(n) * 1.0 for n in panel.lengths]
            )
        )
        expected = batch_of(PanelEncoder().fit(clocks) if regular else encoder, parts(clocks, rows))
    assert_same(batch, expected)


def test_regular_series_of_one_length_stay_regular_where_they_can():
    X = Panel.from_numpy(np.random.default_rng(0).normal(size=(5, 2, 40)))
    encoder = PanelEncoder().fit(X)
    batch = batch_of(encoder, X)
    assert batch.dt is None
    short = changed(encoder, batch, crop=0.25, noise=0.1, gain=0.1, drop_channels=0.2)
    assert short.dt is None and short.u.shape == (5, 10, 2)
    played = changed(encoder, batch, speed=(0.5, 2.0))
    assert played.dt is None and played.u.shape == (5, 20, 2)


def test_regular_series_are_read_between_their_samples():
    t = np.arange(40.0)
    slopes = np.array([1.0, -2.0, 0.5])
    X = Panel.from_arrays(
        [np.stack([s * t[:n], t[:n] ** 0]) for s, n in zip(slopes, (40, 21, 33), strict=True)]
    )
    encoder = PanelEncoder(scale="standard").fit(X)
    batch = batch_of(encoder, X)
    for seed in range(5):
        faster = changed(encoder, batch, seed=seed, speed=(0.4, 2.5), crop=0.9)
        valid = faster.dt > 0
        values = faster.u[..., 0] * float(encoder.std[0]) + float(encoder.mean[0])
        for row, kept, slope, length in zip(values, valid, slopes, X.lengths, strict=True):
            read = row[kept].numpy() / slope  # the time at which the series was read
            step = np.diff(read)
            np.testing.assert_allclose(step, step[0], atol=1e-3)
            assert 0.4 - 1e-3 <= step[0] <= 2.5 + 1e-3 and read[0] > -1e-3 and read[-1] < length - 1 + 1e-3
            # As much as there is, unless that is more than the stretch.
            assert len(read) == min(np.ceil(0.9 * length), (length - 1) // step[0] + 1)
        assert bool((faster.dt[valid] == 1).all())


def test_rates_grow_with_the_speed_and_other_targets_do_not():
    panel = recordings(False)
    encoder = PanelEncoder().fit(panel)
    y, mean, std = np.array([60.0, 80.0, 75.0, 120.0, 50.0, 90.0]), 79.0, 22.0
    batch = batch_of(encoder, panel, torch.as_tensor((y - mean) / std)[:, None])
    origin = torch.tensor([mean / std], dtype=torch.float64)
    faster = changed(encoder, batch, speed=(0.5, 2.0), origin=origin)
    speed = batch.dt[:, 1:].sum(dim=1) / faster.dt[:, 1:].sum(dim=1)
    assert float(speed.min()) < 0.9 and float(speed.max()) > 1.1
    np.testing.assert_allclose(mean + std * faster.target[:, 0].numpy(), y * speed.numpy(), rtol=1e-5)
    assert torch.equal(changed(encoder, batch, speed=(0.5, 2.0)).target, batch.target)


def test_noise_gains_and_missing_channels_have_the_size_that_was_asked_for():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(400, 2, 50))
    values[:, 1, 1::2] = np.nan
    panel = Panel.from_numpy(values)
    encoder = PanelEncoder().fit(panel)
    batch = batch_of(encoder, panel)
    noisy = changed(encoder, batch, noise=0.3)
    off = (noisy.u - batch.u)[..., :2]
    seen = batch.u[..., 2:4] > 0
    assert float(off[seen].std()) == pytest.approx(0.3, rel=0.02) and not bool(off[~seen].any())
    louder = changed(encoder, batch, gain=0.5)
    factor = (louder.u[..., 0] / batch.u[..., 0]).log()
    assert float((factor - factor[:, :1]).abs().max()) < 1e-4
    assert float(factor[:, 0].std()) == pytest.approx(0.5, rel=0.1)
    without = changed(encoder, batch, drop_channels=0.25)
    there = without.u[..., 2:4].amax(dim=1)
    assert float(there.mean()) == pytest.approx(0.75, abs=0.05)
    gone = there[:, 1] == 0
    assert not bool(without.u[gone][..., 1].any())
    # Never seen: the time since the first sample.
    torch.testing.assert_close(
        without.u[gone][..., 5].expm1(), torch.arange(50.0).expand(int(gone.sum()), 50)
    )


def test_a_regressor_learns_rates_that_it_was_not_shown(tmp_path):
    rng = np.random.default_rng(0)

    def sines(rates):
        t = np.arange(64) / 8
        return np.stack([np.sin(2 * np.pi * (rate * t + rng.uniform())) for rate in rates])[:, None]

    seen, unseen = rng.uniform(0.9, 1.1, size=60), rng.uniform(1.2, 1.4, size=40)
    X, other = sines(seen), sines(unseen)
    settings = {**TINY, "n_layers": 2, "d_model": 8, "d_state": 8, "norm": "layer", "dropout": 0.0}
    played = SSMRegressor(
        **settings, learning_rate=1e-2, max_steps=150, augment={"rate": (0.7, 1.5), "crop": 0.75}
    )
    played.fit(X, seen)
    # No rate that was shown is nearer than 0.1 to one that is asked for.
    assert np.sqrt(np.mean((played.predict(other) - unseen) ** 2)) < 0.09
    played.save(tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    assert loaded.augment == played.augment
    np.testing.assert_array_equal(loaded.predict(other), played.predict(other))


def test_a_fit_is_repeated_by_its_seed_and_differs_by_member():
    panel = recordings(True)
    y = ["a", "b"] * 3
    ways = {"crop": 0.8, "drop_samples": 0.2, "speed": [0.8, 1.25], "gain": 0.1, "noise": 0.1}
    clf = SSMClassifier(**{**TINY, "n_members": 2}, max_steps=3, augment={**ways, "drop_channels": 0.1})
    first, second = clf.fit(panel, y), clone(clf).fit(panel, y)
    np.testing.assert_array_equal(first.predict_proba(panel), second.predict_proba(panel))
    assert not np.array_equal(
        first.predict_proba(panel), clone(clf).set_params(augment=None).fit(panel, y).predict_proba(panel)
    )
    assert clf.partial_fit(panel, y).n_iter_ > 0


def test_the_default_dtype_of_torch_does_not_matter():
    panel = recordings(True)
    y = np.arange(1.0, 7.0)
    ways = {"crop": 0.8, "drop_samples": 0.2, "rate": (0.8, 1.25), "gain": 0.1, "noise": 0.1}
    reg = SSMRegressor(**TINY, max_steps=2, augment={**ways, "drop_channels": 0.1})
    expected = reg.fit(panel, y).predict(panel)
    torch.set_default_dtype(torch.float64)
    try:
        np.testing.assert_array_equal(clone(reg).fit(panel, y).predict(panel), expected)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("augment", "error", "words"),
    [
        ({"speeds": (1, 2)}, ValueError, "'speeds'"),
        ("noise", TypeError, "augment must be None or a dict"),
        ({"crop": 0}, ValueError, "(0, 1]"),
        ({"crop": True}, TypeError, "got True of type bool"),
        ({"drop_samples": 1.0}, ValueError, "[0, 1)"),
        ({"drop_channels": -0.1}, ValueError, "[0, 1)"),
        ({"speed": 2.0}, TypeError, "pair of positive"),
        ({"speed": (2.0, 1.0)}, ValueError, "smaller first"),
        ({"rate": (0, 1)}, ValueError, "positive"),
        ({"noise": float("nan")}, ValueError, "at least 0"),
        ({"gain": "much"}, TypeError, "at least 0"),
        ({"speed": (1, 2), "rate": (1, 2)}, ValueError, "got both"),
    ],
)
def test_refused(augment, error, words):
    reg = SSMRegressor(**TINY, max_steps=1, augment=augment)
    with pytest.raises(error, match=re.escape(words)):
        reg.fit(np.zeros((4, 1, 5)) + np.arange(5), [1.0, 2.0, 3.0, 4.0])


def test_it_is_checked_before_series_are_read():
    with pytest.raises(ValueError, match=r"augment\['crop'\] must be a number in \(0, 1\]; got 7"):
        SSMClassifier(**TINY, max_steps=1, augment={"crop": 7}).fit("no series", None)


def test_rates_are_no_classes_and_charts_are_left_alone(monkeypatch):
    with pytest.raises(ValueError, match="use 'speed'"):
        SSMClassifier(**TINY, max_steps=1, augment={"rate": (1, 2)}).fit(
            np.random.rand(4, 1, 5), [0, 1, 0, 1]
        )
    rng = np.random.default_rng(0)
    values = np.where(rng.uniform(size=(8, 6, 30)) < 0.1, rng.normal(size=(8, 6, 30)), np.nan)
    values[:, 0, 0] = 1.0
    clf = SSMClassifier(max_steps=1, augment={"noise": 0.1})
    monkeypatch.setattr(_blending, "fit_beside", None)  # said before a closed form is fitted
    with pytest.raises(ValueError, match="augment must be None for charts"):
        clf.fit(Panel.from_numpy(values), [0, 1] * 4)
