"""The cost of padding: the error near the border of pages compared with that of the rest."""

import math
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from triptych.callbacks.measurement import Measurement, check_at_least_one


class BorderError(Measurement):
    """Log the error near the border of the validation pages.

    - ``border/rmse``: RMSE of the outermost ``border`` pixels on each side, over all pages, in [0, 1].
    - ``border/centre_rmse``: RMSE of the rest; ``border/ratio``: the first divided by the second, NaN if that is 0.
    - ``border/lost_pixels``: by how many pixels a side of the bare network's output is shorter than its input, whatever
      the input; 0 with ``padding=same``. The model mirrors as many at the page's border, so that no page shrinks.

    Args:
        every_n_epochs: see Measurement.
        border: width of the border in pixels; less than half of the smallest page's shorter side.
    """

    key = "border_error"
    of_validation = True

    def __init__(self, every_n_epochs: int, border: int = 8) -> None:
        super().__init__(every_n_epochs)
        check_at_least_one("border_error.border", border)
        self.border = border

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pages = trainer.datamodule.evaluation_batches("val")  # type: ignore[attr-defined]
        smallest = min((min(page.shape[-2:]) for page, _ in pages), default=math.inf)
        if smallest <= 2 * self.border:
            raise ValueError(
                f"callbacks.border_error.border={self.border}: the smallest validation page has a side of {smallest} "
                "pixels, and nothing is left between its borders; choose less than half of that"
            )

    def measure(self, trainer: Trainer, model: Any) -> dict[str, float]:
        edge = self.border
        # Sums of squared errors and numbers of pixels, for whole pages and for what lies within the borders.
        whole, inner = [0.0, 0], [0.0, 0]
        side = 0
        for dirty, clean in trainer.datamodule.evaluation_batches("val"):  # type: ignore[attr-defined]
            with trainer.precision_plugin.val_step_context():
                page = model.predict(dirty.to(model.device))["page"]
            errors = (page.cpu().double() - clean).square()
            for sums, part in ((whole, errors), (inner, errors[..., edge:-edge, edge:-edge])):
                sums[0] += float(part.sum())
                sums[1] += part.numel()
            side = dirty.shape[-1]
        border = math.sqrt(max(0.0, whole[0] - inner[0]) / (whole[1] - inner[1]))
        centre = math.sqrt(inner[0] / inner[1])
        fitting = model.network.input_size(side)
        return {
            "border/rmse": border,
            "border/centre_rmse": centre,
            "border/ratio": border / centre if centre else math.nan,
            "border/lost_pixels": float(fitting - model.network.output_size(fitting)),
        }
