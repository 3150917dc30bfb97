"""Batches shared by several processes, and panels that stay on the disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tsssm import Panel, SSMClassifier, SSMRegressor
from tsssm.encoding import EncodedOnDemand, PanelEncoder, _encoded
from tsssm.training import Batches
from tsssm.training._batches import BatchShares


def encoded(n: int):
    panel = Panel(np.arange(3.0 * n)[:, None], np.arange(0, 3 * n + 1, 3))
    return PanelEncoder().fit(panel).encode(panel)


# Shares of a batch


def shares_of(n, batch_size, count, weight):
    target = torch.arange(n, dtype=torch.float32)
    processes = []
    for rank in range(count):
        generator = torch.Generator().manual_seed(5)
        batches = Batches(encoded(n), target, weight, batch_size=batch_size, generator=generator)
        share = BatchShares(batches, lambda rank=rank: (rank, count))
        assert len(share) == len(batches)
        processes.append(list(share))
    generator = torch.Generator().manual_seed(5)
    whole = list(Batches(encoded(n), target, weight, batch_size=batch_size, generator=generator))
    return whole, processes


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "batch_size", "count"), [(12, 6, 2), (25, 7, 2), (20, 5, 3), (9, 9, 4)])
def test_the_mean_over_processes_is_that_of_the_whole_batch(n, batch_size, count, weighted):
    weight = torch.linspace(0.5, 2.0, n) if weighted else None
    whole, processes = shares_of(n, batch_size, count, weight)
    for batch, *shares in zip(whole, *processes, strict=True):
        seen = torch.cat([share.target for share in shares])
        assert sorted(seen.tolist()) == sorted(batch.target.tolist())
        # Any loss of a series will do: here the square of its target.
        losses = batch.target.square() * (1 if batch.weight is None else batch.weight)
        means = [(share.target.square() * share.weight).mean() for share in shares]
        torch.testing.assert_close(torch.stack(means).mean(), losses.mean(), rtol=1e-6, atol=0)  # float32


def test_a_share_holds_the_inputs_of_its_series():
    _, (first, second) = shares_of(12, 6, 2, None)
    everything = encoded(12)
    for share in (*first, *second):
        assert torch.equal(share.u, everything.batch(share.target.long()).u)


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(ValueError, match="A batch of 2 series cannot be shared by 3 processes.*batch_size"):
        shares_of(4, 2, 3, None)


# Panels on the disk


@pytest.fixture
def pieces(monkeypatch):
    """Work on a few series at a time."""
    monkeypatch.setattr(_encoded, "_PIECE", 50)


def on_disk(panel: Panel, folder: Path) -> Panel:
    """The same panel with values in a file."""
    np.save(folder / "values.npy", panel.values)
    values = np.load(folder / "values.npy", mmap_mode="r")
    return Panel(values, panel.offsets, panel.times)


def ragged(times: bool, missing: bool) -> Panel:
    rng = np.random.default_rng(3)
    lengths = rng.integers(4, 15, size=30)
    series = [rng.normal(size=(2, length)) + rng.normal() for length in lengths]
    if missing:
        for number, x in enumerate(series):
            x[0, number % 3] = np.nan
            x[:, -1] = np.nan  # a sample that is missing altogether
    stamps = [np.cumsum(rng.uniform(0.2, 2.0, size=length)) for length in lengths]
    return Panel.from_arrays(series, stamps if times else None)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("times", [False, True])
def test_encoding_on_demand_is_encoding(times, missing, pieces, tmp_path):
    panel = ragged(times, missing)
    mapped = on_disk(panel, tmp_path)
    encoder = PanelEncoder().fit(mapped)
    assert vars(encoder).keys() == vars(PanelEncoder().fit(panel)).keys()
    whole, parts = encoder.encode(panel), encoder.encode(mapped)
    assert isinstance(parts, EncodedOnDemand) and len(parts) == len(whole) == 30
    torch.testing.assert_close(parts.durations(), whole.durations(), rtol=1e-12, atol=0)  # float64
    for rows in ([3], [7, 2, 2, 19], list(range(30))):
        found, expected = parts.batch(torch.tensor(rows)), whole.batch(torch.tensor(rows))
        assert torch.equal(found.u, expected.u)
        assert (found.dt is None) == (expected.dt is None)
        assert found.dt is None or torch.equal(found.dt, expected.dt)


def test_moments_of_pieces_are_those_of_the_whole(pieces):
    panel = ragged(times=True, missing=True)
    encoder = PanelEncoder().fit(panel)
    values = panel.values.astype(np.float64)
    np.testing.assert_allclose(encoder.mean, np.nanmean(values, axis=0), rtol=1e-12)
    np.testing.assert_allclose(encoder.std, np.nanstd(values, axis=0), rtol=1e-7)  # deviations in float32
    gaps = panel.drop_missing_rows().gaps()
    assert encoder.time_scale_ == np.nanmedian(gaps)


@pytest.mark.parametrize("estimator", [SSMClassifier, SSMRegressor])
def test_a_fit_from_the_disk_is_the_fit_from_memory(estimator, tiny, pieces, tmp_path):
    panel = ragged(times=True, missing=True)
    y = np.arange(30) % 2
    mapped = on_disk(panel, tmp_path)
    (tmp_path / "state").mkdir()
    options = {"early_stopping": True, "checkpoint_dir": tmp_path / "state"}
    found = estimator(**tiny, **options).fit(mapped, y)
    expected = estimator(**tiny, **options).fit(panel, y)
    np.testing.assert_array_equal(found.predict(panel), expected.predict(panel))
    assert found.loss_curve_ == pytest.approx(expected.loss_curve_, rel=1e-6)  # float32
    np.testing.assert_array_equal(found.predict(mapped), found.predict(panel))


def test_arrays_in_memory_are_not_encoded_on_demand():
    panel = ragged(times=False, missing=False)
    encoder = PanelEncoder().fit(panel)
    for other in (panel, panel[3:9], panel[[5, 2]]):
        assert not isinstance(encoder.encode(other), EncodedOnDemand)
