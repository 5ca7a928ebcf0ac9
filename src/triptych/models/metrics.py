"""torchmetrics' metrics, NaN where there is nothing that they could say: a 0 or an error would be wrong."""

import torch
from torch import Tensor
from torchmetrics import R2Score
from torchmetrics.classification import BinaryAUROC, BinarySpecificity
from torchmetrics.utilities.data import dim_zero_cat


class AUROC(BinaryAUROC):
    """The area under the ROC curve; NaN where a class is missing."""

    def compute(self) -> Tensor:  # type: ignore[override]  # torchmetrics' own, of a class of curves
        targets = dim_zero_cat(self.target)
        return super().compute() if (targets != targets[0]).any() else torch.full((), torch.nan, device=self.device)


class Specificity(BinarySpecificity):
    """The share of the negatives that are found; NaN without any."""

    def compute(self) -> Tensor:
        negatives = dim_zero_cat(self.tn) + dim_zero_cat(self.fp)
        return super().compute() if negatives > 0 else torch.full((), torch.nan, device=self.device)


class R2(R2Score):
    """The share of the variance that is explained; NaN for a single sample."""

    def compute(self) -> Tensor:
        return super().compute() if self.total > 1 else torch.full((), torch.nan, device=self.device)
