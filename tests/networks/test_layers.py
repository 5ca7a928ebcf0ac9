import math

import pytest
import torch
from torch import nn

from triptych.networks.layers import (
    ACTIVATIONS,
    NORMS,
    ConvBlock,
    EncoderDecoder,
    activation_layer,
    center_crop,
    init_weights,
    norm_layer,
)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_is_the_named_function(name: str):
    x = torch.linspace(-3, 3, 7)
    functional = getattr(nn.functional, name, None) or getattr(torch, name)
    torch.testing.assert_close(activation_layer(name)(x), functional(x))


@pytest.mark.parametrize(
    ("make", "choice"),
    [
        (lambda: activation_layer("rleu"), "leaky_relu"),
        (lambda: norm_layer("bacth", 8, dims=2), "batch"),
        (lambda: ConvBlock(1, 8, padding="full"), "valid"),
    ],
)
def test_an_unknown_name_lists_the_choices(make, choice: str):
    with pytest.raises(ValueError, match=choice):
        make()


def test_instance_norm_of_vectors_names_the_alternatives():
    with pytest.raises(ValueError, match="none, batch, layer, group"):
        norm_layer("instance", 8, dims=1)


# The axes of (N, C, H, W) over which each norm averages.
@pytest.mark.parametrize(("name", "over"), [("batch", (0, 2, 3)), ("layer", (1, 2, 3)), ("instance", (2, 3))])
def test_norm_of_maps_has_mean_0_and_variance_1_over_its_axes(name: str, over: tuple[int, ...]):
    maps = norm_layer(name, 6, dims=2)(3 + 5 * torch.randn(4, 6, 10, 10))
    means, variances = maps.mean(over), maps.var(over, correction=0)
    torch.testing.assert_close(means, torch.zeros_like(means), atol=1e-5, rtol=0)
    torch.testing.assert_close(variances, torch.ones_like(variances), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("name", "over"), [("batch", 0), ("layer", 1)])
def test_norm_of_vectors_has_mean_0_over_its_axis(name: str, over: int):
    means = norm_layer(name, 16, dims=1)(3 + 5 * torch.randn(32, 16)).mean(over)
    torch.testing.assert_close(means, torch.zeros_like(means), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (4, 4), (8, 8), (12, 6), (13, 1), (64, 8), (100, 5)])
def test_group_norm_of_maps_uses_the_largest_number_of_groups_that_divides(channels: int, groups: int):
    assert norm_layer("group", channels, dims=2).num_groups == groups


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (2, 1), (4, 2), (7, 1), (8, 4), (12, 6), (16, 8), (256, 8)])
def test_group_norm_of_vectors_keeps_two_channels_per_group(channels: int, groups: int):
    assert norm_layer("group", channels, dims=1).num_groups == groups


@pytest.mark.parametrize(("padding", "stride", "size"), [("same", 1, 9), ("valid", 1, 7), ("same", 2, 5)])
def test_conv_block_output_sizes(padding: str, stride: int, size: int):
    assert ConvBlock(2, 4, padding=padding, stride=stride)(torch.rand(1, 2, 9, 9)).shape == (1, 4, size, size)


@pytest.mark.parametrize("norm", NORMS)
def test_a_layer_has_a_bias_only_if_the_norm_does_not_cancel_it(norm: str):
    torch.manual_seed(0)
    conv, normalised, _ = ConvBlock(1, 16, norm=norm)  # group norm with two channels per group
    maps, constants = conv(torch.rand(4, 1, 6, 6)), torch.randn(16, 1, 1)
    left = not torch.allclose(normalised(maps), normalised(maps + constants), atol=1e-4)
    assert (conv.bias is not None) == left


def test_conv_block_drops_whole_maps():
    maps = ConvBlock(1, 64, norm="none", activation="sigmoid", dropout=0.5)(torch.rand(1, 1, 4, 4))
    dropped = (maps == 0).flatten(2)
    assert torch.equal(dropped.all(2), dropped.any(2))
    assert 10 < dropped.all(2).sum() < 54


@pytest.mark.parametrize(("activation", "gain"), [("relu", math.sqrt(2)), ("silu", math.sqrt(2)), ("tanh", 1.0)])
def test_init_weights_has_the_deviation_of_kaiming_or_xavier(activation: str, gain: float):
    linear = nn.Linear(400, 400)
    init_weights(linear, activation)
    assert linear.weight.std().item() == pytest.approx(gain / math.sqrt(400), rel=0.02)
    assert not linear.bias.any()


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh"])
def test_a_signal_survives_twenty_layers(activation: str):
    torch.manual_seed(0)
    layers = [module for _ in range(20) for module in (nn.Linear(256, 256), activation_layer(activation))]
    network = nn.Sequential(*layers)
    init_weights(network, activation)
    assert 0.01 < network(torch.randn(64, 256)).std() < 10


def test_center_crop_takes_the_middle():
    maps = torch.arange(36).reshape(1, 1, 6, 6)
    assert center_crop(maps, like=torch.empty(1, 3, 2, 4)).tolist() == [[[[13, 14, 15, 16], [19, 20, 21, 22]]]]


def test_a_refused_size_names_the_next_that_fits():
    with pytest.raises(ValueError, match=r"30 pixels .* is 32"):
        EncoderDecoder(depth=3, trim=0).output_size(30)
    with pytest.raises(ValueError, match=r"570 pixels .* is 572"):
        EncoderDecoder(depth=4, trim=4).output_size(570)
