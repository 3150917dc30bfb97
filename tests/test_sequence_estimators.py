"""Answers along time: those of the network for what is known then, in pieces, live and after a file."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tsssm
from tsssm import Panel, SSMSequenceClassifier, SSMSequenceRegressor, Stream
from tsssm.backbone import Backbone, Block
from tsssm.encoding import PanelEncoder
from tsssm.ops.sequence import last_sample
from tsssm.training import BothWays, Crops, predict_along

TINY: dict[str, Any] = {"n_layers": 2, "d_model": 8, "d_state": 4, "max_steps": 3, "random_state": 0}


def hard_panel(seed: int = 0, *, timed: bool = True, missing: bool = True) -> Panel:
    """Ragged series of two channels, with equal times, missing values and samples missing altogether."""
    rng = np.random.default_rng(seed)
    lengths = [1, 17, 40, 29]
    values = rng.normal(size=(sum(lengths), 2)).astype(np.float32)
    if missing:
        values[rng.uniform(size=values.shape) < 0.2] = np.nan
        values[[1, 30]] = np.nan  # one is the first of its series
    times = None
    if timed:
        gaps = rng.exponential(size=len(values))
        gaps[rng.uniform(size=len(values)) < 0.1] = 0
        times = np.concatenate([np.cumsum(part) for part in np.split(gaps, np.cumsum(lengths)[:-1])])
    return Panel(values, np.concatenate([[0], np.cumsum(lengths)]), times)


def labels_of(panel: Panel) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.choice(["a", "b", "c"], size=length) for length in panel.lengths]


def fitted(panel: Panel, lookahead: float | None, **options: Any) -> SSMSequenceClassifier:
    return SSMSequenceClassifier(lookahead=lookahead, **{**TINY, **options}).fit(panel, labels_of(panel))


def clock_of(panel: Panel, i: int) -> np.ndarray:
    start, stop = panel.offsets[i], panel.offsets[i + 1]
    return np.arange(stop - start, dtype=float) if panel.times is None else panel.times[start:stop]


def softmax(outputs: torch.Tensor) -> np.ndarray:
    return torch.softmax(outputs.double(), dim=-1).numpy()


def cut(panel: Panel, i: int, until: float) -> Panel | None:
    """The samples of a series up to a time; None without a value among them."""
    own = clock_of(panel, i)
    count = int((own <= until).sum())
    values = panel[i].values[:count]
    if np.isnan(values).all():
        return None
    times = None if panel.times is None else own[:count]
    return Panel(values, [0, count], times)


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("lookahead", [0, 2.5])
def test_the_answer_for_a_time_is_that_of_the_series_cut_off_there(timed: bool, lookahead: float) -> None:
    """Brute force: the network that reads its last sample, on the samples up to the time, one by one."""
    panel = hard_panel(timed=timed)
    clf = fitted(panel, lookahead)
    rng = np.random.default_rng(2)
    times = [
        np.concatenate([own[::5], rng.uniform(own[0], own[-1], size=4)])
        for own in (clock_of(panel, i) for i in range(len(panel)))
    ]
    answers = clf.predict_proba(panel, times=times)
    for i, (asked, given) in enumerate(zip(times, answers, strict=True)):
        for t, proba in zip(asked, given, strict=True):
            known = cut(panel, i, t + lookahead)
            u, dt = torch.zeros(1, 1, clf.encoder_.n_inputs), None
            if known is not None:
                u, dt = clf.encoder_.encode_all(known).batch(torch.tensor([0]))
            with torch.no_grad():
                expected = softmax(clf.net_(u, dt))[0]
            np.testing.assert_allclose(proba, expected, atol=2e-6)


def test_the_answer_between_samples_is_that_of_the_last_one_in_both_directions() -> None:
    panel = hard_panel(missing=False)
    clf = fitted(panel, None)
    for i in range(1, len(panel)):
        own = clock_of(panel, i)
        u, dt = clf.encoder_.encode_all(panel[i]).batch(torch.tensor([0]))
        with torch.no_grad():
            features = clf.net_.features(u, dt)[0]
            moving = [k for k in range(len(own)) if k == 0 or own[k] > own[k - 1]]
            asked = (own[moving[:-1]] + own[moving[1:]]) / 2
            expected = softmax(clf.net_.head(features[moving[:-1]]))
        np.testing.assert_allclose(clf.predict_proba(panel[i], times=asked)[0], expected, atol=2e-6)


@pytest.mark.parametrize("lookahead", [0, None])
@pytest.mark.parametrize("options", [{"backbone": "s4d"}, {"backbone": "lssl", "n_readouts": 2}], ids=str)
@pytest.mark.parametrize("timed", [True, False])
def test_pieces_are_the_whole(options: dict[str, Any], timed: bool, lookahead: float | None) -> None:
    panel = hard_panel(timed=timed)
    clf = fitted(panel, lookahead, **options)
    data = clf.encoder_.encode_all(panel)
    rows = torch.randperm(len(data.u), generator=torch.Generator().manual_seed(0))
    whole = predict_along(clf.net_, data, rows, torch.device("cpu"))
    for piece in (7, 39):
        parts = predict_along(clf.net_, data, rows, torch.device("cpu"), piece=piece)
        torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("most_kept", [0, 10**6])
@pytest.mark.parametrize("name", ["s4d", "s5", "liquid-s4", "lssl"])
def test_pieces_of_both_directions_are_the_whole(name: str, most_kept: int) -> None:
    """With features between layers kept, and computed again."""
    torch.manual_seed(0)
    method = {"lssl": {"discretization": 0.75}, "s5": {"discretization": "foh"}}
    net = Backbone(3, 2, backbone=name, n_layers=3, d_model=4, d_state=4, **method.get(name, {})).eval()
    dt = torch.rand(3, 50) * (torch.rand(3, 50) > 0.1)
    dt[:, 0] = 0.5
    dt[1, 31:] = dt[2, 1:] = 0  # ragged: a piece may be all padding
    u = torch.randn(3, 50, 3)
    with torch.inference_mode():
        for gaps in (dt, None):
            last = torch.tensor([49, 49, 49]) if gaps is None else last_sample(gaps)
            valid = torch.arange(50) <= last[:, None]
            whole, found = net.features(u, gaps), torch.zeros(3, 50, 4)
            for start, h in BothWays(net, 12, most_kept).features(u, gaps):
                assert h.shape[1] <= 12
                found[:, start : start + h.shape[1]] = h
            torch.testing.assert_close(found[valid], whole[valid], atol=1e-5, rtol=1e-5)


def test_no_more_than_a_piece_is_held_in_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the features of a recording are many: they are computed again, and never joined."""
    net, u = Backbone(1, 1, n_layers=2, d_model=4, d_state=4).eval(), torch.randn(1, 100, 1)
    made, norm = [], Block.mixed

    def watched(self: Block, h: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        out = norm(self, h, y)
        made.append(weakref.ref(out))
        assert out.shape[1] <= 20
        assert sum(one() is not None for one in made) <= 3
        return out

    monkeypatch.setattr(Block, "mixed", watched)
    with torch.inference_mode():
        for _ in BothWays(net, 20, most_kept=0).features(u, None):
            pass
    assert len(made) == 4 + 5 + 5  # the first block for both passes of the second, which then runs


def test_memory_does_not_grow_with_a_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one direction, no features of more than a piece are ever held."""
    X = np.random.default_rng(0).normal(size=(1, 1, 1000))
    clf = SSMSequenceClassifier(lookahead=2, **TINY).fit(X[:, :, :100], X[:, 0, :100] > 0)
    data, seen, advance = clf.encoder_.encode_all(tsssm.panel.as_panel(X)), [], clf.net_.advance

    def watched(u: torch.Tensor, *rest: Any) -> Any:
        seen.append(u.shape[1])
        return advance(u, *rest)

    monkeypatch.setattr(clf.net_, "advance", watched)
    monkeypatch.setattr(clf.net_, "features", None)
    predict_along(clf.net_, data, torch.tensor([0, 950]), torch.device("cpu"), piece=300)
    assert seen == [300, 300, 300, 100]


@pytest.mark.parametrize("missing", [True, False])
@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("lookahead", [0, 3.0])
def test_a_stream_says_after_a_sample_what_is_known_then(
    lookahead: float, timed: bool, missing: bool
) -> None:
    """With a lookahead, of the time that is so much earlier."""
    panel = hard_panel(timed=timed, missing=missing)
    clf = fitted(panel, lookahead)
    for i in range(len(panel)):
        own, stream = clock_of(panel, i), Stream(clf)
        pushed = stream.push_many(panel[i].values, own if timed else None)
        at = own - lookahead
        old = at >= own[0]
        # Of samples with one time, the last one has been told all.
        last = np.append(np.diff(own) > 0, True)
        if (old & last).any():
            expected = clf.predict_proba(panel[i], times=at[old & last])[0]
            np.testing.assert_allclose(pushed[old & last], expected, atol=1e-5)


def test_series_are_answered_alike_alone_and_in_company() -> None:
    for lookahead in (0, None):
        panel = hard_panel()
        clf = fitted(panel, lookahead)
        together = clf.predict_proba(panel)
        for i in range(len(panel)):
            np.testing.assert_allclose(clf.predict_proba(panel[i])[0], together[i], atol=1e-5)


@pytest.mark.parametrize("lookahead", [0, 2, None])
def test_what_follows_counts_as_far_as_the_lookahead(lookahead: float | None) -> None:
    X = np.random.default_rng(0).normal(size=(3, 1, 30))
    clf = SSMSequenceClassifier(lookahead=lookahead, **TINY).fit(X, X[:, 0] > 0)
    other = X.copy()
    other[:, :, 20:] += 1.0
    same = np.isclose(clf.predict_proba(X), clf.predict_proba(other), atol=1e-6).all(axis=(0, 2))
    assert same.sum() == {0: 20, 2: 18, None: 0}[lookahead]


@pytest.mark.parametrize("kind", [SSMSequenceClassifier, SSMSequenceRegressor])
@pytest.mark.parametrize("lookahead", [0, None])
def test_a_model_file_says_the_same(kind: Any, lookahead: float | None, tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(4, 2, 20))
    y = np.sign(X[:, 0]) if kind is SSMSequenceClassifier else np.cumsum(X, axis=2)
    model = kind(lookahead=lookahead, **TINY).fit(X, y)
    model.save(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(tsssm.load(tmp_path / "model.safetensors").predict(X), model.predict(X))


def test_labels_are_learned_where_they_are() -> None:
    """A label at times of its own, with unlabelled stretches; a running mean that only state can know."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(24, 1, 60)).cumsum(axis=2) / 4
    level = np.sign(X[:, 0])
    pairs = [(np.arange(3.0, 57.0, 2), row[3:57:2]) for row in level]
    options = {"lookahead": 0, "n_layers": 1, "d_model": 8, "max_steps": 150, "random_state": 0}
    clf = SSMSequenceClassifier(**options).fit(X[:16], pairs[:16])
    assert clf.score(X[16:], pairs[16:]) > 0.9
    assert clf.score(X[16:], level[16:]) > 0.9
    reg = SSMSequenceRegressor(**options).fit(X[:16], [(t, 2 * v) for t, v in pairs[:16]])
    assert reg.score(X[16:], 2 * level[16:]) > 0.6


def crops_of(n: int, rows: Any, **options: Any) -> Crops:
    panel = Panel(np.arange(float(n)).reshape(-1, 1), [0, n // 3, n])
    data = PanelEncoder().fit(panel).encode_all(panel)
    rows = torch.as_tensor(rows)
    return Crops(data, rows, rows.clone(), **{"length": 10, "warm_up": 3, "both": False, **options})


@pytest.mark.parametrize("both", [True, False])
def test_an_epoch_reads_every_label_once_after_a_warm_up(both: bool) -> None:
    crops = crops_of(90, np.arange(0, 90, 2), both=both, generator=torch.Generator().manual_seed(0))
    batches = crops.with_batches(4)
    for _ in range(3):
        read = []
        epoch = list(batches)
        assert len(epoch) == len(batches)
        for batch in epoch:
            crop, sample = batch.at
            read.append(batch.target)
            length = torch.full((len(batch.u),), batch.u.shape[1])
            if batch.dt is not None:
                length = (batch.dt > 0).sum(dim=1)
            # Inputs are numbers of samples, but for their scale.
            first = (batch.u[crop, sample, 0] - batch.u[crop, 0, 0]) * crops.data.u[:, 0].diff()[
                0
            ].reciprocal()
            torch.testing.assert_close(first.round().long(), sample)
            begins = torch.isin(batch.target - sample, torch.tensor([0, 30]))
            assert bool((begins | (sample >= 3)).all())
            if both:
                ends = torch.isin(batch.target - sample + length[crop], torch.tensor([30, 90]))
                assert bool((ends | (sample < length[crop] - 3)).all())
        assert torch.cat(read).sort().values.equal(torch.arange(0, 90, 2))


def test_every_label_counts_alike() -> None:
    """Whatever batch it is in: the weights of a mean over a batch undo the number of its labels."""
    crops = crops_of(90, np.r_[0:20, 80:82], generator=torch.Generator().manual_seed(0)).with_batches(2)
    for batch in crops:
        each = batch.weight / len(batch.target) / len(crops)
        torch.testing.assert_close(each, torch.full_like(each, 1 / 22))


def test_rare_classes_are_seen_and_weigh_what_they_are() -> None:
    rows = np.arange(3000)
    classes = torch.as_tensor((rows == 2000).astype(int))
    crops = crops_of(
        3000, rows, classes=classes, rare=0.5, generator=torch.Generator().manual_seed(0)
    ).with_batches(32)
    seen, weight, total = 0, 0.0, 0.0
    for _ in range(10):
        for batch in crops:
            rare = batch.target == 2000
            seen += int(rare.sum())
            weight += float(batch.weight[rare].sum())
            total += float(batch.weight.sum())
    assert seen > 500  # ten, if crops came as they are
    assert weight == pytest.approx(10, rel=0.05)
    assert total == pytest.approx(30_000, rel=0.1)


def test_long_recordings_are_cut_in_training_and_whole_in_prediction() -> None:
    X = np.random.default_rng(0).normal(size=(2, 1, 700))
    y = np.sign(X[:, 0])
    for lookahead in (0, 5, None):
        clf = SSMSequenceClassifier(lookahead=lookahead, crop_length=64, rare_classes=0.3, **TINY).fit(X, y)
        assert clf.predict(X).shape == (2, 700)
