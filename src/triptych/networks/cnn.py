"""The course's image classifier: a plain convolutional network."""

from functools import partial
from itertools import pairwise

from torch import Tensor, nn

from triptych.networks.layers import ConvBlock, init_weights


class Cnn(nn.Module):
    """A plain convolutional classifier in the manner of VGG (Simonyan and Zisserman 2015).

    A convolution block, `depth` stages of two blocks and 2x2 max-pooling, the mean over each map, dropout, and a
    linear layer to the logits.

    Args:
        depth: the number of stages.
        max_width: the channels double at each stage, from `width`, up to this many.
        dropout: probability of dropping a feature before the linear layer.
        padding: of the convolutions, 'same' or 'valid'.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_outputs: int = 1,
        width: int = 16,
        depth: int = 4,
        max_width: int = 128,
        activation: str = "relu",
        norm: str = "batch",
        dropout: float = 0.0,
        padding: str = "same",
    ) -> None:
        super().__init__()
        block = partial(ConvBlock, activation=activation, norm=norm, padding=padding)
        widths = [min(width * 2**stage, max_width) for stage in range(depth)]
        stages = [
            nn.Sequential(block(before, here), block(here, here), nn.MaxPool2d(2))
            for before, here in pairwise([width, *widths])
        ]
        self.stem = block(in_channels, width)
        self.stages = nn.Sequential(*stages)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        init_weights(self, activation)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear([width, *widths][-1], num_outputs))
        self.min_size = _min_size(depth, trim=2 if padding == "valid" else 0)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> logits (N, num_outputs). Raises ValueError for images smaller than `min_size`."""
        height, width = x.shape[-2:]
        if min(height, width) < self.min_size:
            raise ValueError(
                f"images of {height} x {width} pixels are too small for this network: it needs {self.min_size} on each "
                "side; use larger images, fewer stages (depth) or padding=same"
            )
        return self.head(self.pool(self.stages(self.stem(x))))


def _min_size(depth: int, trim: int) -> int:
    """The smallest image side that leaves one pixel after the last stage; each convolution trims `trim` pixels."""
    size = 1
    for _ in range(depth):
        size = 2 * size + 2 * trim
    return size + trim
