"""Tiled prediction: tiles equal the whole page, and the halo equals the receptive field found by gradients."""

from typing import Any

import pytest
import torch
from tests.tiny import autoencoder
from torch import Tensor, nn

import triptych.models.autoencoder
from triptych.models.autoencoder import Autoencoder
from triptych.models.tiling import Tiling, tiling_of, windows

NETWORKS = "triptych.networks"


def cleaner(network: str = "unet.UNet", depth: int = 2, **options: Any) -> Autoencoder:
    torch.manual_seed(0)
    model = autoencoder({"_target_": f"{NETWORKS}.{network}", "width": 4, "depth": depth}, **options).eval()
    for parameter in model.network.output.parameters():
        nn.init.normal_(parameter)  # a residual network starts as the identity
    return model


def in_tiles(model: Autoencoder, page: Tensor, side: int) -> Tensor:
    """The page assembled from its tiles, each pixel from exactly one; (height, width)."""
    found = torch.zeros(page.shape)
    times = torch.zeros(page.shape)
    with torch.inference_mode():
        for rows, columns, part in model.predict_in_tiles(page, side):
            found[rows, columns] = part
            times[rows, columns] += 1
    assert (times == 1).all()
    return found


def whole(model: Autoencoder, page: Tensor) -> Tensor:
    with torch.inference_mode():
        return model.predict(page[None, None])["page"][0, 0]


def gradient_reach(network: Any) -> int:
    """The largest distance of an input pixel with a gradient from its output pixel, over all pooling offsets."""
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.1)  # nothing cancels and no ReLU is inactive
    side = network.input_size(160)
    border = (side - network.output_size(side)) // 2
    furthest = 0
    for place in range(80, 96):
        page = torch.rand(1, 1, side, side, requires_grad=True)
        network(page)[0, 0, place, place].backward()
        assert page.grad is not None
        seen = page.grad[0, 0].nonzero() - (place + border)
        furthest = max(furthest, int(seen.abs().max()))
    return furthest


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("network", "depth"), [("unet.UNet", 2), ("autoencoder.ConvAutoencoder", 3)])
def test_the_halo_is_the_receptive_field(network: str, depth: int, padding: str):
    model = cleaner(network, depth, padding=padding, norm="none")
    tiling = tiling_of(model.network)
    assert tiling is not None
    assert tiling.step == 2**depth
    # Max-pooling passes its gradient to one pixel of four, so the outermost pixels may be missed.
    assert 0 <= tiling.halo - gradient_reach(model.network) < tiling.step


def test_the_halo_of_a_u_net_by_hand():
    # Depth 1: two 3 x 3 convolutions down, two at half size, two up, and the 2 x 2 pooling.
    assert tiling_of(cleaner(depth=1).network) == Tiling(step=2, halo=2 + 4 + 2 + 1)


@pytest.mark.parametrize("size", [(64, 64), (150, 97), (301, 70), (5, 200), (203, 1)], ids=str)
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("network", ["unet.UNet", "autoencoder.ConvAutoencoder"])
def test_tiles_reproduce_the_whole_page(network: str, padding: str, size: tuple[int, int]):
    model = cleaner(network, padding=padding)
    page = torch.rand(size)
    expected = whole(model, page)
    assert expected.std() > 0.01
    assert torch.allclose(in_tiles(model, page, 64), expected, atol=1e-5, rtol=0)


def test_too_small_a_halo_changes_the_result():
    model = cleaner(norm="none")
    tiling = tiling_of(model.network)
    assert tiling is not None
    model.__dict__["_tiling"] = tiling._replace(halo=tiling.halo // 2)
    page = torch.rand(150, 97)
    assert (in_tiles(model, page, 64) - whole(model, page)).abs().max() > 1e-3


def test_uint8_pages_are_accepted():
    model = cleaner()
    page = torch.randint(256, (90, 130), dtype=torch.uint8)
    assert torch.allclose(in_tiles(model, page, 64), whole(model, page / 255), atol=1e-5)


@pytest.mark.parametrize("norm", ["instance", "group", "layer"])
def test_a_norm_over_the_page_disables_tiling_with_one_warning(norm: str, caplog: pytest.LogCaptureFixture):
    model = cleaner(norm=norm, depth=1)
    page = torch.rand(90, 130)
    for _ in range(2):
        assert torch.equal(in_tiles(model, page, 64), whole(model, page))
    assert caplog.text.count("cannot be tiled") == 1


def test_a_large_page_is_refused_when_it_cannot_be_tiled(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(triptych.models.autoencoder, "LARGEST_WHOLE", 1000)
    model = cleaner(norm="instance", depth=1)
    with pytest.raises(MemoryError, match=r"50 x 40 pixels .* cannot be tiled.*model\.norm=batch"):
        list(model.predict_in_tiles(torch.rand(40, 50), 32))


class Swallower(nn.Module):
    """Sees two pixels to each side, and ``far`` times the page's mean, which hides NaN from the probe."""

    def __init__(self, far: float) -> None:
        super().__init__()
        self.far = far
        self.convolution = nn.Conv2d(1, 1, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(x) + self.far * x.nan_to_num().mean()

    def input_size(self, n: int) -> int:
        return n

    output_size = input_size


def test_a_dependence_hidden_from_the_nan_probe_is_found_on_noise():
    assert tiling_of(Swallower(far=0.0).eval()) == Tiling(step=1, halo=2)
    assert tiling_of(Swallower(far=1.0).eval()) is None


def test_tiles_too_small_for_the_halo_are_refused():
    model = cleaner(depth=2)  # sees 23 pixels to each side
    page = torch.rand(90, 130)
    with pytest.raises(ValueError, match=r"tiles of 51 pixels are too small: .* 23 pixels .* choose at least 52"):
        list(model.predict_in_tiles(page, 51))
    assert torch.allclose(in_tiles(model, page, 52), whole(model, page), atol=1e-5)


def test_windows_fit_the_tile_and_the_last_ends_with_the_page():
    model = cleaner(depth=2, padding="valid")
    tiling = tiling_of(model.network)
    assert tiling is not None
    for size in range(100, 140):
        found = windows(model.network, tiling, size, 100)
        assert all(window.stop - window.start <= 100 for window in found)
        assert all(window.start % tiling.step == 0 for window in found)
        assert found[-1].stop == model.network.input_size(size)
        assert found[-1].last == size
