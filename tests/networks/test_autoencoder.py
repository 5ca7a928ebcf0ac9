import pytest
import torch

from triptych.networks.autoencoder import ConvAutoencoder
from triptych.networks.unet import UNet

IMAGE_TO_IMAGE = [ConvAutoencoder, UNet]


@pytest.mark.parametrize("network_class", IMAGE_TO_IMAGE)
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_computed_sizes_match_real_forward_passes(network_class, padding: str, depth: int):
    network = network_class(width=1, depth=depth, padding=padding, norm="none").eval()
    accepted = {}
    with torch.inference_mode():
        for n in range(1, 120):
            try:
                size = network.output_size(n)
            except ValueError:
                with pytest.raises(ValueError, match="does not fit"):
                    network(torch.rand(1, 1, n, n))
                continue
            accepted[n] = size
            assert network(torch.rand(1, 1, n, n)).shape == (1, 1, size, size)
            assert (n - size) % 2 == 0
    for n in range(1, max(accepted.values()) + 1):
        assert network.input_size(n) == min(m for m, size in accepted.items() if size >= n)
    if padding == "same":
        assert accepted == {m: m for m in range(2**depth, 120, 2**depth)}


@pytest.mark.parametrize("network_class", IMAGE_TO_IMAGE)
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_every_length_that_loses_no_pixel_is_accepted(network_class, depth: int):
    network = network_class(width=1, depth=depth, padding="valid", norm="none")
    for n in range(1, 200):
        size, exact = n, True
        for _ in range(depth):
            size -= network.trim
            exact &= size > 0 and size % 2 == 0
            size //= 2
        size -= network.trim
        for _ in range(depth):
            exact &= size > 0
            size = 2 * size - network.trim
        if exact and size > 0:
            assert network.output_size(n) == size
        else:
            with pytest.raises(ValueError, match="does not fit"):
                network.output_size(n)


@pytest.mark.parametrize("network_class", IMAGE_TO_IMAGE)
@pytest.mark.parametrize("depth", [1, 2])
def test_valid_padding_equals_same_far_from_the_border(network_class, depth: int):
    torch.manual_seed(0)
    valid = network_class(width=4, depth=depth, padding="valid", norm="none").double().eval()
    torch.nn.init.normal_(valid.output.weight)
    same = network_class(width=4, depth=depth, padding="same", norm="none").double().eval()
    same.load_state_dict(valid.state_dict())
    image = torch.rand(1, 1, valid.input_size(60), valid.input_size(60), dtype=torch.double)
    # Unpadded convolutions shift the 2x2 pooling windows, so the image is cropped for both networks to pool alike.
    shift = valid.trim // 2 * (valid.step - 1) % valid.step
    end = shift + (image.shape[-1] - shift) // same.step * same.step
    size = valid.output_size(image.shape[-1])
    start = valid.margin // 2 - shift
    of_same = same(image[..., shift:end, shift:end])[..., start : start + size, start : start + size]
    inner = slice(valid.margin // 2, size - valid.margin // 2)
    torch.testing.assert_close(valid(image)[..., inner, inner], of_same[..., inner, inner])
    assert of_same[..., inner, inner].std() > 0.01


def test_height_and_width_may_differ():
    assert ConvAutoencoder()(torch.rand(2, 1, 8, 20)).shape == (2, 1, 8, 20)


def test_parameter_count():
    blocks = (1 * 9 * 32 + 2 * 32) + 4 * (32 * 9 * 32 + 2 * 32)
    assert sum(p.numel() for p in ConvAutoencoder().parameters()) == blocks + 32 + 1
