"""Export graph for X-rays: X-rays of any size in, the probability of pneumonia out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from triptych.data.images import decode, squared, upright
from triptych.data.serving.contract import Port

INPUT = Port("xray", "uint8", ("xrays", 1, "height", "width"), "grey X-rays, 0 black to 255 white, all of one size")
PIL_BITS = 22
"""Fractional bits of the fixed-point weights with which PIL resizes 8-bit images."""


def decode_as_in_training(path: Path, size: int) -> np.ndarray:
    """Decode the pixels that training resizes to a square of ``size``: uint8 (height, width).

    A JPEG is decoded at a half, quarter or eighth of its size if that is still large enough.
    """
    with Image.open(path) as image:
        if image.draft("L", (size, size)) is None:
            return decode(path)
        return np.array(upright(image.convert("L"), image))


def resized(pixels: np.ndarray, size: int) -> np.ndarray:
    """uint8 (height, width) -> uint8 (size, size), as training resizes."""
    return np.array(squared(Image.fromarray(pixels), size))


def tensor(pixels: np.ndarray) -> Tensor:
    """One X-ray, uint8 (height, width) -> (1, 1, height, width)."""
    return torch.from_numpy(pixels)[None, None]


def largest_difference(graph: nn.Module, first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> float:
    """Return the largest difference in probability between two forms of the same X-rays, uint8 (height, width)."""
    with torch.inference_mode():
        pairs = [(graph(tensor(a))[0], graph(tensor(b))[0]) for a, b in zip(first, second, strict=True)]
    return max(float((a - b).abs()) for a, b in pairs)


class RawXrays(nn.Module):
    """Wrapper that takes grey X-rays of any size and resizes them to a square in [0, 1] for the model.

    Args:
        model: its ``predict`` returns ``probability`` and ``label``.
        size: side of the square in pixels.
    """

    def __init__(self, model: Any, size: int) -> None:
        super().__init__()
        self.model = model
        self.size = size

    def forward(self, xray: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (xrays, 1, height, width) -> probability of the second class (xrays,) and label (xrays,)."""
        wide = _rounded(xray.double() @ _weights(xray.shape[-1], self.size).T)
        square = _rounded(_weights(xray.shape[-2], self.size) @ wide)
        columns = self.model.predict(square.float() / 255)
        return columns["probability"], columns["label"]


def _weights(length: int, size: int) -> Tensor:
    """Weights of ``length`` old pixels in each of ``size`` new ones: PIL's bilinear filter, float64 (size, length).

    A triangle around the new pixel's centre, as wide as two new pixels if the image shrinks and two old ones if it
    grows. PIL rounds the weights to fixed point; sums of such numbers are exact in float64, so that not a pixel differs
    from PIL's.
    """
    # As a tensor, because an exported graph would divide symbolic sizes in float32.
    scale = torch.full((), length, dtype=torch.double) / size
    middles = (torch.arange(size, dtype=torch.double) + 0.5) * scale
    places = torch.arange(length, dtype=torch.double) + 0.5
    weights = (1 - (places - middles[:, None]).abs() / scale.clamp(min=1)).clamp(min=0)
    return (weights / weights.sum(dim=1, keepdim=True) * 2**PIL_BITS).round() / 2**PIL_BITS


def _rounded(values: Tensor) -> Tensor:
    """Round to integers in 0..255, halves up."""
    return (values + 0.5).floor().clamp(0, 255)
