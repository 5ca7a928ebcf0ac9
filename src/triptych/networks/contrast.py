"""Images without what exposure alone decides."""

import torch
import torch.nn.functional as F
from torch import Tensor

NEIGHBOURHOOD = 0.26
"""Side of the square around a pixel that it is compared with, as a share of the image's."""
FLAT = 0.2
"""Deviation, where that of the whole image is 1, to which even surroundings count as varied: noise stays small."""


def standardized(images: Tensor) -> Tensor:
    """Give each image (N, C, H, W) mean 0 and standard deviation 1."""
    deviation, mean = torch.std_mean(images, dim=(1, 2, 3), correction=1, keepdim=True)
    return (images - mean) / (deviation + 1e-3)


def locally_standardized(images: Tensor) -> Tensor:
    """Give the surroundings of each pixel mean 0 and standard deviation 1.

    This is local contrast normalisation (Jarrett et al. 2009). The window is a square. A picture that is darker on one
    side, or flatter at its edge, looks like one that is not.
    (N, C, side, side), of two pixels a side or more -> the same.
    """
    images = standardized(images)
    reach = max(1, int(NEIGHBOURHOOD * images.shape[-1]) // 2)  # a pixel has no contrast with itself alone

    def mean(maps: Tensor) -> Tensor:
        # First along the columns, then along the rows: as a square at once it would cost ten times as much.
        maps = F.avg_pool2d(F.pad(maps, [reach] * 4, mode="reflect"), (2 * reach + 1, 1), stride=1)
        return F.avg_pool2d(maps, (1, 2 * reach + 1), stride=1)

    above = images - mean(images)
    return above / (mean(above**2).sqrt() + FLAT)
