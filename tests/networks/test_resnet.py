import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from triptych.networks.layers import ACTIVATIONS
from triptych.networks.resnet import ResidualBlock, ResNet18, SmallResNet


@pytest.mark.parametrize("network_class", [ResNet18, SmallResNet])
def test_valid_padding_is_refused_with_the_alternative(network_class):
    with pytest.raises(ValueError, match="model=cnn"):
        network_class(padding="valid")
    with pytest.raises(ValueError, match="same, valid"):
        network_class(padding="smae")


def test_resnet18_equals_torchvisions():
    torch.manual_seed(0)
    ours, theirs = ResNet18(in_channels=3, num_outputs=5).eval(), resnet18(num_classes=5).eval()
    names = {name: name.replace("fc.1.", "fc.") for name in ours.state_dict()}
    theirs.load_state_dict({names[name]: value for name, value in ours.state_dict().items()})
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(ours(images), theirs(images))


@pytest.mark.parametrize("network_class", [ResNet18, SmallResNet])
@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"relu"}))
def test_the_activation_is_replaced_everywhere(network_class, name: str):
    kinds = {type(module) for module in network_class(activation=name).modules()}
    assert ACTIVATIONS[name] in kinds
    assert nn.ReLU not in kinds


@pytest.mark.parametrize("network_class", [ResNet18, SmallResNet])
def test_the_norm_is_replaced_everywhere(network_class):
    kinds = {type(module) for module in network_class(norm="group").modules()}
    assert nn.GroupNorm in kinds
    assert nn.BatchNorm2d not in kinds


@pytest.mark.parametrize("network_class", [ResNet18, SmallResNet])
def test_convolutions_have_a_bias_without_a_norm(network_class):
    for norm, expected in (("none", True), ("batch", False)):
        convolutions = [module for module in network_class(norm=norm).modules() if isinstance(module, nn.Conv2d)]
        assert {convolution.bias is not None for convolution in convolutions} == {expected}


@pytest.mark.parametrize(("stride", "channels"), [(1, 4), (2, 4), (1, 8)])
def test_residual_block_adds_its_shortcut(stride: int, channels: int):
    block = ResidualBlock(4, channels, stride, activation="relu", norm="none")
    for parameter in block.residual[1].parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(2, 4, 8, 8)
    if isinstance(block.shortcut, nn.Identity):
        torch.testing.assert_close(block(x), x.relu())
    else:
        conv = block.shortcut[0]
        torch.testing.assert_close(block(x), nn.functional.conv2d(x, conv.weight, conv.bias, stride).relu())
    assert isinstance(block.shortcut, nn.Identity) == (stride == 1 and channels == 4)


@pytest.mark.parametrize("side", [8, 9])
def test_mean_downsampling_precedes_both_paths(side: int):
    block = ResidualBlock(4, 8, 2, activation="relu", norm="none", downsampling="mean")
    x = torch.randn(2, 4, side, side)
    # At the end of an odd side the mean is over fewer pixels.
    columns = [x[..., k : k + 2].mean(dim=-1) for k in range(0, side, 2)]
    rows = torch.stack(columns, dim=-1)
    halved = torch.stack([rows[..., k : k + 2, :].mean(dim=-2) for k in range(0, side, 2)], dim=-2)
    one = ResidualBlock(4, 8, 1, activation="relu", norm="none")
    one.load_state_dict(block.state_dict())
    torch.testing.assert_close(block(x), one(halved))


def test_mean_downsampling_changes_less_under_a_one_pixel_shift():
    torch.manual_seed(0)
    image = torch.rand(1, 1, 34, 34)

    def change(downsampling: str) -> float:
        torch.manual_seed(0)
        network = SmallResNet(downsampling=downsampling, norm="none").eval()
        here, moved = (network.stages(network.stem(image[..., 1:-1, left : left + 32])) for left in (1, 2))
        return ((here - moved).std() / here.std()).item()

    assert change("mean") < 0.5 * change("stride")


def test_an_unknown_downsampling_names_the_choices():
    with pytest.raises(ValueError, match="stride, mean"):
        SmallResNet(downsampling="max")


@pytest.mark.parametrize(("network_class", "count"), [(ResNet18, 11_170_753), (SmallResNet, 700_305)])
def test_parameter_count(network_class, count: int):
    assert sum(p.numel() for p in network_class().parameters()) == count


def test_few_channels_train_in_channels_last_format():
    network = SmallResNet(width=2, stages=2).to(memory_format=torch.channels_last)
    network(torch.rand(4, 1, 32, 32)).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
