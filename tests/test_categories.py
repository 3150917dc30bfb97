"""Channels whose numbers are names: one input for each value, in batches, streams, files and along time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone

from tsssm import Panel, SSMClassifier, SSMRegressor, SSMSequenceClassifier, Stream, load
from tsssm.encoding import PanelEncoder
from tsssm.exporting import ExportError, to_onnx
from tsssm.inspection import attribute

TINY = {"n_layers": 1, "d_model": 8, "d_state": 4, "max_steps": 3, "random_state": 0}
CODES = np.array([3.0, 7.0, 200.0])


def events(seed=0, n=20, gaps=True, names=("code", "level")):
    """Codes of events beside a level, at times of their own; some of either missing."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, 12, size=n)
    total = int(lengths.sum())
    values = np.column_stack([rng.choice(CODES, size=total), rng.normal(size=total)])
    values[rng.random(total) < 0.2, 0] = np.nan
    if gaps:
        values[rng.random(total) < 0.2, 1] = np.nan
    times = np.concatenate([np.cumsum(rng.exponential(size=length)) for length in lengths])
    return Panel(values, np.cumsum([0, *lengths]), times, names)


def expanded(panel):
    """The inputs of `events` by hand: level, and one column a code."""
    code, level = panel.values.T
    return np.column_stack([level, code == 3.0, code == 7.0, code == 200.0]).astype(np.float32)


class TestEncoder:
    def test_one_input_a_value(self):
        panel = events(gaps=False)
        encoder = PanelEncoder(categorical=["code"]).fit(panel)
        assert not encoder.missing and encoder.n_inputs == 4
        data = encoder.encode(panel)
        expected = expanded(panel)
        expected[:, 0] = (expected[:, 0] - encoder.mean[1]) / encoder.std[1]
        rows = torch.arange(len(panel.values))
        np.testing.assert_allclose(data.inputs(rows).numpy(), expected, atol=1e-6)
        u, dt = data.batch(torch.arange(3))
        for i in range(3):
            part = slice(*panel.offsets[i : i + 2])
            np.testing.assert_allclose(u[i, : panel.lengths[i]].numpy(), expected[part], atol=1e-6)
            assert not u[i, panel.lengths[i] :].any() and not dt[i, panel.lengths[i] :].any()

    def test_values_that_training_did_not_have_count_as_missing(self):
        encoder = PanelEncoder(categorical=[0]).fit(events(gaps=False))
        other = Panel(
            np.array([[5.0, 0.0], [np.nan, 0.0], [7.0, 0.0]]), [0, 3], np.arange(3.0), ("code", "level")
        )
        found = encoder.encode(other).inputs(torch.arange(3))[:, 1:]
        assert found.tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]

    def test_missing_levels_have_their_inputs_and_codes_none(self):
        encoder = PanelEncoder(categorical=["code"]).fit(events())
        assert encoder.missing and encoder.n_inputs == 3 + 3

    def test_nothing_but_codes(self):
        panel = events().select(["code"])
        encoder = PanelEncoder(categorical=["code"]).fit(panel)
        assert encoder.n_inputs == 3 and encoder.encode(panel).batch(torch.arange(2)).u.shape[2] == 3

    @pytest.mark.parametrize(
        ("categorical", "error", "told"),
        [
            (["kind"], ValueError, r"names channel 'kind'; X has the channels \['code', 'level'\]"),
            ([2], ValueError, "names channel 2, but X has 2 channel"),
            ([0, "code"], ValueError, "must name each channel once"),
            ([1.5], TypeError, "names or numbers of channels; got 1.5"),
            ([True], TypeError, "got True"),
        ],
        ids=["name", "number", "twice", "float", "flag"],
    )
    def test_refused(self, categorical, error, told):
        with pytest.raises(error, match=told):
            PanelEncoder(categorical=categorical).fit(events())

    def test_too_many_values(self):
        panel = Panel(np.arange(5000.0)[:, None], [0, 2500, 5000])
        with pytest.raises(
            ValueError,
            match="0, which has 5000 distinct values; a categorical channel may have 1 to 4096",
        ):
            PanelEncoder(categorical=[0]).fit(panel)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_equal_to_indicators_by_hand(bidirectional):
    """The same network on one-hot channels, which the encoder only shifts and scales."""
    panel, y = events(gaps=False), np.arange(20) % 2
    options = {**TINY, "n_members": 1, "n_features": 0, "bidirectional": bidirectional}
    clf = SSMClassifier(**options, categorical=["code"]).fit(panel, y)
    by_hand = Panel(expanded(panel), panel.offsets, panel.times)
    other = SSMClassifier(**options).fit(by_hand, y)
    scale, shift = torch.as_tensor(other.encoder_.std).float(), torch.as_tensor(other.encoder_.mean).float()
    own = clf.net_.encoder
    weights = dict(clf.net_.state_dict())
    # What standardising does to an input, its weight undoes; the level is standardised in both.
    factor, centre = scale.clone(), shift.clone()
    factor[0], centre[0] = 1.0, 0.0
    weights["encoder.weight"] = own.weight * factor
    weights["encoder.bias"] = own.bias + own.weight @ centre
    other.net_.load_state_dict(weights)
    np.testing.assert_allclose(other.predict_proba(by_hand), clf.predict_proba(panel), atol=1e-5)


class TestEstimators:
    @pytest.mark.parametrize("backbone", ["s4d", "s4"])
    def test_stream_equals_predict(self, backbone):
        panel, y = events(), np.arange(20) % 2
        clf = SSMClassifier(backbone, **TINY, bidirectional=False, categorical=["code"]).fit(panel, y)
        later = events(seed=5)
        for i in range(3):
            stream = Stream(clf)
            for value, time in zip(later[i].values, later[i].times, strict=True):
                proba = stream.push(value, time)
            np.testing.assert_allclose(proba, clf.predict_proba(later[i : i + 1])[0], atol=1e-5)

    def test_files_and_clones(self, tmp_path):
        panel = events()
        reg = SSMRegressor(**TINY, categorical=("code",)).fit(panel, np.arange(20.0))
        assert reg.closed_form_ is None and reg.encoder_.n_inputs == 6
        expected = reg.predict(events(seed=3))
        reg.save(tmp_path / "model.safetensors")
        loaded = load(tmp_path / "model.safetensors")
        np.testing.assert_array_equal(loaded.predict(events(seed=3)), expected)
        np.testing.assert_array_equal(
            clone(loaded).fit(panel, np.arange(20.0)).predict(events(seed=3)), expected
        )

    def test_codes_decide(self):
        """Whether 7 comes after 3 is said by nothing but the codes, whose size means nothing."""
        rng = np.random.default_rng(0)
        X = rng.choice([1.0, 2.0, 9.0], size=(80, 1, 12))
        y = np.arange(80) % 2
        X[:, 0, 4], X[:, 0, 6] = np.where(y, 3.0, 7.0), np.where(y, 7.0, 3.0)
        options = {"n_layers": 2, "d_model": 16, "max_steps": 120, "random_state": 0, "n_members": 1}
        clf = SSMClassifier(**options, categorical=[0], learning_rate=1e-2).fit(X[:60], y[:60])
        assert clf.score(X[60:], y[60:]) >= 0.9

    def test_labels_along_time(self):
        panel = events()
        y = [np.nan_to_num(part.values[:, 0]).astype(int) for part in panel]
        clf = SSMSequenceClassifier(
            **{**TINY, "max_steps": 60}, categorical=["code"], learning_rate=2e-2
        ).fit(panel, y)
        assert clf.score(panel, y) > 0.9

    def test_no_closed_form_and_no_onnx(self, tmp_path):
        panel, y = events(), np.arange(20) % 2
        with pytest.raises(
            ValueError, match="n_features must be 'auto' or 0 with categorical channels; got 384"
        ):
            SSMClassifier(**TINY, categorical=["code"], n_features=384).fit(panel, y)
        clf = SSMClassifier(**TINY, categorical=["code"]).fit(panel, y)
        with pytest.raises(ExportError, match="Categorical channels cannot be exported"):
            to_onnx(clf, tmp_path / "model.onnx")
        with pytest.raises(ValueError, match="Categories have no gradients: use method='shapley'"):
            attribute(clf, panel[:1], method="integrated_gradients")
        assert np.abs(attribute(clf, panel[:1], spans=3, n_permutations=2).delta).max() < 1e-5
