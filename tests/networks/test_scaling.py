import math

import pytest
import torch
from sklearn.preprocessing import MinMaxScaler, QuantileTransformer, StandardScaler

from triptych.networks.scaling import SCALINGS, InputScaler, TargetScaler

NAN = math.nan


def fitted(kind: str, x: torch.Tensor) -> InputScaler:
    scaler = InputScaler(x.shape[1], kind)
    scaler.fit(x)
    return scaler


@pytest.fixture
def table() -> torch.Tensor:
    """Three columns: one like longitude, one with a heavy tail, one with missing values."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(2000, 3, generator=generator)
    table = torch.stack([normal[:, 0] - 119.5, 1400 * normal[:, 1].exp(), 3 * normal[:, 2]], dim=1)
    table[::7, 2] = NAN
    return table


@pytest.mark.parametrize(("kind", "reference"), [("standard", StandardScaler()), ("minmax", MinMaxScaler())])
def test_agrees_with_scikit_learn(kind: str, reference, table: torch.Tensor):
    ours = fitted(kind, table)(table)
    theirs = torch.from_numpy(reference.fit_transform(table.double().numpy())).float()
    present = ~table.isnan()
    torch.testing.assert_close(ours[present], theirs[present], atol=1e-4, rtol=1e-4)


def test_minmax_ends_are_exactly_0_and_1(table: torch.Tensor):
    scaled = fitted("minmax", table)(table)
    assert scaled.amin(0).tolist() == [0, 0, 0]
    assert scaled.amax(0).tolist() == [1, 1, 1]


def test_quantile_agrees_with_scikit_learn(table: torch.Tensor):
    complete = table[:, :2]
    reference = QuantileTransformer(n_quantiles=256, output_distribution="normal", subsample=None)
    theirs = torch.from_numpy(reference.fit_transform(complete.double().numpy())).float()
    ours = fitted("quantile", complete)(complete)
    assert (ours - theirs).abs().quantile(0.99) < 1e-3
    assert ours.abs().max() < 5.21
    torch.testing.assert_close(ours.std(dim=0), torch.ones(2), atol=0.05, rtol=0)


def test_quantile_keeps_the_order_and_clamps_outside_the_training_range(table: torch.Tensor):
    scaler = fitted("quantile", table)
    assert (scaler(table.nan_to_num().sort(dim=0).values).diff(dim=0) >= 0).all()
    beyond = scaler(torch.tensor([[-1e9] * 3, [1e9] * 3]))
    torch.testing.assert_close(beyond, torch.tensor([[-5.2] * 3, [5.2] * 3]), atol=0.05, rtol=0)


def test_quantile_gives_ties_the_middle_of_their_ranks():
    capped = torch.cat([torch.linspace(0, 1, 801), torch.full((200,), 1.0)])[:, None]  # the top fifth are ties
    scaled = fitted("quantile", capped)(torch.tensor([[1.0], [0.5]]))
    normal = torch.distributions.Normal(0.0, 1.0)
    expected = normal.icdf(torch.tensor([[0.9], [0.4]]))
    torch.testing.assert_close(scaled, expected, atol=0.02, rtol=0)


@pytest.mark.parametrize("kind", SCALINGS)
def test_missing_values_become_the_training_median(kind: str):
    scaler = fitted(kind, torch.tensor([[1.0, 5.0], [2.0, NAN], [10.0, 7.0], [NAN, 30.0]]))
    assert scaler.median.tolist() == [2.0, 7.0]
    torch.testing.assert_close(scaler(torch.tensor([[NAN, NAN]])), scaler(torch.tensor([[2.0, 7.0]])))


def test_log_transforms_only_skewed_positive_columns(table: torch.Tensor):
    scaler = fitted("log", table)
    assert scaler.logarithmic.tolist() == [False, True, False]
    logs = torch.cat([table[:, :1], table[:, 1:2].log(), table[:, 2:]], dim=1)
    torch.testing.assert_close(scaler(table), fitted("standard", logs)(logs), atol=1e-4, rtol=1e-4)


def test_log_clamps_to_the_training_minimum_and_to_5_deviations(table: torch.Tensor):
    scaler = fitted("log", table)
    low = table[:, 1].min()
    below, above = scaler(torch.tensor([[-119.5, 0.0, 0.0], [-119.5, 1e12, 1e12]]))
    assert below[1] == scaler(torch.tensor([[-119.5, low, 0.0]]))[0, 1]
    assert above[1:].tolist() == [5, 5]


def test_none_leaves_present_values_unchanged(table: torch.Tensor):
    present = ~table.isnan()
    assert torch.equal(fitted("none", table)(table)[present], table[present])


@pytest.mark.parametrize("kind", ["minmax", "standard", "log", "quantile"])
def test_a_constant_column_becomes_0(kind: str):
    constant = torch.full((1000, 1), 0.1)
    scaler = fitted(kind, constant)
    torch.testing.assert_close(scaler(constant), torch.zeros(1000, 1), atol=1e-6, rtol=0)
    assert scaler(constant + 1).abs().max() < 6


@pytest.mark.parametrize("kind", SCALINGS)
def test_an_empty_column_is_named(kind: str):
    with pytest.raises(ValueError, match=r"\[1\]"):
        fitted(kind, torch.tensor([[1.0, NAN], [2.0, NAN]]))


@pytest.mark.parametrize("kind", SCALINGS)
def test_state_dict_loads_without_fitting(kind: str, table: torch.Tensor):
    scaler, loaded = fitted(kind, table), InputScaler(3, kind)
    loaded.load_state_dict(scaler.state_dict())
    assert torch.equal(loaded(table), scaler(table))


@pytest.mark.parametrize("kind", SCALINGS)
def test_a_row_does_not_depend_on_its_batch(kind: str, table: torch.Tensor):
    scaler = fitted(kind, table)
    assert torch.equal(scaler(table[:1]), scaler(table)[:1])


def test_standard_is_exact_far_from_zero():
    x = torch.tensor([[16_000_000.0], [16_000_002.0]]).repeat(5000, 1)
    assert fitted("standard", x)(x[:2]).flatten().tolist() == [-1, 1]


def test_an_unknown_kind_lists_the_choices():
    with pytest.raises(ValueError, match="quantile"):
        InputScaler(3, "robust")


@pytest.mark.parametrize("shape", [(500,), (500, 1), (250, 2)])
def test_target_scaler_inverts_its_transform(shape: tuple[int, ...]):
    y = 200_000 + 115_000 * torch.randn(shape)
    scaler = TargetScaler()
    scaler.fit(y)
    scaled = scaler.transform(y)
    assert scaled.mean().item() == pytest.approx(0, abs=1e-5)
    assert scaled.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(scaler.inverse(scaled), y, atol=0.1, rtol=0)
    loaded = TargetScaler()
    loaded.load_state_dict(scaler.state_dict())
    assert torch.equal(loaded.transform(y), scaled)


def test_target_scaler_accepts_a_constant():
    scaler = TargetScaler()
    scaler.fit(torch.full((9,), 0.1))
    torch.testing.assert_close(scaler.transform(torch.tensor([0.1, 1.1])), torch.tensor([0.0, 1.0]))


def test_clip_limits_to_the_range_of_the_training_targets():
    scaler = TargetScaler()
    everything = torch.tensor([-1e9, 3.0, 1e9])
    assert torch.equal(scaler.clip(everything), everything)
    scaler.fit(torch.tensor([2.0, 5.0, 4.0]))
    assert scaler.clip(everything).tolist() == [2, 3, 5]
