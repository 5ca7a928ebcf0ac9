"""X-ray resizing inside the exported graph, compared with Pillow's as used in training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from torch import Tensor, nn

from triptych.data.images import decode
from triptych.data.serving.xrays import RawXrays, decode_as_in_training, resized


class Pixels(nn.Module):
    """A model that returns its input."""

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        return {"probability": images, "label": images}


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (32, 32), (31, 33), (64, 200), (411, 97), (700, 1130)], ids=str)
def test_resizing_equals_pillows_in_every_pixel(shape: tuple[int, int]):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    square, _ = RawXrays(Pixels(), 32)(torch.from_numpy(pixels)[None, None])
    assert np.array_equal((square[0, 0] * 255).round().numpy(), resized(pixels, 32))


@pytest.mark.parametrize(
    ("name", "options"), [("x.jpeg", {}), ("x.png", {}), ("x.jpg", {"mode": "RGB"})], ids=["grey", "png", "colour"]
)
def test_a_resized_file_equals_what_training_decodes(name: str, options: dict[str, Any], tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40), dtype=np.uint8)
    path = tmp_path / name
    Image.fromarray(pixels).resize((403, 302)).convert(options.get("mode", "L")).save(path)
    raw = decode_as_in_training(path, 32)
    # A JPEG is decoded at 1/8 scale, here the smallest that is at least as large as the size requested.
    assert raw.shape == ((302, 403) if name.endswith("png") else (38, 51))
    assert np.array_equal(resized(raw, 32), decode(path, 32))


@pytest.mark.parametrize("size", [32, 200])
def test_a_jpeg_is_turned_upright_at_any_size(size: int, tmp_path: Path):
    """Stored with the dark half on top; upright, it is on the right."""
    image = Image.new("L", (400, 300), 255)
    image.paste(0, (0, 0, 400, 150))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image.save(tmp_path / "x.jpeg", exif=exif)
    raw, square = decode_as_in_training(tmp_path / "x.jpeg", size), decode(tmp_path / "x.jpeg", size)
    assert raw.shape == ((50, 38) if size == 32 else (400, 300))
    assert np.array_equal(resized(raw, size), square)
    assert square[:, : size // 3].min() > 250
    assert square[:, -size // 3 :].max() < 5
