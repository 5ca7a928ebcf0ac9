from itertools import pairwise

import pytest
import torch

from triptych.networks.cnn import Cnn


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("depth", [0, 1, 2, 3, 4])
def test_min_size_is_the_smallest_size_accepted(padding: str, depth: int):
    network = Cnn(width=2, depth=depth, padding=padding).eval()
    n = network.min_size
    assert network.stages(network.stem(torch.rand(1, 1, n, n))).shape[-2:] == (1, 1)
    assert network(torch.rand(1, 1, n, n + 5)).shape == (1, 1)
    if n > 1:
        with pytest.raises(ValueError, match=f"needs {n} on each side"):
            network(torch.rand(1, 1, n + 5, n - 1))


def test_every_larger_size_is_accepted():
    network = Cnn(num_outputs=3, width=2, depth=2, padding="valid").eval()
    for n in range(network.min_size, network.min_size + 9):
        assert network(torch.rand(2, 1, n, n + 1)).shape == (2, 3)


def test_output_is_translation_invariant():
    # With convolutions and a mean over the map, a shift by whole pooled pixels changes nothing but the border.
    torch.manual_seed(0)
    network = Cnn(width=4, depth=2, norm="none").eval()
    image = torch.zeros(1, 1, 64, 64)
    image[..., 24:32, 24:32] = torch.rand(8, 8)
    torch.testing.assert_close(network(image), network(image.roll((4, 8), dims=(2, 3))))


def test_parameter_count():
    def blocks(*channels: int) -> int:
        return sum(9 * i * o + 2 * o for i, o in pairwise(channels))

    expected = blocks(1, 16, 16, 16, 32, 32, 64, 64, 128, 128) + 128 + 1
    assert sum(p.numel() for p in Cnn().parameters()) == expected == 296_177
