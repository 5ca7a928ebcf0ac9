"""The paper of one page laid over another: the same text under dirt that it never lay under."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.ndimage import minimum_filter, uniform_filter
from torch import Tensor, nn

INK = 0.98
"""Grey of a clean page below which there is ink; its neighbours are taken for ink too, for a scan blurs."""
WINDOWS = (3, 5, 9, 17)
"""Sides in pixels of the windows in which paper is looked for around ink, the nearest first."""


def paper_of(dirty: Tensor, clean: Tensor) -> Tensor:
    """What a page would look like without its text: where there is ink, the mean of the paper nearby.

    Args:
        dirty: uint8 (1, height, width).
        clean: its clean twin.

    Returns:
        float32 (1, height, width): the brightness relative to the page's clean paper, so that 1 changes nothing.
    """
    page, twin = (image[0].numpy().astype(np.float32) / 255 for image in (dirty, clean))
    paper = minimum_filter(twin, size=3) >= INK
    if not paper.any():
        return torch.ones(dirty.shape)
    brightness = page[paper]
    filled, known = page.copy(), paper.copy()
    for side in WINDOWS:
        # scipy's windows cost the same at any size; torch's cost their area.
        share, mean = (
            uniform_filter(image, side, mode="constant") for image in (paper.astype(np.float32), page * paper)
        )
        found = ~known & (share > 0.05)
        filled[found] = mean[found] / share[found]
        known |= found
    filled[~known] = brightness.mean()
    white = max(np.quantile(brightness, 0.95), 1e-3)
    return torch.from_numpy((filled / white).clip(0.05, 1.1))[None]


class BatchPapers(nn.Module):
    """Lay the papers of other pages over the dirty one of some pairs (N, 2, height, width), dirty and clean in [0, 1].

    Print and dirt both darken the paper under them, so brightness multiplies. A power makes dirt fainter or stronger.

    Args:
        papers: of the training pages, from `paper_of`, as large as the crops at least.
        share: of the pairs that get one.
        powers: smallest and largest.
    """

    def __init__(self, papers: Sequence[Tensor], share: float = 0.3, powers: tuple[float, float] = (0.3, 3.0)) -> None:
        super().__init__()
        self.papers = papers
        self.share = share
        self.powers = powers

    def forward(self, pairs: Tensor) -> Tensor:
        """The pairs, the clean pages as they were."""
        count = len(pairs)
        laid = torch.stack([self._piece(pairs.shape[-2], pairs.shape[-1]) for _ in range(count)]).to(pairs.device)
        chosen = torch.rand(count, 1, 1, 1) < self.share
        powers = torch.empty(count, 1, 1, 1).uniform_(*self.powers)
        factors = laid ** torch.where(chosen, powers, 0.0).to(pairs.device)
        dirty, clean = pairs.chunk(2, dim=1)
        return torch.cat([(dirty * factors).clamp(0, 1), clean], dim=1)

    def _piece(self, height: int, width: int) -> Tensor:
        """A piece (1, height, width) of some paper, from anywhere on it."""
        paper = self.papers[int(torch.randint(len(self.papers), ()))]
        top = int(torch.randint(paper.shape[-2] - height + 1, ()))
        left = int(torch.randint(paper.shape[-1] - width + 1, ()))
        return paper[..., top : top + height, left : left + width]
