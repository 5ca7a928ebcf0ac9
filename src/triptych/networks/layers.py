"""Building blocks of the networks: activations, normalisations, the convolution block, initialisation, cropping."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}
NORMS = ("none", "batch", "layer", "group", "instance")
PADDINGS = ("same", "valid")


def check_choice(what: str, value: str, choices: Iterable[str]) -> None:
    """Raise a ValueError that lists the choices, unless `value` is one of them."""
    if value not in choices:
        raise ValueError(f"unknown {what} {value!r}; choose from {', '.join(choices)}")


def activation_layer(name: str) -> nn.Module:
    """A new activation from `ACTIVATIONS`. Raises ValueError for any other name."""
    check_choice("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()


def norm_layer(name: str, channels: int, dims: int) -> nn.Module:
    """A new normalisation for feature vectors (N, C) with `dims=1`, or for feature maps (N, C, H, W) with `dims=2`.

    - `none`: the identity.
    - `batch`: over the batch (Ioffe and Szegedy 2015). It cannot train on a batch of one vector.
    - `layer`: over all of one example (Ba et al. 2016).
    - `group`: over groups of an example's channels (Wu and He 2018): the largest number of groups up to 8 that divides
      `channels` and, for vectors, leaves at least two channels in each.
    - `instance`: over each channel of one example (Ulyanov et al. 2016). Maps only.

    Raises ValueError for another name, and for `instance` on vectors.
    """
    check_choice("norm", name, NORMS)
    if name == "none":
        return nn.Identity()
    if name == "batch":
        return nn.BatchNorm1d(channels) if dims == 1 else nn.BatchNorm2d(channels)
    if name == "layer":
        return nn.LayerNorm(channels) if dims == 1 else nn.GroupNorm(1, channels)
    if name == "group":
        # A group needs at least two values to have a variance, and a channel of a vector is a single value.
        most = 8 if dims == 2 else min(8, max(1, channels // 2))
        return nn.GroupNorm(max(n for n in range(1, most + 1) if channels % n == 0), channels)
    if dims == 1:
        raise ValueError(
            "norm 'instance' needs feature maps; for feature vectors choose from none, batch, layer, group"
        )
    return nn.InstanceNorm2d(channels, affine=True)


def needs_bias(norm: str) -> bool:
    """Whether a bias has an effect in a layer that is followed by this normalisation.

    Batch and instance normalisation subtract each channel's mean, and any constant with it. Layer and group
    normalisation subtract one mean over several channels, which leaves the differences between their constants.
    """
    return norm not in ("batch", "instance")


class ConvBlock(nn.Sequential):
    """Convolution, normalisation, activation and, if `dropout` > 0, dropout of whole maps.

    (N, in_channels, H, W) -> (N, out_channels, H', W'). With stride 1, `padding='same'` keeps the size by zero padding
    and `'valid'` reduces it by `kernel_size - 1`. Raises ValueError for an unknown activation, norm or padding.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        activation: str = "relu",
        norm: str = "batch",
        dropout: float = 0.0,
        padding: str = "same",
    ) -> None:
        check_choice("padding", padding, PADDINGS)
        zeros = kernel_size // 2 if padding == "same" else 0  # as a number: PyTorch's own 'same' allows no stride
        layers = [
            nn.Conv2d(in_channels, out_channels, kernel_size, stride, zeros, bias=needs_bias(norm)),
            norm_layer(norm, out_channels, dims=2),
            activation_layer(activation),
        ]
        if dropout > 0:
            layers.append(nn.Dropout2d(dropout))
        super().__init__(*layers)


def init_weights(module: nn.Module, activation: str) -> None:
    """Initialise all convolutions and linear layers in `module` to suit `activation`, with biases of zero.

    Xavier (Glorot and Bengio 2010) for sigmoid and tanh; Kaiming (He et al. 2015) for relu and similar activations,
    with twice the variance to compensate for the half that a relu cuts off. Create a network's last layer afterwards:
    no activation follows it, and it works better with PyTorch's smaller default weights.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            if activation in ("sigmoid", "tanh"):
                nn.init.xavier_normal_(layer.weight)
            else:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def start_at_zero(layer: nn.Module) -> None:
    """Set all parameters of the layer to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class Positive(nn.Module):
    """Positive parameters, learnt as changes of their logarithm.

    Args:
        start: initial values.
        speed: factor on the changes, by which the logarithms move faster than ordinary weights.
    """

    start: Tensor

    def __init__(self, start: Tensor, speed: float) -> None:
        super().__init__()
        self.speed = speed
        self.register_buffer("start", start)
        self.change = nn.Parameter(torch.zeros_like(start))

    def forward(self) -> Tensor:
        """Current values, in the shape of `start`."""
        return self.start * torch.exp(self.speed * self.change)


def columns(rows: Tensor, numbers: Sequence[int]) -> Tensor:
    """Select columns by their indices: (..., columns) -> (..., len(numbers)).

    They are taken one by one: an index list would be copied to the GPU at each call, and the host would wait for that.
    """
    if not numbers:
        return rows[..., :0]
    return torch.stack([rows[..., number] for number in numbers], dim=-1)


def center_crop(maps: Tensor, like: Tensor) -> Tensor:
    """Crop `maps` (N, C, H, W) around their centre to the height and width of `like`."""
    (height, width), (new_height, new_width) = maps.shape[-2:], like.shape[-2:]
    top, left = (height - new_height) // 2, (width - new_width) // 2
    return maps[..., top : top + new_height, left : left + new_width]


class EncoderDecoder(nn.Module):
    """Base of the image-to-image networks that halve their maps and double them again: which image sizes fit.

    Args:
        depth: number of times that the maps are halved.
        trim: pixels that an axis loses to unpadded convolutions per level, on the way down and again on the way up.
    """

    def __init__(self, depth: int, trim: int) -> None:
        super().__init__()
        self.step = 2**depth
        self.trim = trim
        # Total loss of an axis: a pixel of level k spans 2**k input pixels, and each level but the deepest trims twice.
        self.margin = trim * (self.step + 2 * (self.step - 1))

    def output_size(self, n: int) -> int:
        """The output length for an input of length `n`; half of the difference is lost on each side.

        Raises ValueError for a length that the network does not accept: an axis must be even wherever it is halved, and
        at least one output pixel must remain.
        """
        if n <= self.margin or (n + self.trim) % self.step:
            fits = self.input_size(max(n - self.margin, 1))
            raise ValueError(f"an image side of {n} pixels does not fit this network; the next that does is {fits}")
        return n - self.margin

    def input_size(self, n: int) -> int:
        """The smallest input length whose output is at least `n` >= 1 long."""
        # Written as a multiple of `step` minus `trim`, so that torch.export can prove that every page size fits.
        return (n + self.margin + self.trim + self.step - 1) // self.step * self.step - self.trim

    def check_size(self, x: Tensor) -> None:
        """Raise `output_size`'s ValueError if `x` (N, C, H, W) does not fit."""
        for n in x.shape[-2:]:
            self.output_size(n)
