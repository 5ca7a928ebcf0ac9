"""An ensemble of multilayer perceptrons, trained at once with one batched matrix product per layer.

After Gorishniy et al. (2024), "TabM", whose members train on the same batches, each by its own loss.
"""

import torch
from torch import Tensor, nn

from triptych.networks.layers import activation_layer, norm_layer


class PackedLinear(nn.Module):
    """A separate linear layer for each member: (members, N, in_features) -> (members, N, out_features)."""

    def __init__(self, members: int, in_features: int, out_features: int) -> None:
        super().__init__()
        bound = in_features**-0.5  # as in PyTorch's linear layer
        self.weight = nn.Parameter(torch.empty(members, in_features, out_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, out_features).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """(members, N, in_features) -> (members, N, out_features)."""
        return torch.baddbmm(self.bias, x, self.weight)


class PackedNorm(nn.ModuleList):
    """A separate normalisation for each member: (members, N, features) -> the same shape."""

    def forward(self, x: Tensor) -> Tensor:
        """(members, N, features) -> (members, N, features)."""
        return torch.stack([norm(member) for norm, member in zip(self, x, strict=True)])


class PackedMlp(nn.Module):
    """`members` multilayer perceptrons without shared parameters, each of `depth` hidden layers and a linear layer.

    Args:
        width: the number of units in each hidden layer of a member.
        norm: 'none', 'batch', 'layer' or 'group'; 'batch' cannot train on a batch of one.
        dropout: probability of dropping a hidden unit.
    """

    def __init__(
        self,
        in_features: int,
        members: int,
        width: int = 256,
        depth: int = 3,
        activation: str = "relu",
        norm: str = "none",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.members = members
        layers: list[nn.Module] = []
        for level in range(depth):
            layers.append(PackedLinear(members, width if level else in_features, width))
            if norm != "none":
                layers.append(PackedNorm(norm_layer(norm, width, dims=1) for _ in range(members)))
            layers += [activation_layer(activation), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, PackedLinear(members, width if depth else in_features, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_features) -> (N, members)."""
        return self.layers(x.expand(self.members, *x.shape)).squeeze(2).T
