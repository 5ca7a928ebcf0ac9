import pytest
import torch

from triptych.networks.unet import UNet


def test_sizes_and_parameter_count_match_the_paper():
    network = UNet(depth=4, width=64, max_width=1024, padding="valid", norm="none", residual=False)
    assert network.output_size(572) == 388
    assert network.input_size(388) == 572
    # The parameter count of the original U-Net.
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(31.0e6, rel=0.01)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_starts_as_the_identity(padding: str):
    network = UNet(in_channels=2, width=4, padding=padding)
    side = network.input_size(24)
    image = torch.rand(2, 2, side, side)
    margin = network.margin // 2
    assert torch.equal(network(image), image[:, :1, margin : side - margin, margin : side - margin])


def test_not_residual_does_not_start_as_the_identity():
    image = torch.rand(1, 1, 16, 16)
    assert (UNet(width=4, residual=False)(image) - image).abs().max() > 0.01


def test_widths_double_up_to_the_cap():
    widths = [down[0][0].out_channels for down in UNet(width=16, depth=5, max_width=100).down]
    assert widths == [16, 32, 64, 100, 100]


def test_skips_carry_what_the_bottleneck_loses():
    # A checkerboard vanishes under 2x2 max-pooling, so only skip connections can tell it from its inverse.
    torch.manual_seed(0)
    network = UNet(width=4, residual=False, norm="none").eval()
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    board = ((rows + columns) % 2)[None, None].float()
    assert (network(board) - network(1 - board))[..., 8:-8, 8:-8].abs().max() > 1e-3


def test_parameter_count_of_the_default():
    assert sum(p.numel() for p in UNet().parameters()) == 482_449
