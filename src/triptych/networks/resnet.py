"""Residual classifiers (He et al. 2016): torchvision's ResNet-18, and a small one that a laptop trains in minutes."""

from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from triptych.networks.layers import (
    PADDINGS,
    ConvBlock,
    activation_layer,
    check_choice,
    init_weights,
    needs_bias,
    norm_layer,
)

DOWNSAMPLINGS = ("stride", "mean")


class ResNet18(ResNet):
    """torchvision's ResNet-18, from scratch: (N, in_channels, H, W) -> logits (N, num_outputs).

    All parameters but the head's have torchvision's names.

    Args:
        dropout: probability of dropping a feature before the linear layer.
        padding: 'same'; any other raises ValueError.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_outputs: int = 1,
        activation: str = "relu",
        norm: str = "batch",
        dropout: float = 0.0,
        padding: str = "same",
    ) -> None:
        _require_same(padding)
        super().__init__(BasicBlock, [2, 2, 2, 2], norm_layer=partial(norm_layer, norm, dims=2))
        self.conv1 = nn.Conv2d(in_channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        for module in self.modules():
            if isinstance(module, ResNet | BasicBlock):
                module.relu = activation_layer(activation)
            if isinstance(module, nn.Conv2d) and needs_bias(norm):  # torchvision's convolutions have none
                module.bias = nn.Parameter(torch.zeros(module.out_channels))
        init_weights(self, activation)
        self.fc: nn.Module = nn.Sequential(nn.Dropout(dropout), nn.Linear(512, num_outputs))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut around them (He et al. 2016), the activation after their sum.

    (N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride)). The shortcut is the identity if the
    shapes agree, otherwise a 1x1 convolution. With ``downsampling="stride"`` the first convolution and the shortcut are
    strided; with ``"mean"`` both see the means of stride x stride pixels, which hardly change when the image moves by
    one pixel (cf. Zhang 2019, who blurs after the convolution).
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, activation: str, norm: str, downsampling: str = "stride"
    ) -> None:
        check_choice("downsampling", downsampling, DOWNSAMPLINGS)
        super().__init__()
        self.before: nn.Module = nn.Identity()
        if stride > 1 and downsampling == "mean":
            self.before = nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False)
            stride = 1

        def normalised(conv: nn.Conv2d) -> nn.Module:
            return nn.Sequential(conv, norm_layer(norm, out_channels, dims=2))

        bias = needs_bias(norm)
        self.residual = nn.Sequential(
            ConvBlock(in_channels, out_channels, stride=stride, activation=activation, norm=norm),
            normalised(nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=bias)),
        )
        self.stride = stride
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            self.shortcut = normalised(nn.Conv2d(in_channels, out_channels, 1, bias=bias))
        self.activation = activation_layer(activation)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        x = self.before(x)
        # Sliced instead of a strided 1x1 convolution: without AVX-512, torch 2.14 corrupts memory in the gradient of
        # one with fewer than eight channels in channels-last format.
        left = x[..., :: self.stride, :: self.stride]
        return self.activation(self.shortcut(left) + self.residual(x))


class SmallResNet(nn.Module):
    """A compact residual classifier.

    A convolution block, `stages` stages of two residual blocks each, the first of which halves the maps, the mean over
    each map, dropout, and a linear layer to the logits.

    Args:
        max_width: the channels double at each stage, from `width`, up to this many.
        downsampling: how the maps are halved: 'stride' or 'mean', see `ResidualBlock`.
        dropout: probability of dropping a feature before the linear layer.
        padding: 'same'; any other raises ValueError.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_outputs: int = 1,
        width: int = 16,
        stages: int = 4,
        max_width: int = 128,
        downsampling: str = "stride",
        activation: str = "relu",
        norm: str = "batch",
        dropout: float = 0.0,
        padding: str = "same",
    ) -> None:
        _require_same(padding)
        super().__init__()
        block = partial(ResidualBlock, activation=activation, norm=norm, downsampling=downsampling)
        widths = [min(width * 2**stage, max_width) for stage in range(stages)]
        self.stem = ConvBlock(in_channels, width, activation=activation, norm=norm)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(block(before, here, stride=2), block(here, here, stride=1))
                for before, here in pairwise([width, *widths])
            )
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        init_weights(self, activation)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear([width, *widths][-1], num_outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> logits (N, num_outputs)."""
        return self.head(self.pool(self.stages(self.stem(x))))


def _require_same(padding: str) -> None:
    check_choice("padding", padding, PADDINGS)
    if padding == "valid":
        raise ValueError(
            "a residual network cannot have padding=valid: it adds a block's input to its output, and unpadded "
            "convolutions make the output smaller; use padding=same, or model=cnn"
        )
