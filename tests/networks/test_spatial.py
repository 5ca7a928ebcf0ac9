"""The spatial network: nearest rows, kernel smoothing, kriging, and the members that use them."""

import math

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from torch import Tensor

from triptych.networks.kriging import LocalKriging
from triptych.networks.nearest import NearestRows, Neighbours
from triptych.networks.packed import PackedMlp
from triptych.networks.smoothing import KernelSmoother
from triptych.networks.spatial import Spatial

PLACE, SIMILAR = (0, 1), (2, 3)


def remembered(rows: Tensor, targets: Tensor, count: int, aspect: float = 1.0) -> NearestRows:
    nearest = NearestRows(rows.shape[1], PLACE, SIMILAR, count, aspect)
    nearest.fit(rows, targets)
    return nearest


def town(count: int = 60) -> tuple[Tensor, Tensor]:
    """Rows with coordinates, two similarity columns and one more, (count, 5); and their targets (count,)."""
    rows = torch.randn(count, 5, generator=torch.Generator().manual_seed(0))
    return rows, rows[:, 0] + rows[:, 2]


def test_neighbours_are_ordered_by_distance():
    rows = torch.zeros(4, 5)
    rows[:, 0] = torch.tensor([0.0, 3.0, 1.0, -2.0])
    near = remembered(rows, torch.tensor([10.0, 13.0, 11.0, 12.0]), 3).eval()(torch.tensor([[0.1, 0, 0, 0, 0]]))
    assert near.targets.tolist() == [[10, 11, 12]]
    torch.testing.assert_close(near.distances, torch.tensor([[0.1, 0.9, 2.1]]))


def test_the_aspect_scales_the_first_coordinate():
    rows = torch.zeros(3, 5)
    rows[1, 0], rows[2, 1] = 3, 2
    rows[0, 4] = 9
    row = torch.zeros(1, 5)
    assert remembered(rows, torch.tensor([0.0, 1, 2]), 2).eval()(row).targets.tolist() == [[0, 2]]
    near = remembered(rows, torch.tensor([0.0, 1, 2]), 2, aspect=0.5).eval()(row)
    assert near.targets.tolist() == [[0, 1]]
    torch.testing.assert_close(near.distances, torch.tensor([[0, 1.5]]))


def test_at_equal_distance_similar_rows_come_first():
    rows = torch.zeros(4, 5)
    rows[:, 2] = torch.tensor([2.0, 0.5, -1.0, 3.0])
    assert remembered(rows, torch.arange(4.0), 2).eval()(torch.zeros(1, 5)).targets.tolist() == [[1, 2]]


@pytest.mark.parametrize("noise", [0, 1e-3])
def test_in_training_a_row_is_not_its_own_neighbour(noise: float):
    rows, _ = town()
    nearest = remembered(rows, torch.arange(60.0), 8).train()
    assert not (nearest(rows + noise * torch.randn(60, 5)).targets == torch.arange(60.0)[:, None]).any()


def test_in_training_a_row_is_not_its_own_neighbour_in_bfloat16():
    rows = torch.randn(2000, 8, generator=torch.Generator().manual_seed(0))
    nearest = remembered(rows, torch.arange(2000.0), 8).train()
    with torch.autocast("cpu", torch.bfloat16):
        assert not (nearest(rows).targets == torch.arange(2000.0)[:, None]).any()


def test_place_needs_two_coordinates():
    with pytest.raises(ValueError, match=r"model\.columns\.place: 1 columns"):
        NearestRows(4, [0], SIMILAR, 8)


def test_in_evaluation_only_an_identical_row_is_left_out():
    rows, _ = town()
    nearest = remembered(rows, torch.arange(60.0), 8).eval()
    assert not (nearest(rows + 1e-6).targets == torch.arange(60.0)[:, None]).any()
    moved = rows.clone()
    moved[:, 4] += 1e-3
    assert (nearest(moved).targets[:, 0] == torch.arange(60.0)).all()


def test_few_rows_are_all_neighbours():
    rows, targets = town(5)
    near = remembered(rows, targets, 64).train()(rows)
    assert near.rows.shape == (5, 4, 5 + NearestRows.SPACINGS)


def test_spacings_are_appended_to_a_row_and_its_neighbours():
    rows, targets = town()
    nearest = remembered(rows, targets, 20)
    near = nearest.train()(rows)
    assert torch.equal(near.row[:, :5], rows)
    torch.testing.assert_close(near.row[:, 5:].mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(near.row[:, 5:].std(dim=0, correction=0), torch.ones(3))
    raw = (near.distances[:, [3, 15, 19]] + 1e-3).log()
    torch.testing.assert_close(near.row[:, 5:] * nearest.deviation + nearest.mean, raw)
    first = (rows == near.rows[0, 0, :5]).all(dim=1).nonzero().item()
    torch.testing.assert_close(near.rows[0, 0, 5:], near.row[first, 5:])


def neighbourhood(count: int = 12) -> Neighbours:
    rows, targets = town(count + 1)
    return remembered(rows, targets, count).train()(rows)


def test_a_narrow_kernel_gives_the_nearest_and_a_wide_one_the_mean():
    near = neighbourhood()
    smoother = KernelSmoother(SIMILAR, heads=2, neighbours=10)
    smoother.place.start.copy_(torch.tensor([1e-4, 1e4]))
    smoother.likeness.start.fill_(math.exp(9))
    out = smoother(near)
    assert out.shape == (13, smoother.out_features)
    targets = near.targets[:, :10]
    torch.testing.assert_close(out[:, :2], torch.stack([targets[:, 0], targets.mean(dim=1)], dim=1), atol=1e-3, rtol=0)
    torch.testing.assert_close(out[:, 3], targets.std(dim=1, correction=0), atol=1e-3, rtol=0)
    # The concentration of the weights: one neighbour has all the weight, or ten have a tenth each.
    torch.testing.assert_close(out[:, 4:6].mean(dim=0), torch.tensor([1.0, 1 - math.log(10) / 2]), atol=1e-3, rtol=0)
    mean = near.row[:, SIMILAR] - near.rows[:, :10, SIMILAR].mean(dim=1)
    torch.testing.assert_close(out[:, 8:], mean, atol=1e-3, rtol=0)


def test_a_similarity_kernel_gives_the_most_similar_row():
    near = neighbourhood()
    smoother = KernelSmoother(SIMILAR, heads=1, neighbours=12)
    smoother.place.start.fill_(math.exp(9))
    smoother.likeness.start.fill_(math.exp(-6))
    apart = (near.row[:, None, SIMILAR] - near.rows[..., SIMILAR]).square().sum(dim=2)
    alike = near.targets.gather(1, apart.argmin(dim=1, keepdim=True))
    torch.testing.assert_close(smoother(near)[:, :1], alike, atol=1e-3, rtol=0)


def test_kriging_equals_scikit_learns_gaussian_process():
    near = neighbourhood()
    kriging = LocalKriging(8, PLACE, SIMILAR, neighbours=12, features=1).eval()
    for component in (kriging.amplitude, kriging.slope):
        component.start.zero_()
    kriging.amplitude.start[1], kriging.length.start[1], kriging.noise.start[0] = 0.8, 0.7, 0.3
    kriging.scale.start.fill_(1e6)
    # The constant kernel is the unknown mean, of variance 1.
    kernel = ConstantKernel(1.0) + ConstantKernel(0.64) * Matern(0.7, nu=0.5) + WhiteKernel(0.09 + kriging.JITTER)
    expected = []
    for place, rows, targets in zip(near.row[:, PLACE], near.rows[..., PLACE], near.targets, strict=True):
        process = GaussianProcessRegressor(kernel, optimizer=None, alpha=0).fit(rows.numpy(), targets.numpy())
        expected.append(process.predict(place[None].numpy())[0])
    np.testing.assert_allclose(kriging(near).detach(), expected, atol=2e-3)


def test_kriging_learns_a_trend_and_its_noise():
    torch.manual_seed(0)
    near = neighbourhood(40)
    target = 3 * near.row[:, 3]
    near = near._replace(targets=3 * near.rows[..., 3])
    kriging = LocalKriging(8, PLACE, SIMILAR, neighbours=8)
    before = (kriging(near) - target).square().mean()
    optimizer = torch.optim.Adam(kriging.parameters(), 0.003)
    for _ in range(60):
        optimizer.zero_grad()
        loss = (kriging(near) - target).square().mean()
        loss.backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in kriging.parameters())
    assert loss < 0.1 * before


def test_kriging_computes_in_single_precision():
    near = neighbourhood()
    kriging = LocalKriging(8, PLACE, SIMILAR).eval()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(kriging(near), kriging(near))
        assert kriging(near).dtype == torch.float32


def own(packed: PackedMlp, name: str, member: int) -> Tensor:
    """The parameters of one member, by the name in a network of a single member: a slice, or one norm of a list."""
    state = packed.state_dict()
    values = state[name]
    return values[member : member + 1] if values.ndim == 3 else state[name.replace(".0.", f".{member}.")]


@pytest.mark.parametrize("norm", ["none", "batch", "layer", "group"])
def test_packed_members_equal_separate_mlps(norm: str):
    packed = PackedMlp(6, members=3, width=16, depth=2, norm=norm).eval()
    x = torch.randn(7, 6)
    together = packed(x)
    alone = PackedMlp(6, members=1, width=16, depth=2, norm=norm).eval()
    for member in range(3):
        alone.load_state_dict({name: own(packed, name, member) for name in alone.state_dict()})
        torch.testing.assert_close(alone(x)[:, 0], together[:, member])


@pytest.mark.parametrize(("members", "krigings", "outputs"), [(4, 0, 4), (0, 2, 2), (4, 3, 24)])
def test_members_and_krigings_have_equal_weight(members: int, krigings: int, outputs: int):
    network = Spatial(5, PLACE, SIMILAR, members=members, krigings=krigings, width=8, depth=1, kriged=8).eval()
    rows, targets = town()
    network.fit(rows, targets)
    out = network(rows[:6] + 0.1)
    assert out.shape == (6, outputs)
    if members and krigings:
        halves = out[:, :12].mean(dim=1), out[:, 12:].mean(dim=1)
        near = network.nearest(rows[:6] + 0.1)
        kriged = torch.stack([kriging(near) for kriging in network.krigings]).mean(dim=0)
        torch.testing.assert_close(halves[1], kriged)
        torch.testing.assert_close(out.mean(dim=1), (halves[0] + halves[1]) / 2)


def test_zero_members_and_krigings_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        Spatial(5, PLACE, SIMILAR, members=0, krigings=0)


def test_the_state_dict_restores_the_remembered_rows():
    options = {"members": 2, "width": 8, "depth": 1, "bins": 4, "kriged": 8}
    rows, targets = town()
    network = Spatial(5, PLACE, SIMILAR, **options).eval()
    network.fit(rows, targets)
    again = Spatial(5, PLACE, SIMILAR, **options).eval()
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(rows), network(rows))


def test_a_row_does_not_see_its_own_target():
    rows, targets = town()
    network = Spatial(5, PLACE, SIMILAR, members=2, width=8, depth=1, kriged=8).eval()
    network.fit(rows, targets)
    before = network(rows)
    network.nearest.targets[0] += 100
    changed = (network(rows) != before).any(dim=1)
    assert not changed[0]
    assert changed[1:].any()
