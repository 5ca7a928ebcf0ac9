"""What neighbours cost, weighted by how near and how similar they are."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from triptych.networks.layers import Positive, columns
from triptych.networks.nearest import Neighbours


class KernelSmoother(nn.Module):
    """Means over the neighbours of a row, under `heads` kernels with learnt bandwidths (Nadaraya 1964, Watson 1964).

    A neighbour's weight falls exponentially with its distance in place and as a Gaussian with each difference in what
    else describes it. The bandwidths start anywhere between a few near neighbours and all of them, and between similar
    rows and any, so that the heads see different neighbourhoods. A head gives the mean and the standard deviation
    of the targets, how few neighbours have nearly all the weight, and the mean difference in each describing column.

    Args:
        similar: columns that describe a row, beside its place.
        heads: the number of kernels.
        neighbours: nearest rows that are seen.
    """

    PLACE = (0.005, 0.7)
    """Least and largest bandwidth in place at the start."""
    SPEED = 5.0
    """Logarithms of bandwidths move so much faster than weights."""

    def __init__(self, similar: Sequence[int], heads: int, neighbours: int) -> None:
        super().__init__()
        self.similar, self.heads, self.neighbours = list(similar), heads, neighbours
        low, high = map(math.log, self.PLACE)
        self.place = Positive(torch.empty(heads).uniform_(low, high).exp(), self.SPEED)
        likeness = torch.empty(heads, 1).uniform_(-1, 1.5) + 0.3 * torch.randn(heads, len(similar))
        self.likeness = Positive(likeness.exp(), self.SPEED)

    @property
    def out_features(self) -> int:
        """Numbers that stand for a neighbourhood."""
        return self.heads * (3 + len(self.similar))

    def forward(self, near: Neighbours) -> Tensor:
        """Rows and their neighbours -> (N, out_features), of which the first `heads` are mean targets."""
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
