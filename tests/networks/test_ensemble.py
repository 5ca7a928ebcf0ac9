import torch
from tests.tiny import classifier
from torch import nn

from triptych.networks.ensemble import Ensemble


def test_each_member_has_an_output_column():
    members = [nn.Linear(3, 1) for _ in range(4)]
    rows = torch.rand(5, 3)
    assert torch.equal(Ensemble(members)(rows), torch.cat([member(rows) for member in members], dim=1))


def test_members_start_from_different_weights():
    first, second = classifier(members=2).network
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(not torch.equal(one, other) for one, other in pairs if one.ndim > 1)
