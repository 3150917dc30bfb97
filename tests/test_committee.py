"""Networks trained as one, each without a fold of its own."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from tsssm.backbone import Backbone
from tsssm.encoding import PanelEncoder
from tsssm.panel import Panel
from tsssm.training import Batches, Committee, TrainingOptions, predict, predict_left_out, train

CPU = torch.device("cpu")


def cross_entropy(outputs, target):
    return F.cross_entropy(outputs, target, reduction="none")


def test_a_member_learns_nothing_from_its_fold():
    """Another label of series 0 makes another network of every member but the one that leaves it out."""
    panel = Panel.from_numpy(np.random.default_rng(0).normal(size=(24, 1, 6)))
    data, fold = PanelEncoder().fit(panel).encode(panel), torch.arange(24) % 3
    target = torch.arange(24) // 2 % 2

    def trained(target):
        torch.manual_seed(0)
        net = Committee([Backbone(1, 2, n_layers=1, d_model=4, d_state=4) for _ in range(3)])
        generator = torch.Generator().manual_seed(0)
        batches = Batches(data, target, batch_size=8, generator=generator, fold=fold)
        train(net, cross_entropy, batches, TrainingOptions(max_epochs=2, accelerator="cpu"))
        return net.members

    other = target.clone()
    other[0] = 1 - other[0]
    for number, members in enumerate(zip(trained(target), trained(other), strict=True)):
        pairs = zip(*(member.parameters() for member in members), strict=True)
        assert all(torch.equal(*pair) for pair in pairs) == (number == fold[0])


def test_the_committee_is_the_mean_of_its_members_and_knows_who_left_what_out():
    torch.manual_seed(0)
    members = [Backbone(1, 2, n_layers=1, d_model=4, d_state=4).eval() for _ in range(2)]
    lengths = np.array([5, 9, 7, 3, 6])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    panel = Panel(np.random.default_rng(0).normal(size=(offsets[-1], 1)), offsets)
    data = PanelEncoder().fit(panel).encode(panel)
    committee, fold = Committee(members).eval(), torch.tensor([1, 0, -1, 1, 0])
    each = torch.stack([predict(member, data, CPU) for member in members])
    torch.testing.assert_close(predict(committee, data, CPU), each.mean(dim=0))
    left_out = predict_left_out(committee, data, fold, CPU)
    for i, number in enumerate(fold.tolist()):
        if number < 0:
            assert left_out[i].isnan().all()
        else:
            torch.testing.assert_close(left_out[i], each[number, i])


def test_parameter_groups_hold_every_parameter_once():
    members = [Backbone(1, 2, n_layers=1, d_model=4, d_state=4) for _ in range(3)]
    committee = Committee(members)
    groups, alone = committee.parameter_groups(0.1, 0.01, 0.5), members[0].parameter_groups(0.1, 0.01, 0.5)
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(g["lr"], g["weight_decay"]) for g in alone]
    found = [id(p) for group in groups for p in group["params"]]
    assert sorted(found) == sorted(map(id, committee.parameters()))
