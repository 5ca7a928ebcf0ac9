"""The course's denoiser: a convolutional encoder-decoder without skip connections."""

from functools import partial

from torch import Tensor, nn

from triptych.networks.layers import ConvBlock, EncoderDecoder, init_weights


class ConvAutoencoder(EncoderDecoder):
    """A plain convolutional encoder-decoder, after the denoising autoencoder of Vincent et al. (2008).

    `depth` times a convolution and 2x2 max-pooling, a convolution on the code, `depth` times nearest-neighbour
    upsampling and a convolution, and a linear 1x1 convolution to one channel. All hidden maps have `width` channels.
    There are no skip connections: the output can show only what the code contains.

    Args:
        dropout: probability of dropping a map after each convolution.
        padding: 'same' keeps the image's size; 'valid' does not pad, so that the output is smaller than the input.
    """

    def __init__(
        self,
        in_channels: int = 1,
        width: int = 32,
        depth: int = 2,
        activation: str = "relu",
        norm: str = "batch",
        dropout: float = 0.0,
        padding: str = "same",
    ) -> None:
        super().__init__(depth, trim=2 if padding == "valid" else 0)  # one 3x3 convolution per level
        block = partial(ConvBlock, activation=activation, norm=norm, dropout=dropout, padding=padding)
        encoder: list[nn.Module] = []
        for level in range(depth):
            encoder += [block(width if level else in_channels, width), nn.MaxPool2d(2)]
        encoder.append(block(width if depth else in_channels, width))
        decoder: list[nn.Module] = []
        for _ in range(depth):
            decoder += [nn.Upsample(scale_factor=2, mode="nearest"), block(width, width)]
        self.encoder = nn.Sequential(*encoder)
        self.decoder = nn.Sequential(*decoder)
        init_weights(self, activation)
        self.output = nn.Conv2d(width, 1, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, 1, output_size(H), output_size(W)).

        Raises ValueError for a height or width that `output_size` refuses.
        """
        self.check_size(x)
        return self.output(self.decoder(self.encoder(x)))
