import pytest
import torch

from triptych.networks.layers import NORMS
from triptych.networks.resunet import ResidualUNet, ResidualUnit


def trained(**options) -> ResidualUNet:
    """A network with random weights, unlike a new one, whose last layers are zero."""
    torch.manual_seed(0)
    network = ResidualUNet(**{"width": 4, "depth": 2} | options)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("units", [1, 2])
def test_starts_as_the_identity(padding: str, units: int):
    network = ResidualUNet(in_channels=2, width=4, units=units, padding=padding)
    side = network.input_size(24)
    image = torch.rand(2, 2, side, side)
    margin = network.margin // 2
    assert torch.equal(network(image), image[:, :1, margin : side - margin, margin : side - margin])


@pytest.mark.parametrize("norm", NORMS)
def test_an_untrained_unit_equals_its_shortcut(norm: str):
    maps = torch.rand(2, 8, 6, 6)
    assert torch.equal(ResidualUnit(8, 8, "relu", norm)(maps), maps)
    wider = ResidualUnit(8, 12, "relu", norm)
    assert torch.equal(wider(maps), wider.shortcut(maps))


def test_a_unit_without_padding_crops_the_shortcut():
    maps = torch.rand(1, 8, 9, 7)
    assert torch.equal(ResidualUnit(8, 8, "relu", "none", padding="valid")(maps), maps[..., 2:-2, 2:-2])


def test_the_first_unit_has_no_activation_before_its_convolution():
    # A ReLU before the first convolution would zero negative pixels.
    torch.manual_seed(0)
    network = trained(depth=0)
    image = -torch.rand(1, 1, 8, 8)
    assert not torch.allclose(network(image) - image, network(image * 0), atol=1e-3)


def test_widths_double_up_to_the_cap():
    network = ResidualUNet(width=16, depth=4, max_width=100)
    assert [up.in_channels for up in network.up] == [100, 100, 64, 32]


def test_flips_average_the_outputs_over_views():
    plain, two, four = trained(), trained(flips=2), trained(flips=4)
    image = torch.rand(1, 1, 24, 32)
    views = [plain(image.flip(axes)).flip(axes) for axes in ([], [2, 3], [2], [3])]
    assert torch.allclose(two(image), sum(views[:2]) / 2, atol=1e-6)
    assert torch.allclose(four(image), sum(views) / 4, atol=1e-6)
    # So an upside-down or mirrored page is cleaned like the upright one.
    assert torch.allclose(two(image.flip(2, 3)), two(image).flip(2, 3), atol=1e-6)
    assert torch.allclose(four(image.flip(3)), four(image).flip(3), atol=1e-6)
    assert not torch.allclose(two(image.flip(3)), two(image).flip(3), atol=1e-3)


def test_flips_are_not_used_in_training():
    plain, flips = trained().train(), trained(flips=4).train()
    image = torch.rand(1, 1, 16, 16)
    assert torch.equal(flips(image), plain(image))


@pytest.mark.parametrize("flips", [0, 3, 8])
def test_an_invalid_number_of_views_names_the_choices(flips: int):
    with pytest.raises(ValueError, match=r"model\.network\.flips.*1, 2 or 4"):
        ResidualUNet(flips=flips)


def test_each_level_enlarges_the_receptive_field():
    def reach(depth: int) -> int:
        image = torch.zeros(1, 1, 128, 128)
        network = trained(depth=depth)
        image[..., 64, 64] = torch.nan
        return int(network(image)[0, 0].isnan().any(dim=0).sum())

    reaches = [reach(depth) for depth in range(4)]
    assert reaches == sorted(set(reaches))
    assert reaches[0] == 5  # one unit of two 3x3 convolutions
