"""Kernel smoothing: means of the neighbours' targets, weighted by distance and similarity."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from triptych.networks.layers import Positive, columns
from triptych.networks.nearest import Neighbours


class KernelSmoother(nn.Module):
    """Means over the neighbours of a row, under `heads` kernels with learnt bandwidths (Nadaraya 1964, Watson 1964).

    A neighbour's weight decays exponentially with its spatial distance and as a Gaussian with each difference in the
    `similar` columns. The initial bandwidths range from a few near neighbours to all of them, and from similar rows to
    any, so that the heads see different neighbourhoods. Each head returns the mean and the standard deviation of the
    targets, how concentrated the weights are on few neighbours, and the mean difference in each `similar` column.

    Args:
        similar: indices of the columns that describe a row, besides its coordinates.
        heads: number of kernels.
        neighbours: number of nearest rows used.
    """

    PLACE = (0.005, 0.7)
    """Smallest and largest initial bandwidth of the spatial distance."""
    SPEED = 5.0
    """Factor by which the logarithms of bandwidths move faster than ordinary weights."""

    def __init__(self, similar: Sequence[int], heads: int, neighbours: int) -> None:
        super().__init__()
        self.similar, self.heads, self.neighbours = list(similar), heads, neighbours
        low, high = map(math.log, self.PLACE)
        self.place = Positive(torch.empty(heads).uniform_(low, high).exp(), self.SPEED)
        likeness = torch.empty(heads, 1).uniform_(-1, 1.5) + 0.3 * torch.randn(heads, len(similar))
        self.likeness = Positive(likeness.exp(), self.SPEED)

    @property
    def out_features(self) -> int:
        """Number of features that describe a neighbourhood."""
        return self.heads * (3 + len(self.similar))

    def forward(self, near: Neighbours) -> Tensor:
        """Rows and their neighbours -> (N, out_features), the first `heads` of which are mean targets."""
        rows, targets = near.rows[:, : self.neighbours], near.targets[:, : self.neighbours, None]
        differences = columns(near.row, self.similar)[:, None] - columns(rows, self.similar)  # (N, K, S)
        far = near.distances[:, : self.neighbours, None] / self.place()
        precisions = self.likeness().square().reciprocal()
        weights = (-far - differences.square() @ precisions.T / 2).softmax(dim=1)  # (N, K, heads)
        mean = (weights * targets).sum(dim=1)
        variance = (weights * targets.square()).sum(dim=1) - mean.square()
        concentration = 1 + weights.square().sum(dim=1).clamp(min=1e-6).log() / 2
        moved = (weights.transpose(1, 2) @ differences).flatten(1)
        return torch.cat([mean, (variance.clamp(min=0) + 1e-4).sqrt(), concentration, moved], dim=1)
