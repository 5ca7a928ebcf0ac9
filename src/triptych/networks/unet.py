"""The U-Net: an encoder-decoder whose skip connections carry fine detail past the bottleneck."""

from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from triptych.networks.layers import ConvBlock, EncoderDecoder, center_crop, init_weights, start_at_zero


class UNet(EncoderDecoder):
    """U-Net (Ronneberger et al. 2015), with one output channel.

    Each level has two convolution blocks, with 2x2 max-pooling on the way down and a 2x2 transposed convolution on the
    way up, where the encoder's maps, centre-cropped with valid padding, are concatenated to the decoder's. With
    `depth=4, width=64, max_width=1024, padding='valid', norm='none', residual=False` it is the paper's network, which
    maps 572 pixels to 388.

    Args:
        depth: number of times that the maps are halved.
        max_width: the channels double at each level, from `width`, up to this many.
        residual: predict the correction to the input's first channel (Zhang et al. 2017, DnCNN), which is zero at
            first: the untrained network returns its input.
        dropout: probability of dropping a map after each convolution block.
        padding: 'same' keeps the image's size; 'valid' does not pad, so that the output is smaller than the input.
    """

    def __init__(
        self,
        in_channels: int = 1,
        width: int = 16,
        depth: int = 3,
        max_width: int = 128,
        residual: bool = True,
        activation: str = "relu",
        norm: str = "batch",
        dropout: float = 0.0,
        padding: str = "same",
    ) -> None:
        super().__init__(depth, trim=4 if padding == "valid" else 0)  # two 3x3 convolutions per level
        self.residual = residual
        block = partial(ConvBlock, activation=activation, norm=norm, dropout=dropout, padding=padding)

        def two_blocks(channels: int, out_channels: int) -> nn.Module:
            return nn.Sequential(block(channels, out_channels), block(out_channels, out_channels))

        widths = [min(width * 2**level, max_width) for level in range(depth + 1)]
        upwards = list(pairwise(reversed(widths)))
        self.down = nn.ModuleList(two_blocks(above, here) for above, here in pairwise([in_channels, *widths[:-1]]))
        self.bottom = two_blocks(widths[-2] if depth else in_channels, widths[-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(below, here, 2, stride=2) for below, here in upwards)
        self.merge = nn.ModuleList(two_blocks(2 * here, here) for _, here in upwards)
        init_weights(self, activation)
        self.output = nn.Conv2d(widths[0], 1, kernel_size=1)
        if residual:
            start_at_zero(self.output)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, 1, output_size(H), output_size(W)).

        Raises ValueError for a height or width that `output_size` refuses.
        """
        self.check_size(x)
        maps, skips = x, []
        for down in self.down:
            maps = down(maps)
            skips.append(maps)
            maps = F.max_pool2d(maps, 2)
        maps = self.bottom(maps)
        for up, merge, skip in zip(self.up, self.merge, reversed(skips), strict=True):
            maps = up(maps)
            maps = merge(torch.cat([center_crop(skip, like=maps), maps], dim=1))
        output = self.output(maps)
        return output + center_crop(x[:, :1], like=output) if self.residual else output
