"""Properties of all networks: every option trains, the seed fixes the initial weights, a few examples are overfit."""

from itertools import product

import pytest
import torch
from torch import nn

from triptych.networks.autoencoder import ConvAutoencoder
from triptych.networks.cnn import Cnn
from triptych.networks.layers import ACTIVATIONS, NORMS, PADDINGS, EncoderDecoder
from triptych.networks.mlp import Mlp
from triptych.networks.resnet import ResNet18, SmallResNet
from triptych.networks.resunet import ResidualUNet
from triptych.networks.spatial import Spatial
from triptych.networks.tabular import Tabular
from triptych.networks.unet import UNet


def autoencoder(**options) -> nn.Module:
    return ConvAutoencoder(width=8, **options)


def unet(**options) -> nn.Module:
    return UNet(width=4, depth=2, **options)


def resunet(**options) -> nn.Module:
    return ResidualUNet(width=4, depth=2, **options)


def cnn(**options) -> nn.Module:
    return Cnn(width=4, depth=2, **options)


def small_resnet(**options) -> nn.Module:
    return SmallResNet(width=4, stages=2, **options)


def mlp(**options) -> nn.Module:
    return Mlp(6, width=16, **options)


def tabular(**options) -> nn.Module:
    return Tabular(6, bins=4, embedding_size=4, width=16, depth=2, **options)


def spatial(**options) -> nn.Module:
    network = Spatial(6, (0, 1), (2, 3), members=2, bins=4, embedding_size=4, width=16, depth=2, **options)
    known = torch.Generator().manual_seed(0)
    network.fit(torch.randn(40, 6, generator=known), torch.randn(40, generator=known))
    return network


IMAGE_NETWORKS = [autoencoder, unet, resunet, cnn, small_resnet]
TABLE_NETWORKS = [mlp, tabular, spatial]


def images(network: nn.Module, batch: int = 2, channels: int = 1) -> torch.Tensor:
    side = network.input_size(16) if isinstance(network, EncoderDecoder) else 24
    return torch.rand(batch, channels, side, side)


def check_gradients(network: nn.Module, x: torch.Tensor) -> None:
    output = network(x)
    assert output.isfinite().all()
    output.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("make", "padding"), [*product([autoencoder, unet, resunet, cnn], PADDINGS), (small_resnet, "same")]
)
def test_every_choice_of_an_image_network_trains(make, activation: str, norm: str, padding: str):
    network = make(activation=activation, norm=norm, padding=padding, dropout=0.1)
    check_gradients(network, images(network))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm != "instance"])
@pytest.mark.parametrize("make", TABLE_NETWORKS)
def test_every_choice_of_a_table_network_trains(make, activation: str, norm: str):
    check_gradients(make(activation=activation, norm=norm, dropout=0.1), torch.randn(4, 6))


@pytest.mark.parametrize(
    ("activation", "norm"), [*((a, "batch") for a in ACTIVATIONS), *(("relu", n) for n in NORMS if n != "batch")]
)
def test_every_choice_of_resnet18_trains(activation: str, norm: str):
    check_gradients(ResNet18(activation=activation, norm=norm, dropout=0.1), torch.rand(2, 1, 64, 64))


@pytest.mark.parametrize("make", [*IMAGE_NETWORKS, *TABLE_NETWORKS, ResNet18])
def test_the_seed_determines_the_initial_weights(make):
    def start(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(make().parameters())

    assert torch.equal(start(1), start(1))
    assert not torch.equal(start(1), start(2))


@pytest.mark.parametrize("make", IMAGE_NETWORKS)
def test_an_image_network_accepts_a_batch_of_one(make):
    network = make()
    check_gradients(network, images(network, batch=1))


@pytest.mark.parametrize("make", IMAGE_NETWORKS)
def test_an_image_network_accepts_several_channels(make):
    network = make(in_channels=3)
    check_gradients(network, images(network, channels=3))


@pytest.mark.parametrize(
    ("make", "shape", "target_shape"),
    [
        (autoencoder, (2, 1, 16, 16), (2, 1, 16, 16)),
        (unet, (2, 1, 16, 16), (2, 1, 16, 16)),
        (resunet, (2, 1, 16, 16), (2, 1, 16, 16)),
        (cnn, (4, 1, 32, 32), (4, 1)),
        (small_resnet, (4, 1, 32, 32), (4, 1)),
        (ResNet18, (4, 1, 64, 64), (4, 1)),
        (mlp, (8, 6), (8, 1)),
        (tabular, (8, 6), (8, 1)),
    ],
)
def test_overfits_a_few_examples(make, shape: tuple[int, ...], target_shape: tuple[int, ...]):
    torch.manual_seed(0)
    network, x, y = make(), torch.randn(shape), torch.randn(target_shape)
    if len(target_shape) == 4:  # a denoiser's target is smooth, and its input contains it
        y = nn.functional.interpolate(y[..., ::8, ::8], scale_factor=8, mode="bilinear")
        x = y + 0.5 * x
    steps, lr = (15, 3e-4) if make is ResNet18 else (60, 1e-2)
    optimizer = torch.optim.Adam(network.parameters(), lr)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (network(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * y.var().item(), losses
