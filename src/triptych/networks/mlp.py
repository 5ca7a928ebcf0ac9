"""The multilayer perceptron for tables."""

from torch import Tensor, nn

from triptych.networks.layers import activation_layer, init_weights, needs_bias, norm_layer


class Mlp(nn.Module):
    """`depth` hidden layers of linear, normalisation, activation and dropout, then a linear layer.

    Args:
        width: the number of units in each hidden layer.
        norm: 'none', 'batch', 'layer' or 'group'; 'batch' cannot train on a batch of one.
        dropout: probability of dropping a hidden unit.
    """

    def __init__(
        self,
        in_features: int,
        num_outputs: int = 1,
        width: int = 256,
        depth: int = 2,
        activation: str = "relu",
        norm: str = "none",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        hidden: list[nn.Module] = []
        for level in range(depth):
            hidden += [
                nn.Linear(width if level else in_features, width, bias=needs_bias(norm)),
                norm_layer(norm, width, dims=1),
                activation_layer(activation),
            ]
            if dropout > 0:
                hidden.append(nn.Dropout(dropout))
        self.hidden = nn.Sequential(*hidden)
        init_weights(self, activation)
        self.output = nn.Linear(width if depth else in_features, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_features) -> (N, num_outputs)."""
        return self.output(self.hidden(x))
