"""The page autoencoder: any size in, the same size out, and errors averaged over all pixels."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.tiny import Batches, autoencoder, fit, measured, pages
from torch import Tensor, nn

from triptych.models.autoencoder import Autoencoder

SIZES = [(1, 1), (1, 9), (2, 3), (7, 5), (16, 16), (17, 31), (64, 20)]


def networks(depth: int) -> list[dict[str, Any]]:
    plain = {"_target_": "triptych.networks.autoencoder.ConvAutoencoder", "width": 2, "depth": depth}
    return [plain, {"_target_": "triptych.networks.unet.UNet", "width": 2, "depth": depth}]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_page_keeps_its_size(depth: int, padding: str, size: tuple[int, int]):
    page = torch.rand(2, 1, *size)
    for network in networks(depth):
        model = autoencoder(network, padding=padding).eval()
        with torch.inference_mode():
            cleaned = model.predict(page)["page"]
        assert cleaned.shape == page.shape
        assert cleaned.isfinite().all()
        assert torch.equal(cleaned, cleaned.clamp(0, 1))


class Middle(nn.Module):
    """Like a network without padding: returns the centre of its input, whose sides must be multiples of 4."""

    margin = 6

    def input_size(self, n: int) -> int:
        return math.ceil((n + self.margin) / 4) * 4

    def output_size(self, n: int) -> int:
        return n - self.margin

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[-1] % 4 == x.shape[-2] % 4 == 0
        return x[..., 3:-3, 3:-3]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_output_is_aligned_with_the_input(size: tuple[int, int]):
    model = autoencoder()
    model.network = Middle()
    page = torch.rand(1, 1, *size)
    assert torch.equal(model(page), page)


def test_an_unpadded_network_sees_a_mirrored_border():
    model = autoencoder()
    model.network = Middle()
    page = torch.rand(1, 1, 10, 14)
    assert torch.equal(model._mirrored(page), F.pad(page, (3, 3, 3, 3), mode="reflect"))


def test_gradients_flow_with_a_mirrored_border():
    model = autoencoder(padding="valid")
    model(torch.rand(1, 1, 9, 9)).mean().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.network.parameters())


# Metrics


def copier() -> Autoencoder:
    """A model that returns its input."""
    model = autoencoder()
    model.forward = lambda pages: pages  # type: ignore[method-assign]
    return model


def shifted(height: int, width: int, by: float) -> tuple[Tensor, Tensor]:
    clean = torch.full((1, 1, height, width), 0.5)
    return clean + by, clean


@pytest.mark.parametrize("split", ["val", "test"])
def test_errors_are_averaged_over_pixels_of_pages_of_any_size(split: str, tmp_path: Path):
    metrics = measured(copier(), [shifted(2, 2, 0.4), shifted(4, 6, -0.1)], tmp_path, split)
    assert metrics["rmse"] == pytest.approx(math.sqrt((4 * 0.4**2 + 24 * 0.1**2) / 28), rel=1e-5)
    assert metrics["mae"] == pytest.approx((4 * 0.4 + 24 * 0.1) / 28, rel=1e-5)
    # The loss, which training minimises, is a mean over pages.
    assert metrics["loss"] == pytest.approx((0.4**2 + 0.1**2) / 2, rel=1e-5)


def test_metrics_and_predictions_are_clamped_and_the_loss_is_not(tmp_path: Path):
    outside = torch.tensor([-0.5, 1.5]).reshape(1, 1, 1, 2), torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)
    metrics = measured(copier(), [outside], tmp_path)
    assert (metrics["rmse"], metrics["mae"]) == (0, 0)
    assert metrics["loss"] == pytest.approx(0.25)
    assert copier().predict(outside[0])["page"].flatten().tolist() == [0, 1]


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_every_loss_trains(loss: str, tmp_path: Path):
    torch.manual_seed(0)
    model = autoencoder(loss=loss, norm="none")
    data = Batches(pages((16, 16), count=4))
    before = fit(model, data, tmp_path).callback_metrics["train/rmse"]
    assert fit(model, data, tmp_path, max_epochs=20).callback_metrics["train/rmse"] < before
