"""Mean loss, and torchmetrics' metrics with NaN where they are undefined, instead of 0 or an error."""

import torch
from torch import Tensor
from torchmetrics import Metric, R2Score
from torchmetrics.classification import BinaryAUROC, BinarySpecificity
from torchmetrics.utilities.data import dim_zero_cat


class AUROC(BinaryAUROC):
    """Area under the ROC curve; NaN if a class is missing."""

    def compute(self) -> Tensor:  # type: ignore[override]  # torchmetrics' own, of a class of curves
        targets = dim_zero_cat(self.target)
        return super().compute() if (targets != targets[0]).any() else torch.full((), torch.nan, device=self.device)


class Specificity(BinarySpecificity):
    """Share of the negatives that are recognised as such; NaN without negatives."""

    higher_is_better = True

    def compute(self) -> Tensor:
        negatives = dim_zero_cat(self.tn) + dim_zero_cat(self.fp)
        return super().compute() if negatives > 0 else torch.full((), torch.nan, device=self.device)


class R2(R2Score):
    """Share of the variance that is explained; NaN if there is none: for one sample, or if all targets are equal."""

    lowest: Tensor
    highest: Tensor

    def __init__(self) -> None:
        super().__init__()
        # The variance itself would not do: a difference of large numbers, it is not exactly zero.
        self.add_state("lowest", torch.tensor(torch.inf), dist_reduce_fx="min")
        self.add_state("highest", torch.tensor(-torch.inf), dist_reduce_fx="max")

    def update(self, preds: Tensor, target: Tensor) -> None:
        super().update(preds, target)
        self.lowest = torch.minimum(self.lowest, target.min())
        self.highest = torch.maximum(self.highest, target.max())

    def compute(self) -> Tensor:
        return super().compute() if self.lowest < self.highest else torch.full((), torch.nan, device=self.device)


class MeanLoss(Metric):
    """Mean loss over samples, accumulated from the mean losses of batches.

    torchmetrics' own MeanMetric ignores NaN, or with ``nan_strategy="disable"`` the weights.
    """

    higher_is_better = False
    total: Tensor
    samples: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("samples", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, loss: Tensor, samples: int) -> None:
        """Add the mean loss of a batch of ``samples`` samples."""
        self.total += loss * samples
        self.samples += samples

    def compute(self) -> Tensor:
        return self.total / self.samples
