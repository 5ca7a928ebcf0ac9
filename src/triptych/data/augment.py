"""Augmentation of whole batches, on the device.

torchvision's own transforms draw one set of parameters for a whole batch; these draw one for each sample, and resample
an image once for all geometric changes together.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2


def select_augmentations(augment: bool | str | Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the names that ``data.augment`` selects from those that the data set knows.

    Raises:
        ValueError: a name is unknown.
    """
    if isinstance(augment, bool):
        augment = "all" if augment else "none"
    names = [augment] if isinstance(augment, str) else list(augment)
    if names == ["none"]:
        return []
    if names == ["all"]:
        return list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"data.augment={unknown[0]}: choose all, none, or some of {', '.join(known)}")
    return names


def _uniform(images: Tensor, low: float, high: float) -> Tensor:
    """Draw one number per image, (N, 1, 1, 1), so that it broadcasts over the batch."""
    return torch.empty(len(images), 1, 1, 1, device=images.device).uniform_(low, high)


class BatchAffine(v2.Transform):
    """Rotate, scale, shift and mirror each square image (N, C, H, W) by its own amount; uncovered areas become black.

    Args:
        rotation: largest angle in degrees, either way.
        scale: smallest and largest magnification.
        translation: largest shift as a share of the side, either way; a random crop if the image is magnified.
        flip: whether to mirror images left to right, each with probability 1/2.
    """

    def __init__(
        self,
        rotation: float = 0.0,
        scale: tuple[float, float] = (1.0, 1.0),
        translation: float = 0.0,
        flip: bool = False,
    ) -> None:
        super().__init__()
        self.rotation = math.radians(rotation)
        self.scale = scale
        self.translation = translation
        self.flip = flip

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        images = flat_inputs[0]

        def draw(low: float, high: float) -> Tensor:
            return _uniform(images, low, high).flatten()

        angle = draw(-self.rotation, self.rotation)
        zoom = 1 / draw(*self.scale)
        mirror = torch.where(draw(0, 1) < 0.5, -1.0, 1.0) if self.flip else torch.ones_like(angle)
        cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        # grid_sample's coordinates run from -1 to 1, so a shift by a share of the side is twice that share.
        x, y = (2 * draw(-self.translation, self.translation) for _ in range(2))
        rows = [torch.stack((cos * mirror, -sin, x), dim=1), torch.stack((sin * mirror, cos, y), dim=1)]
        return {"theta": torch.stack(rows, dim=1)}

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        grid = F.affine_grid(params["theta"], list(inpt.shape), align_corners=False)
        return F.grid_sample(inpt, grid.to(inpt.dtype), align_corners=False)


class BatchExposure(v2.Transform):
    """Change brightness, contrast and gamma of each image (N, C, H, W) in [0, 1] by its own amount.

    Args:
        brightness: largest number added, either way.
        contrast: largest deviation from 1, either way, of the factor that scales values about the image's mean.
        gamma: largest exponent; its inverse is the smallest.
    """

    def __init__(self, brightness: float = 0.0, contrast: float = 0.0, gamma: float = 1.0) -> None:
        super().__init__()
        self.brightness = brightness
        self.contrast = contrast
        self.gamma = gamma

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        images = flat_inputs[0]
        return {
            "brightness": _uniform(images, -self.brightness, self.brightness),
            "contrast": _uniform(images, 1 - self.contrast, 1 + self.contrast),
            "gamma": torch.exp(_uniform(images, -math.log(self.gamma), math.log(self.gamma))),
        }

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        mean = inpt.mean(dim=(1, 2, 3), keepdim=True)
        stretched = (inpt - mean) * params["contrast"] + mean + params["brightness"]
        return stretched.clamp(0, 1) ** params["gamma"]


class BatchTurns(v2.Transform):
    """Rotate and mirror each square image (N, C, H, W) to one of eight orientations; a pair goes as two channels."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {name: _uniform(flat_inputs[0], 0, 1) < 0.5 for name in ("horizontal", "vertical", "transpose")}

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        inpt = torch.where(params["horizontal"], inpt.flip(-1), inpt)
        inpt = torch.where(params["vertical"], inpt.flip(-2), inpt)
        return torch.where(params["transpose"], inpt.transpose(-1, -2), inpt)


class BatchNoise(nn.Module):
    """Add Gaussian noise to rows (N, columns), with a standard deviation for each column, (columns,)."""

    def __init__(self, deviation: Tensor) -> None:
        super().__init__()
        self.deviation = deviation

    def forward(self, rows: Tensor) -> Tensor:
        return rows + torch.randn_like(rows) * self.deviation.to(rows.device)
