"""Standardisation of images, globally or locally, to remove differences in exposure."""

import torch
import torch.nn.functional as F
from torch import Tensor

NEIGHBOURHOOD = 0.26
"""Side of the square of surroundings of a pixel, as a share of the image's side."""
FLAT = 0.2
"""Added to the local standard deviation, in units of the image's: noise in flat regions is not amplified."""


def standardized(images: Tensor) -> Tensor:
    """Give each image (N, C, H, W) mean 0 and standard deviation 1."""
    deviation, mean = torch.std_mean(images, dim=(1, 2, 3), correction=1, keepdim=True)
    return (images - mean) / (deviation + 1e-3)


def locally_standardized(images: Tensor) -> Tensor:
    """Give the surroundings of each pixel mean 0 and standard deviation about 1.

    This is local contrast normalisation (Jarrett et al. 2009) with a square window. It evens out images that are darker
    on one side or have less contrast at their edge.
    (N, C, side, side), of at least two pixels a side -> the same shape.
    """
    images = standardized(images)
    reach = max(1, int(NEIGHBOURHOOD * images.shape[-1]) // 2)  # a window of one pixel has no contrast

    def mean(maps: Tensor) -> Tensor:
        # Separably, along the columns and then along the rows: a square window would cost ten times as much.
        maps = F.avg_pool2d(F.pad(maps, [reach] * 4, mode="reflect"), (2 * reach + 1, 1), stride=1)
        return F.avg_pool2d(maps, (1, 2 * reach + 1), stride=1)

    above = images - mean(images)
    return above / (mean(above**2).sqrt() + FLAT)
