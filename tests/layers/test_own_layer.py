"""A layer from outside, made by the recipe of CONTRIBUTING ("How to add a layer") and by nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contract import LayerContract, maker
from torch import Tensor, nn

from tsssm import SSMClassifier, Stream, load
from tsssm.backbone import BACKBONES, LayerChoice
from tsssm.layers import SSMLayer
from tsssm.layers.base import log_uniform_steps
from tsssm.ops import reversed_gaps


class Relaxation(SSMLayer):
    """Systems that forget at N / 2 rates, x' = -r x + B u and y = 2 Re(C x) + D u, by zero-order hold."""

    system_names = ("log_dt", "log_rate", "B")
    method = "zoh"

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        bidirectional: bool = False,
        method: str = "zoh",
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
    ) -> None:
        super().__init__(d_model, d_state, bidirectional=bidirectional)
        modes = self.d_state // 2
        self.log_dt = nn.Parameter(log_uniform_steps(d_model, dt_min, dt_max))
        self.log_rate = nn.Parameter(torch.linspace(-2, 2, modes).repeat(d_model, 1))
        self.B = nn.Parameter(torch.randn(d_model, modes, 2))
        self.C = nn.Parameter(torch.randn(1 + bidirectional, d_model, modes, 2) / modes)
        self.D = nn.Parameter(torch.randn(d_model))

    def eigenvalues(self) -> Tensor:
        return torch.complex(-self.log_rate.exp(), torch.zeros_like(self.log_rate))

    def poles(self) -> Tensor:
        return self.eigenvalues() * self.log_dt.exp()[:, None]

    def initial_state(self, batch: int) -> Tensor:
        return torch.zeros(batch, *self.log_rate.shape, dtype=self.eigenvalues().dtype, device=self.D.device)

    def _run(
        self, u: Tensor, dt: Tensor | None, state: Tensor | None, need_state: bool
    ) -> tuple[Tensor, Tensor]:
        dt = u.new_ones(u.shape[:2]) if dt is None else dt
        y, end = self._pass(u, dt, self.initial_state(len(u)) if state is None else state, 0)
        if self.bidirectional:
            turned = reversed_gaps(dt).flip(1)
            y = y + self._pass(u.flip(1), turned, self.initial_state(len(u)), 1)[0].flip(1)
        return (y + self.D * u).to(u.dtype), end

    def _pass(self, u: Tensor, dt: Tensor, x: Tensor, direction: int) -> tuple[Tensor, Tensor]:
        B, C = torch.view_as_complex(self.B), torch.view_as_complex(self.C)[direction]
        outputs = []
        for u_t, gap in zip(u.unbind(1), dt.unbind(1), strict=True):
            grown = torch.expm1(self.poles() * gap[:, None, None])
            x = x + grown * x + grown / self.eigenvalues() * B * u_t[..., None]
            outputs.append(2 * (C * x).sum(-1).real)
        return torch.stack(outputs, 1), x


@pytest.mark.parametrize("make", [maker(Relaxation)])
class TestContract(LayerContract):
    pass


def test_estimators_take_it_by_its_name(monkeypatch, tmp_path) -> None:
    with pytest.raises(ValueError, match="backbone must be one of .*; got 'relaxation'"):
        SSMClassifier(backbone="relaxation").fit(np.zeros((4, 5)), [0, 1, 0, 1])
    monkeypatch.setitem(BACKBONES, "relaxation", LayerChoice(Relaxation, ("zoh",)))
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 2, 12)), np.repeat([0, 1], 10)
    X[y == 1] += np.linspace(0, 2, 12)
    settings = {"n_features": 0, "n_layers": 1, "d_model": 4, "d_state": 4, "max_steps": 60}
    clf = SSMClassifier("relaxation", bidirectional=False, n_members=2, random_state=0, **settings).fit(X, y)
    assert clf.score(X, y) >= 0.9
    stream = Stream(clf)
    for sample in X[0].T:
        now = stream.push(sample)
    np.testing.assert_allclose(now, clf.predict_proba(X[:1])[0], atol=1e-5)
    clf.save(tmp_path / "model.safetensors")
    assert np.array_equal(load(tmp_path / "model.safetensors").predict_proba(X), clf.predict_proba(X))
