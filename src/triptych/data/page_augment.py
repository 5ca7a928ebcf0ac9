"""Augmentation of pages with dirt they never had: the paper of another page, stains with grain as dark as print."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import minimum_filter, uniform_filter
from torch import Tensor, nn

from triptych.data.datasets import Page

INK = 0.98
"""Grey of a clean page below which a pixel is ink; so are its neighbours, because a scan is blurred."""
WINDOWS = (3, 5, 9, 17)
"""Sides in pixels of the windows that are searched for paper around ink, smallest first."""


def paper_of(dirty: Tensor, clean: Tensor) -> Tensor:
    """Estimate a page without its text: ink is replaced by the mean of the paper nearby.

    Args:
        dirty: uint8 (1, height, width).
        clean: its clean twin.

    Returns:
        float32 (1, height, width): brightness relative to the page's clean paper, so that 1 changes nothing.
    """
    page, twin = (image[0].numpy().astype(np.float32) / 255 for image in (dirty, clean))
    paper = minimum_filter(twin, size=3) >= INK
    if not paper.any():
        return torch.ones(dirty.shape)
    brightness = page[paper]
    filled, known = page.copy(), paper.copy()
    for side in WINDOWS:
        # The cost of scipy's windows does not depend on their size; that of torch's grows with their area.
        share, mean = (
            uniform_filter(image, side, mode="constant") for image in (paper.astype(np.float32), page * paper)
        )
        found = ~known & (share > 0.05)
        filled[found] = mean[found] / share[found]
        known |= found
    filled[~known] = brightness.mean()
    white = max(np.quantile(brightness, 0.95), 1e-3)
    return torch.from_numpy((filled / white).clip(0.05, 1.1))[None]


class PaperOnDemand:
    """The paper of a page, computed from the page and its clean twin each time it is indexed.

    Where pages stay on disk because they do not fit in memory, their papers (float32) would fit even less.

    Args:
        dirty: uint8 (1, height, width), which ``dirty[...]`` reads.
        clean: its clean twin.
    """

    def __init__(self, dirty: Page, clean: Page) -> None:
        self.dirty = dirty
        self.clean = clean
        self.shape = dirty.shape

    def __getitem__(self, window: Any) -> Tensor:
        return paper_of(self.dirty[...], self.clean[...])[window]


class BatchPapers(nn.Module):
    """Lay papers of random pages over the dirty page of some pairs (N, 2, height, width), dirty and clean in [0, 1].

    Print and dirt both darken the paper under them, so brightness multiplies. A power makes dirt fainter or stronger.

    Args:
        papers: of the training pages, from `paper_of`, at least as large as the crops.
        share: expected share of the pairs that get one.
        powers: smallest and largest power.
    """

    def __init__(self, papers: Sequence[Page], share: float = 0.1, powers: tuple[float, float] = (0.3, 3.0)) -> None:
        super().__init__()
        self.papers = papers
        self.share = share
        self.powers = powers

    def forward(self, pairs: Tensor) -> Tensor:
        """Return the pairs, with the clean pages unchanged."""
        count, _, height, width = pairs.shape
        places = [self._place(height, width) for _ in range(count)]
        chosen = torch.rand(count, 1, 1, 1) < self.share
        powers = torch.empty(count, 1, 1, 1).uniform_(*self.powers)
        indices = chosen.flatten().nonzero().flatten().tolist()
        if not indices:
            return pairs
        dirty, clean = pairs[:, :1].clone(), pairs[:, 1:]
        for index in indices:
            paper, window = places[index]
            # The memory is not pinned, but a copy this small is made at once, without waiting for the device.
            factor = (paper[window] ** powers[index]).to(pairs.device, non_blocking=True)
            dirty[index] = (dirty[index] * factor).clamp(0, 1)
        return torch.cat([dirty, clean], dim=1)

    def _place(self, height: int, width: int) -> tuple[Page, tuple[Any, ...]]:
        """Draw a paper and a random window of it, (1, height, width)."""
        paper = self.papers[int(torch.randint(len(self.papers), ()))]
        top = int(torch.randint(paper.shape[-2] - height + 1, ()))
        left = int(torch.randint(paper.shape[-1] - width + 1, ()))
        return paper, (..., slice(top, top + height), slice(left, left + width))


class BatchSpecks(nn.Module):
    """Lay a stain with specks over the dirty page of some pairs (N, 2, height, width), dirty and clean in [0, 1].

    The specks lie in clusters, are one to a few pixels wide and can be as dark as print, like the grain of an old
    stain: only their position distinguishes them from the dot of an i. A network that has not seen any keeps them.

    Args:
        share: expected share of the pairs that get some.
    """

    def __init__(self, share: float = 0.15) -> None:
        super().__init__()
        self.share = share

    def forward(self, pairs: Tensor) -> Tensor:
        """Return the pairs, with the clean pages unchanged."""
        chosen = (torch.rand(len(pairs)) < self.share).nonzero().flatten().tolist()
        if not chosen:
            return pairs
        factors = torch.ones_like(pairs)
        for index in chosen:
            factors[index, 0].copy_(_grainy_stain(pairs.shape[-2], pairs.shape[-1]), non_blocking=True)
        return pairs * factors


def _grainy_stain(height: int, width: int) -> Tensor:
    """Draw a stain with grain, as factors (height, width) in [0, 1] by which a page is multiplied.

    The stain covers the area where a smooth random wave is above a level, with a soft or sharp edge. Grains are the
    peaks of more or less smoothed noise, frequent where another wave is high.
    """

    def between(low: float, high: float) -> float:
        return float(torch.empty(()).uniform_(low, high))

    def wave(cells: int) -> Tensor:
        return F.interpolate(torch.randn(1, 1, cells, cells), (height, width), mode="bicubic")

    fine = torch.randn(1, 1, height, width)
    coarse = fine
    for _ in range(2 if between(0, 1) < 0.25 else 1):
        coarse = F.avg_pool2d(coarse, 3, stride=1, padding=1)
    noise = coarse / coarse.std() + between(0, 1) * fine
    peaks = noise / noise.std() + 0.8 * wave(3) - between(1.2, 3.0)
    grain = 1 - between(0.3, 0.9) * torch.sigmoid(between(1.5, 5.0) * peaks)
    stain = 1 - between(0.0, 0.55) * torch.sigmoid(between(1.0, 20.0) * (wave(4) + 0.5))
    return (grain * stain)[0, 0]
