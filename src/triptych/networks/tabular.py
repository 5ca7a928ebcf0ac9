"""A multilayer perceptron for tables on embeddings of the numerical features.

After Gorishniy, Rubachev and Babenko (2022), "On Embeddings for Numerical Features in Tabular Deep Learning".
"""

import math

import torch
from torch import Tensor, nn

from triptych.networks.layers import activation_layer, check_choice
from triptych.networks.mlp import Mlp

EMBEDDINGS = ("piecewise_linear", "periodic", "none")


class PiecewiseLinearEncoding(nn.Module):
    """Piecewise-linear encoding of each feature in `bins` bins (section 3.2 of the paper).

    Bins below the value's bin are 1, those above it 0, and its own bin is the fraction of it that is passed. The first
    bin extends below its lower edge and the last above its upper edge, so that values outside the training range stay
    distinct. Bins of zero width, which arise where many rows share a value, are always 0. Before `fit` the bins divide
    [-3, 3] evenly.
    """

    edges: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, num_features: int, bins: int) -> None:
        super().__init__()
        self.register_buffer("edges", torch.zeros(num_features, bins + 1))
        self.register_buffer("low", torch.zeros(num_features, bins))  # what each bin is clamped to
        self.register_buffer("high", torch.ones(num_features, bins))
        self.fit(torch.linspace(-3, 3, bins + 1)[:, None].expand(-1, num_features))

    def fit(self, x: Tensor) -> None:
        """Set the edges to quantiles of the training rows (N, num_features), always to values that occur in them."""
        ranks = torch.linspace(0, 1, self.edges.shape[1], dtype=torch.double, device=x.device)
        self.edges.copy_(x.double().quantile(ranks, dim=0, interpolation="nearest").T)
        real = self.edges.diff(dim=1) > 0
        first = real & (real.cumsum(dim=1) == 1)
        last = real & (real.flip(1).cumsum(dim=1).flip(1) == 1)
        self.low.zero_().masked_fill_(first, -math.inf)
        self.high.fill_(1).masked_fill_(last, math.inf)

    def forward(self, x: Tensor) -> Tensor:
        """(N, F) -> (N, F, bins)."""
        start, width = self.edges[:, :-1], self.edges.diff(dim=1)
        slope = torch.where(width > 0, 1 / width, 0)
        return ((x[:, :, None] - start) * slope).clamp(self.low, self.high)


class PeriodicEncoding(nn.Module):
    """Cosines and sines of a value at learnt frequencies (section 3.3 of the paper).

    `scale` is the standard deviation of the initial frequencies.
    """

    def __init__(self, num_features: int, frequencies: int, scale: float) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(scale * torch.randn(num_features, frequencies))

    def forward(self, x: Tensor) -> Tensor:
        """(N, F) -> (N, F, 2 * frequencies)."""
        angles = 2 * math.pi * self.frequencies * x[:, :, None]
        return torch.cat([angles.cos(), angles.sin()], dim=2)


class FeaturewiseLinear(nn.Module):
    """A separate linear layer for each feature: (N, F, in_size) -> (N, F, out_size)."""

    def __init__(self, num_features: int, in_size: int, out_size: int) -> None:
        super().__init__()
        bound = in_size**-0.5  # as in PyTorch's linear layer
        self.weight = nn.Parameter(torch.empty(num_features, in_size, out_size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_features, out_size).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """(N, F, in_size) -> (N, F, out_size)."""
        return torch.einsum("nfi,fio->nfo", x, self.weight) + self.bias


class Tabular(nn.Module):
    """Numerical feature embeddings, then an `Mlp`.

    Args:
        embedding: 'piecewise_linear' (bins at training quantiles) or 'periodic' (the paper's PLR), each followed by one
            linear layer per feature and the activation; or 'none' for the `Mlp` alone.
        bins: bins per feature; for 'periodic', frequencies per feature.
        embedding_size: length of the embedding of one feature.
        frequency_scale: for 'periodic', the standard deviation of the initial frequencies.
        width, depth, activation, norm, dropout: of the `Mlp`.

    Raises ValueError for an unknown embedding, activation or norm.
    """

    def __init__(
        self,
        in_features: int,
        num_outputs: int = 1,
        embedding: str = "piecewise_linear",
        bins: int = 48,
        embedding_size: int = 16,
        frequency_scale: float = 0.1,
        width: int = 256,
        depth: int = 3,
        activation: str = "relu",
        norm: str = "none",
        dropout: float = 0.0,
    ) -> None:
        check_choice("embedding", embedding, EMBEDDINGS)
        super().__init__()
        self.embedding = nn.Sequential()
        if embedding == "piecewise_linear":
            self.embedding.append(PiecewiseLinearEncoding(in_features, bins))
            self.embedding.append(FeaturewiseLinear(in_features, bins, embedding_size))
        if embedding == "periodic":
            self.embedding.append(PeriodicEncoding(in_features, bins, frequency_scale))
            self.embedding.append(FeaturewiseLinear(in_features, 2 * bins, embedding_size))
        mlp_features = in_features
        if embedding != "none":
            self.embedding.extend([activation_layer(activation), nn.Flatten()])
            mlp_features = in_features * embedding_size
        self.mlp = Mlp(mlp_features, num_outputs, width, depth, activation, norm, dropout)

    def fit(self, x: Tensor, y: Tensor) -> None:
        """Fit the bins to the scaled training inputs (N, in_features); other embeddings have nothing to fit."""
        for module in self.embedding:
            if isinstance(module, PiecewiseLinearEncoding):
                module.fit(x)

    def forward(self, x: Tensor) -> Tensor:
        """Scaled inputs (N, in_features) -> (N, num_outputs)."""
        return self.mlp(self.embedding(x))
