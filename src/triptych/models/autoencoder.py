"""The denoising autoencoder: dirty scanned pages in, clean pages out, whole or in tiles."""

import logging
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MeanAbsoluteError, MeanSquaredError, MetricCollection

from triptych.models.base import Model, regression_loss
from triptych.models.tiling import Tile, Tiling, in_tiles, tiling_of

log = logging.getLogger(__name__)

LARGEST_WHOLE = 9_000_000
"""Pixels of the largest page that a network that cannot be tiled cleans at once: A4 at 300 dpi.

The default U-Net needs 0.5 GB of memory per million pixels.
"""


class Autoencoder(Model):
    """A denoising autoencoder (Vincent et al. 2008) for pages of any size, float32 (N, 1, height, width) in [0, 1].

    The network may shrink a page (``padding=valid``) or require sides that are multiples of a power of two: the page is
    mirrored at its border by as many pixels as are missing, so that the output always has the page's size (the
    overlap-tile strategy of Ronneberger et al. 2015).

    Args:
        network: an image-to-image network with ``input_size`` and ``output_size``.
        loss: ``mse``, ``mae`` or ``huber``, of the outputs before they are clamped.
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
        # With channels last, convolutions are a third faster on CPUs, and more on GPUs with tensor cores.
        self.network.to(memory_format=torch.channels_last)

    def metrics_of_split(self) -> MetricCollection:
        return MetricCollection({"rmse": MeanSquaredError(squared=False), "mae": MeanAbsoluteError()})

    def forward(self, pages: Tensor) -> Tensor:
        """(N, 1, H, W) -> (N, 1, H, W), not yet clamped to [0, 1]."""
        outputs = self.network(self._mirrored(pages.to(self.dtype)))  # float64 under trainer.precision=64-true
        for axis in (-1, -2):
            outputs = outputs.index_select(axis, torch.arange(pages.shape[axis], device=pages.device))
        return outputs.to(pages.dtype)  # bfloat16 would round the loss, and white to steps of 1/256

    def _mirrored(self, pages: Tensor) -> Tensor:
        """Pad pages by as much as the network needs: mirrored, or with the edge repeated where a page is too small."""
        for axis in (-1, -2):
            pages = pages.index_select(axis, self._places(pages.shape[axis], pages.device))
        return pages

    def _places(self, size: int, device: torch.device) -> Tensor:
        """Indices of a page's ``size`` rows (or columns) as the network sees them: all, and the mirrored border."""
        needed = self.network.input_size(size)
        before = (needed - self.network.output_size(needed)) // 2
        # No branches, so that an exported model accepts pages of any size.
        places = (torch.arange(needed, device=device) - before).abs()
        places = (size - 1) - ((size - 1) - places).abs()
        return places.clamp(min=0)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.criterion(outputs, targets)

    def update_metrics(self, metrics: MetricCollection, outputs: Tensor, targets: Tensor) -> None:
        # Flattened and contiguous: the metrics are running sums over pixels, and pages differ in size.
        metrics.update(outputs.clamp(0, 1).flatten(), targets.flatten())

    def predict(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return the cleaned pages as ``page`` (N, 1, H, W) in [0, 1]."""
        return {"page": self(inputs).clamp(0, 1)}

    def predict_in_tiles(self, page: Tensor, side: int) -> Iterator[Tile]:
        """Clean a large page tile by tile, with the result of ``predict`` to within 1e-3; in evaluation mode.

        The tiles overlap by the network's receptive field, which is found by running it (see ``tiling_of``). A network
        with statistics over the whole page, such as ``model.norm=instance``, processes the page as a single tile.

        Args:
            page: (height, width), uint8, or float in [0, 1].
            side: maximum side of the network's input, in pixels.

        Yields:
            Rows, columns, and the cleaned tile (rows, columns) in [0, 1].

        Raises:
            ValueError: ``side`` is too small to leave a pixel between the overlaps.
            MemoryError: the network cannot be tiled, and the page has more than LARGEST_WHOLE pixels.
        """
        height, width = page.shape
        if self._tiling is None:
            if page.numel() > LARGEST_WHOLE:
                raise MemoryError(
                    f"{width} x {height} pixels are too many at once, and this network cannot be tiled, because each "
                    "pixel depends on the whole page: cut the page up, or train with model.norm=batch"
                )
            yield slice(0, height), slice(0, width), self.predict(_as_float(page)[None, None])["page"][0, 0]
            return
        row_places, column_places = self._places(height, page.device), self._places(width, page.device)

        def shown(rows: slice, columns: slice) -> Tensor:
            return _as_float(page[row_places[rows]][:, column_places[columns]])

        for rows, columns, part in in_tiles(self.network, self._tiling, shown, (height, width), side):
            yield rows, columns, part.clamp(0, 1)

    @cached_property
    def _tiling(self) -> Tiling | None:
        found = tiling_of(self.network)
        if found is None:
            log.warning(
                "This network cannot be tiled, because each pixel depends on the whole page: pages are cleaned whole."
            )
        return found


def _as_float(page: Tensor) -> Tensor:
    return page if page.is_floating_point() else page.float() / 255
