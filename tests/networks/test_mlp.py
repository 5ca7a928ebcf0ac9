import pytest
import torch
from torch import nn

from triptych.networks.mlp import Mlp


def test_depth_counts_the_hidden_layers():
    assert [m.out_features for m in Mlp(8, width=16, depth=3).modules() if isinstance(m, nn.Linear)] == [16, 16, 16, 1]
    linear = Mlp(8, depth=0)
    x = torch.randn(2, 8)
    torch.testing.assert_close(linear(x), x @ linear.output.weight.T + linear.output.bias)


@pytest.mark.parametrize("norm", ["none", "layer", "group"])
def test_trains_on_a_batch_of_one_row(norm: str):
    network = Mlp(4, width=8, norm=norm)
    network(torch.randn(1, 4)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("norm", ["layer", "group"])
def test_a_row_does_not_depend_on_its_batch(norm: str):
    network = Mlp(4, width=8, norm=norm)
    x = torch.randn(5, 4)
    torch.testing.assert_close(network(x)[:1], network(x[:1]))


@pytest.mark.parametrize("norm", ["none", "layer", "group"])
def test_the_norm_does_not_remove_the_magnitude_of_a_row(norm: str):
    torch.manual_seed(0)
    network = Mlp(4, width=8, norm=norm)
    nn.init.normal_(network.hidden[0].bias)
    x = torch.randn(5, 4)
    assert (network(3 * x) - network(x)).abs().max() > 0.01


def test_dropout_acts_in_training_only():
    network = Mlp(4, dropout=0.5)
    x = torch.randn(3, 4)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_instance_norm_is_refused():
    with pytest.raises(ValueError, match="feature maps"):
        Mlp(4, norm="instance")


def test_parameter_count():
    assert sum(p.numel() for p in Mlp(8).parameters()) == (8 * 256 + 256) + (256 * 256 + 256) + (256 + 1)
