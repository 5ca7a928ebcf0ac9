"""An ensemble of separate networks that see the same batches."""

import torch
from torch import Tensor, nn


class Ensemble(nn.ModuleList):
    """Networks of (N, ...) -> (N, 1) side by side: (N, ...) -> (N, members).

    Starting from different weights, they make different errors, and their mean is better than most of them, the more so
    on data unlike the training data (Lakshminarayanan et al. 2017). The model trains each by its own loss.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) -> (N, members)."""
        return torch.cat([member(x) for member in self], dim=1)
