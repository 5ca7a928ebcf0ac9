"""Scaling of tabular inputs and targets, with the fitted statistics in buffers that are saved with the weights."""

import torch
from torch import Tensor, nn

from triptych.networks.layers import check_choice

SCALINGS = ("none", "minmax", "standard", "log", "quantile")


class InputScaler(nn.Module):
    """Imputes missing values and scales each column of a table, as fitted to training rows by `fit`.

    A missing value (NaN) becomes the column's training median. Then, by `kind`:

    - `none`: nothing more.
    - `minmax`: the training range becomes [0, 1].
    - `standard`: the training mean becomes 0 and the standard deviation 1.
    - `log`: as `standard`, but of the logarithm in columns whose training values are all positive with a skewness above
      1, as is typical of counts; values below the training range are clipped to it there. Results are clamped to +-5.
    - `quantile`: the training distribution becomes a standard normal, by linear interpolation between `num_quantiles`
      quantiles. A value that many rows share gets the mean of their ranks. Values outside the training range are
      clipped to it, which limits the result to +-5.2.

    A column that is constant in training becomes 0 there, unless the kind is `none`. Raises ValueError for an unknown
    kind.
    """

    median: Tensor
    shift: Tensor
    scale: Tensor
    low: Tensor
    logarithmic: Tensor
    quantiles: Tensor

    def __init__(self, num_features: int, kind: str = "standard", num_quantiles: int = 256) -> None:
        check_choice("scaling", kind, SCALINGS)
        super().__init__()
        self.kind = kind
        self.register_buffer("median", torch.zeros(num_features))
        if kind == "log":
            self.register_buffer("low", torch.ones(num_features))
            self.register_buffer("logarithmic", torch.zeros(num_features, dtype=torch.bool))
        if kind in ("minmax", "standard", "log"):
            self.register_buffer("shift", torch.zeros(num_features))
            self.register_buffer("scale", torch.ones(num_features))
        if kind == "quantile":
            self.register_buffer("quantiles", torch.zeros(num_features, num_quantiles))

    def fit(self, x: Tensor) -> None:
        """Fit to training rows (N, num_features), ignoring NaN.

        Raises ValueError if a column holds nothing but NaN.
        """
        empty = x.isnan().all(dim=0).nonzero().flatten().tolist()
        if empty:
            raise ValueError(f"columns {empty} have no value in any training row; leave them out")
        x = x.double()  # means over many rows lose digits in float32
        self.median.copy_(x.nanquantile(0.5, dim=0))
        low, high = x.nanquantile(0.0, dim=0), x.nanquantile(1.0, dim=0)
        if self.kind == "log":
            deviation = x - x.nanmean(dim=0)
            skewness = deviation.pow(3).nanmean(dim=0) / deviation.square().nanmean(dim=0).pow(1.5)
            self.low.copy_(low)
            self.logarithmic.copy_((low > 0) & (skewness > 1))
            x = self._logarithm(x)
        if self.kind == "minmax":
            self.shift.copy_(low)
            self.scale.copy_(torch.where(low < high, high - low, 1.0))
        if self.kind in ("standard", "log"):
            mean = x.nanmean(dim=0)
            std = (x - mean).square().nanmean(dim=0).sqrt()
            self.shift.copy_(mean)
            self.scale.copy_(torch.where(low < high, std, 1.0))  # a constant's rounded mean can leave a tiny std
        if self.kind == "quantile":
            ranks = torch.linspace(0, 1, self.quantiles.shape[1], dtype=x.dtype, device=x.device)
            self.quantiles.copy_(x.nanquantile(ranks, dim=0).T)

    def forward(self, x: Tensor) -> Tensor:
        """(N, num_features), NaN where missing -> (N, num_features) without NaN."""
        x = torch.where(x.isnan(), self.median, x)
        if self.kind == "none":
            return x
        if self.kind == "quantile":
            ranks = _ranks(x.T.contiguous(), self.quantiles).T
            return torch.special.ndtri(ranks.clamp(1e-7, 1 - 1e-7))  # the normal's quantile function
        if self.kind == "log":
            return ((self._logarithm(x) - self.shift) / self.scale).clamp(-5, 5)
        return (x - self.shift) / self.scale

    def _logarithm(self, x: Tensor) -> Tensor:
        """Take the logarithm in the columns that are scaled by it."""
        positive = torch.where(self.logarithmic, torch.maximum(x, self.low.to(x.dtype)), 1)
        return torch.where(self.logarithmic, positive.log(), x)


def _ranks(values: Tensor, quantiles: Tensor) -> Tensor:
    """The rank in [0, 1] of each of `values` (F, N) among `quantiles` (F, Q), which include minimum and maximum."""
    last = quantiles.shape[1] - 1
    below = (torch.searchsorted(quantiles, values, right=True) - 1).clamp(min=0)  # the last quantile <= value
    above = torch.searchsorted(quantiles, values).clamp(max=last)  # the first quantile >= value
    start, end = quantiles.gather(1, below), quantiles.gather(1, above)
    # If the value equals several quantiles, `above` is the first and `below` the last of them: take the middle.
    fraction = torch.where(start < end, (values - start) / (end - start), 0.5)
    return (below + fraction * (above - below)) / last


class TargetScaler(nn.Module):
    """Scales targets to mean 0 and standard deviation 1, and predictions back to the targets' unit."""

    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.tensor(-torch.inf))
        self.register_buffer("high", torch.tensor(torch.inf))
        self.register_buffer("mean", torch.tensor(0.0))
        self.register_buffer("std", torch.tensor(1.0))

    def fit(self, y: Tensor) -> None:
        """Fit to training targets of any shape."""
        y = y.double()
        self.low.copy_(y.min())
        self.high.copy_(y.max())
        self.mean.copy_(y.mean())
        self.std.copy_(torch.where(y.min() < y.max(), y.std(correction=0), 1.0))

    def transform(self, y: Tensor) -> Tensor:
        """Targets of any shape in their own unit -> the same, scaled by the training mean and standard deviation."""
        return (y - self.mean) / self.std

    def inverse(self, y: Tensor) -> Tensor:
        """Scaled targets, or predictions of them -> the targets' own unit; the inverse of `transform`."""
        return y * self.std + self.mean

    def clip(self, y: Tensor) -> Tensor:
        """Clip predictions in the targets' own unit to the range of the training targets."""
        return torch.clamp(y, self.low, self.high)
