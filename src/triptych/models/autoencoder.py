"""Page in, page out: an autoencoder that is shown dirty pages and asked for clean ones."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanAbsoluteError, MeanSquaredError, MetricCollection

from triptych.models.base import Model, regression_loss


class Autoencoder(Model):
    """A denoising autoencoder (Vincent et al. 2008) for pages of any size, float32 (N, 1, height, width) in [0, 1].

    The network may shrink a page (``padding=valid``) or want its sides to be multiples of a power of two: the page is
    mirrored at its border by as much as is missing, so that the output always has the page's size (the overlap-tile
    idea of Ronneberger et al. 2015).

    Args:
        network: an image-to-image network with ``input_size`` and ``output_size``.
        loss: ``mse``, ``mae`` or ``huber``.
        others: see Model and ``conf/model/_pages.yaml``.
    """

    def __init__(
        self,
        network: dict[str, Any],
        optimizer: dict[str, Any],
        scheduler: dict[str, Any],
        monitor: str | None = None,
        activation: str = "relu",
        norm: str = "batch",
        dropout: float = 0.0,
        padding: str = "same",
        l1: float = 0.0,
        weight_decay: float = 0.0,
        loss: str = "mse",
    ) -> None:
        knobs = {"activation": activation, "norm": norm, "dropout": dropout, "padding": padding}
        super().__init__(network, optimizer, scheduler, knobs, monitor, l1, weight_decay)
        self.save_hyperparameters()
        self.criterion = regression_loss(loss)
        # Channels last: a third faster in convolutions on CPUs, more on GPUs with tensor cores.
        self.network.to(memory_format=torch.channels_last)

    def metrics_of_split(self) -> MetricCollection:
        return MetricCollection({"rmse": MeanSquaredError(squared=False), "mae": MeanAbsoluteError()})

    def forward(self, pages: Tensor) -> Tensor:
        """(N, 1, H, W) -> (N, 1, H, W), not yet clamped to [0, 1]."""
        height, width = pages.shape[-2:]
        return self.network(self._mirrored(pages))[..., :height, :width]

    def _mirrored(self, pages: Tensor) -> Tensor:
        """Pages with a border as wide as the network needs, mirrored; repeated where a page is too small for that."""
        sides = []
        for size in (pages.shape[-1], pages.shape[-2]):
            needed = self.network.input_size(size)
            before = (needed - self.network.output_size(needed)) // 2
            sides += [before, needed - size - before]
        if not any(sides):
            return pages
        enough = max(sides[:2]) < pages.shape[-1] and max(sides[2:]) < pages.shape[-2]
        return F.pad(pages, sides, mode="reflect" if enough else "replicate")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.criterion(outputs, targets)

    def update_metrics(self, metrics: MetricCollection, outputs: Tensor, targets: Tensor) -> None:
        # Flattened and contiguous: the metrics keep running sums over pixels, whatever the pages' sizes.
        metrics.update(outputs.clamp(0, 1).flatten(), targets.flatten())

    def predict(self, inputs: Tensor) -> dict[str, Tensor]:
        """``page``: the cleaned pages (N, 1, H, W) in [0, 1]."""
        return {"page": self(inputs).clamp(0, 1)}
