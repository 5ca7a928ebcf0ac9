"""The residual U-Net: no norm by default, starts at the identity, cleans pages well after minutes on two cores."""

from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from triptych.networks.layers import (
    PADDINGS,
    EncoderDecoder,
    activation_layer,
    center_crop,
    check_choice,
    norm_layer,
    start_at_zero,
)

VIEWS = ((), (-2, -1), (-1,), (-2,))
"""Axes along which an image is flipped for each of the averaged views: none, rotated by 180 degrees, mirrored."""


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions, each preceded by a norm and an activation, and a shortcut around them.

    The order is that of "Identity mappings in deep residual networks" (He et al. 2016). The shortcut is the identity,
    or a 1x1 convolution if the number of channels changes. The second convolution starts at zero: an untrained unit
    equals its shortcut, and a deep network trains without a norm (Zhang et al. 2019, Fixup). Maps keep their size
    with `padding='same'`, and lose four rows and columns with 'valid'.

    Args:
        first: whether the unit's input is the image, which gets no norm and no activation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        activation: str,
        norm: str,
        dropout: float = 0.0,
        padding: str = "same",
        first: bool = False,
    ) -> None:
        super().__init__()
        check_choice("padding", padding, PADDINGS)
        conv = partial(nn.Conv2d, kernel_size=3, padding=1 if padding == "same" else 0)
        layers = [] if first else [norm_layer(norm, in_channels, dims=2), activation_layer(activation)]
        layers += [
            conv(in_channels, out_channels),
            norm_layer(norm, out_channels, dims=2),
            activation_layer(activation),
        ]
        if dropout > 0:
            layers.append(nn.Dropout2d(dropout))
        layers.append(conv(out_channels, out_channels))
        start_at_zero(layers[-1])
        self.correction = nn.Sequential(*layers)
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H', W')."""
        correction = self.correction(x)
        return self.shortcut(center_crop(x, like=correction)) + correction


class ResidualUNet(EncoderDecoder):
    """A U-Net of residual units (Zhang et al. 2018, "Road extraction by deep residual U-Net"), with one output channel.

    Unlike in `UNet`, the encoder's maps are added to the decoder's, not concatenated. The network predicts the
    correction to the input's first channel, which is zero at first: untrained, it returns its input.

    Args:
        width: channels at full resolution, where most of the time is spent.
        depth: number of times that the maps are halved.
        max_width: the channels double at each level, from `width`, up to this many.
        units: residual units per level, on the way down and again on the way up.
        flips: in evaluation mode, average over this many views of the image, at as many times the cost: 1 is the image
            alone, 2 adds its rotation by 180 degrees, 4 adds its two mirror images as well.
        dropout: probability of dropping a map within each unit.
        padding: 'same' keeps the image's size; 'valid' does not pad, so that the output is smaller than the input.

    Raises ValueError for another number of flips, or an unknown activation, norm or padding.
    """

    def __init__(
        self,
        in_channels: int = 1,
        width: int = 16,
        depth: int = 3,
        max_width: int = 128,
        units: int = 1,
        flips: int = 1,
        activation: str = "relu",
        norm: str = "none",
        dropout: float = 0.0,
        padding: str = "same",
    ) -> None:
        super().__init__(depth, trim=4 * units if padding == "valid" else 0)
        if flips not in (1, 2, 4):
            raise ValueError(f"model.network.flips={flips}: choose 1, 2 or 4")
        self.views = VIEWS[:flips]
        unit = partial(ResidualUnit, activation=activation, norm=norm, dropout=dropout, padding=padding)

        def level(channels: int, out_channels: int, first: bool = False) -> nn.Module:
            more = (unit(out_channels, out_channels) for _ in range(units - 1))
            return nn.Sequential(unit(channels, out_channels, first=first), *more)

        widths = [min(width * 2**level, max_width) for level in range(depth + 1)]
        upwards = list(pairwise(reversed(widths)))
        self.encoder = nn.ModuleList([level(in_channels, widths[0], first=True)])
        self.encoder.extend(level(above, below) for above, below in pairwise(widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(below, above, 2, stride=2) for below, above in upwards)
        self.decoder = nn.ModuleList(level(above, above) for _, above in upwards)
        self.output = nn.Sequential(
            norm_layer(norm, widths[0], dims=2), activation_layer(activation), nn.Conv2d(widths[0], 1, kernel_size=1)
        )
        start_at_zero(self.output[-1])

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, 1, output_size(H), output_size(W)).

        Raises ValueError for a height or width that `output_size` refuses.
        """
        self.check_size(x)
        if self.training or len(self.views) == 1:
            return self._restored(x)
        return torch.stack([self._restored(x.flip(axes)).flip(axes) for axes in self.views]).mean(dim=0)

    def _restored(self, x: Tensor) -> Tensor:
        maps = self.encoder[0](x)
        skips = []
        for encode in self.encoder[1:]:
            skips.append(maps)
            maps = encode(F.max_pool2d(maps, 2))
        for up, decode, skip in zip(self.up, self.decoder, reversed(skips), strict=True):
            maps = up(maps)
            maps = decode(maps + center_crop(skip, like=maps))
        correction = self.output(maps)
        return center_crop(x[:, :1], like=correction) + correction
