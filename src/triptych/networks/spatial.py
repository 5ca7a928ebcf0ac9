"""The spatial model of prices: it predicts from a row's own columns and from the prices of its neighbours."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from triptych.networks.kriging import LocalKriging
from triptych.networks.layers import activation_layer
from triptych.networks.nearest import NearestRows
from triptych.networks.packed import PackedMlp
from triptych.networks.smoothing import KernelSmoother
from triptych.networks.tabular import FeaturewiseLinear, PiecewiseLinearEncoding


class Spatial(nn.Module):
    """An ensemble of perceptrons, which see a row and means over its neighbours, and of kriging predictors.

    Args:
        in_features: number of columns of a row.
        place: indices of the two columns that are coordinates.
        similar: indices of further columns that determine how similar rows are.
        aspect: factor of the first coordinate, so that both are in one unit.
        members: number of perceptrons; 0 for none.
        krigings: number of kriging predictors; 0 for none.
        neighbours: number of nearest training rows that the perceptrons see.
        heads: number of kernels that weight these rows.
        kriged: number of nearest training rows that the kriging predictors see.
        learnt_features, kriging_dropout: of each kriging predictor.
        bins, embedding_size: of the embedding of each column.
        width, depth, activation, norm, dropout: of each perceptron.

    Raises ValueError for an unknown activation or norm, if there are neither perceptrons nor kriging predictors, or if
    `place` does not have two columns.
    """

    PRICE_BINS = 16

    def __init__(
        self,
        in_features: int,
        place: Sequence[int],
        similar: Sequence[int],
        aspect: float = 1.0,
        members: int = 8,
        krigings: int = 1,
        neighbours: int = 64,
        heads: int = 16,
        kriged: int = 32,
        learnt_features: int = 4,
        kriging_dropout: float = 0.1,
        bins: int = 32,
        embedding_size: int = 12,
        width: int = 256,
        depth: int = 3,
        activation: str = "relu",
        norm: str = "none",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not members and not krigings:
            raise ValueError("members=0 krigings=0: nothing would be left; take at least one of either")
        self.nearest = NearestRows(in_features, place, similar, max(neighbours, kriged), aspect)
        self.columns = PiecewiseLinearEncoding(in_features, bins)
        self.mlp = None
        if members:
            self.smoother = KernelSmoother(similar, heads, neighbours)
            self.embedding = self._embedding(in_features, bins, embedding_size, activation)
            self.prices = PiecewiseLinearEncoding(heads, self.PRICE_BINS)
            self.price_embedding = self._embedding(heads, self.PRICE_BINS, embedding_size, activation)
            known = (in_features + heads) * embedding_size + self.smoother.out_features
            self.mlp = PackedMlp(known, members, width, depth, activation, norm, dropout)
        described = in_features + self.nearest.SPACINGS
        self.krigings = nn.ModuleList(
            LocalKriging(described, place, similar, aspect, kriged, learnt_features, dropout=kriging_dropout)
            for _ in range(krigings)
        )

    @staticmethod
    def _embedding(columns: int, bins: int, size: int, activation: str) -> nn.Sequential:
        return nn.Sequential(FeaturewiseLinear(columns, bins, size), activation_layer(activation), nn.Flatten())

    def fit(self, x: Tensor, y: Tensor) -> None:
        """Store the scaled training rows (N, in_features) and targets (N,), and fit the bins to the rows."""
        self.columns.fit(x)
        self.nearest.fit(x, y)

    def forward(self, x: Tensor) -> Tensor:
        """Scaled rows (N, in_features) -> predictions (N, outputs); their mean weights both kinds equally."""
        near = self.nearest(x)
        outputs = []
        if self.mlp is not None:
            smoothed = self.smoother(near)
            prices = self.prices(smoothed[:, : self.smoother.heads])
            known = [self.embedding(self.columns(x)), self.price_embedding(prices), smoothed]
            outputs.append(self.mlp(torch.cat(known, dim=1)))
        if len(self.krigings):
            outputs.append(torch.stack([kriging(near) for kriging in self.krigings], dim=1))
        if len(outputs) == 1:
            return outputs[0]
        perceptrons, krigings = outputs
        return torch.cat([perceptrons.repeat(1, krigings.shape[1]), krigings.repeat(1, perceptrons.shape[1])], dim=1)
