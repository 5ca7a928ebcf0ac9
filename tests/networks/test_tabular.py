import math

import pytest
import torch

from triptych.networks.mlp import Mlp
from triptych.networks.tabular import FeaturewiseLinear, PeriodicEncoding, PiecewiseLinearEncoding, Tabular


def encoding(column: list[float], bins: int) -> PiecewiseLinearEncoding:
    module = PiecewiseLinearEncoding(1, bins)
    module.fit(torch.tensor(column)[:, None])
    return module


def test_piecewise_linear_encoding_by_hand():
    # Equation 1 of the paper, with the edges 0, 1, 3, 7.
    module = encoding([0, 1, 3, 7], bins=3)
    assert module.edges.tolist() == [[0, 1, 3, 7]]
    by_hand = {
        0.0: [0, 0, 0],
        0.5: [0.5, 0, 0],
        1.0: [1, 0, 0],
        2.0: [1, 0.5, 0],
        5.0: [1, 1, 0.5],
        7.0: [1, 1, 1],
        -1.0: [-1, 0, 0],  # outside the edges the first and last bins are extrapolated
        11.0: [1, 1, 2],
    }
    encoded = module(torch.tensor(list(by_hand))[:, None])[:, 0]
    torch.testing.assert_close(encoded, torch.tensor(list(by_hand.values())))


def test_edges_are_quantiles():
    column = torch.randn(1001)
    module = encoding(column.tolist(), bins=10)
    torch.testing.assert_close(module.edges[0], column.sort().values[::100])


@pytest.mark.parametrize("column", [[0.0] * 95 + [1.0] * 5, [0.0] * 50 + [1.0] * 50])
def test_a_one_hot_column_keeps_one_bin(column: list[float]):
    module = encoding(column, bins=48)
    encoded = module(torch.tensor([[0.0], [1.0], [0.25], [2.0], [-1.0]]))[:, 0]
    assert (encoded != 0).any(dim=0).sum() == 1
    assert encoded.sum(dim=1).tolist() == [0, 1, 0.25, 2, -1]


def test_ties_give_empty_bins_without_infinities():
    column = [1.0, 2, 2, 2, 2, 2, 3, 4, 4]
    module = encoding(column, bins=8)
    encoded = module(torch.tensor([[1.5], [2.0], [2.5], [4.0], [5.0]]))[:, 0]
    assert encoded.sum(dim=1).tolist() == [0.5, 1, 1.5, 3, 4]


def test_a_constant_column_is_encoded_as_zeros():
    assert not encoding([2.0] * 9, bins=4)(torch.tensor([[2.0], [7.0]])).any()


def test_columns_are_encoded_independently():
    x = torch.randn(200, 3) * torch.tensor([1.0, 10.0, 100.0])
    together = PiecewiseLinearEncoding(3, 5)
    together.fit(x)
    for feature in range(3):
        alone = encoding(x[:, feature].tolist(), bins=5)
        torch.testing.assert_close(together(x)[:, feature], alone(x[:, feature, None])[:, 0])


def test_before_fit_the_bins_are_uniform():
    assert PiecewiseLinearEncoding(2, 6).edges.tolist() == [[-3, -2, -1, 0, 1, 2, 3]] * 2


def test_periodic_encoding_by_hand():
    module = PeriodicEncoding(2, frequencies=2, scale=0.1)
    with torch.no_grad():
        module.frequencies.copy_(torch.tensor([[1.0, 0.25], [0.5, 0.0]]))
    expected = torch.tensor([[[1.0, 0, 0, 1], [-1, 1, 0, 0]]])  # cosines, then sines, of x = 1
    torch.testing.assert_close(module(torch.ones(1, 2)), expected, atol=1e-6, rtol=0)


def test_initial_frequencies_have_the_given_deviation():
    torch.manual_seed(0)
    assert PeriodicEncoding(100, 100, scale=0.1).frequencies.std().item() == pytest.approx(0.1, rel=0.02)


def test_featurewise_linear_is_a_linear_layer_for_each_feature():
    module = FeaturewiseLinear(3, 4, 5)
    x = torch.randn(2, 3, 4)
    for feature in range(3):
        expected = x[:, feature] @ module.weight[feature] + module.bias[feature]
        torch.testing.assert_close(module(x)[:, feature], expected)


def test_without_embedding_it_equals_the_mlp():
    torch.manual_seed(0)
    tabular = Tabular(5, embedding="none", depth=2)
    torch.manual_seed(0)
    mlp = Mlp(5, depth=2)
    x = torch.randn(3, 5)
    assert torch.equal(tabular(x), mlp(x))


@pytest.mark.parametrize("embedding", ["piecewise_linear", "periodic", "none"])
def test_the_fit_is_saved_in_the_state_dict(embedding: str):
    x = torch.randn(100, 5).exp()
    network, loaded = Tabular(5, embedding=embedding), Tabular(5, embedding=embedding)
    network.fit(x, x[:, 0])
    loaded.load_state_dict(network.state_dict())
    assert torch.equal(loaded(x), network(x))


@pytest.mark.parametrize("embedding", ["piecewise_linear", "periodic", "none"])
def test_trains_on_a_batch_of_one_row(embedding: str):
    network = Tabular(5, embedding=embedding, norm="layer")
    network(torch.randn(1, 5)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


def test_an_embedding_learns_a_step_that_the_mlp_alone_does_not():
    def error(embedding: str) -> float:
        torch.manual_seed(0)
        x = torch.linspace(-1, 1, 256)[:, None]
        y = torch.sign(torch.sin(8 * math.pi * x))
        network = Tabular(1, embedding=embedding, width=32, depth=1)
        network.fit(x, x[:, 0])
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        for _ in range(150):
            optimizer.zero_grad()
            loss = (network(x) - y).square().mean()
            loss.backward()
            optimizer.step()
        return loss.item()

    assert error("piecewise_linear") < 0.5 * error("none")


def test_an_unknown_embedding_lists_the_choices():
    with pytest.raises(ValueError, match="piecewise_linear, periodic, none"):
        Tabular(5, embedding="plr")


@pytest.mark.parametrize(
    ("embedding", "embedding_count", "mlp_inputs"),
    [("piecewise_linear", 8 * 49 * 16, 128), ("periodic", 8 * 48 + 8 * 97 * 16, 128), ("none", 0, 8)],
)
def test_parameter_count(embedding: str, embedding_count: int, mlp_inputs: int):
    mlp = (mlp_inputs + 1) * 256 + 2 * 257 * 256 + 257
    assert sum(p.numel() for p in Tabular(8, embedding=embedding).parameters()) == embedding_count + mlp
