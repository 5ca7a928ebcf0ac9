"""Image standardization, global and local, which removes differences of exposure."""

import pytest
import torch

from triptych.networks.contrast import FLAT, NEIGHBOURHOOD, locally_standardized, standardized


def test_a_standardized_image_has_mean_0_and_deviation_1():
    images = standardized(torch.rand(3, 1, 20, 20) * torch.tensor([0.1, 0.5, 1]).view(3, 1, 1, 1))
    assert images.mean(dim=(1, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    assert images.std(dim=(1, 2, 3)).tolist() == pytest.approx([1, 1, 1], abs=0.05)


def test_local_standardization_matches_a_direct_computation():
    torch.manual_seed(0)
    image = torch.rand(1, 1, 31, 31, dtype=torch.float64)
    reach = int(NEIGHBOURHOOD * 31) // 2
    flat = standardized(image)
    padded = torch.nn.functional.pad(flat, [reach] * 4, mode="reflect")
    windows = padded.unfold(2, 2 * reach + 1, 1).unfold(3, 2 * reach + 1, 1)
    above = flat - windows.mean(dim=(-2, -1))
    squares = torch.nn.functional.pad(above**2, [reach] * 4, mode="reflect")
    power = squares.unfold(2, 2 * reach + 1, 1).unfold(3, 2 * reach + 1, 1).mean(dim=(-2, -1))
    assert torch.allclose(locally_standardized(image), above / (power.sqrt() + FLAT))


def test_local_standardization_removes_uneven_exposure():
    torch.manual_seed(0)
    image = torch.rand(1, 1, 80, 80)
    shaded = image * torch.linspace(0.4, 1, 80) + torch.linspace(0, 0.4, 80)

    def correlation(one: torch.Tensor, other: torch.Tensor) -> float:
        return torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1].item()

    assert correlation(standardized(image), standardized(shaded)) < 0.95
    assert correlation(locally_standardized(image), locally_standardized(shaded)) > 0.98


@pytest.mark.parametrize("side", [2, 3, 7])
def test_small_images_keep_contrast(side: int):
    torch.manual_seed(0)
    assert locally_standardized(torch.rand(1, 1, side, side)).std() > 0.3


@pytest.mark.parametrize("side", [2, 7, 80])
def test_a_uniform_image_becomes_zero(side: int):
    assert locally_standardized(torch.full((2, 1, side, side), 0.5)).abs().max() < 1e-3
