"""Several networks that share nothing but their batches."""

import torch
from torch import Tensor, nn


class Ensemble(nn.ModuleList):
    """Networks of (N, ...) -> (N, 1) side by side: (N, ...) -> (N, members).

    Begun at different weights, they err differently, and their mean is better than most of them, the more so on data
    unlike those of training (Lakshminarayanan et al. 2017). The model trains each by a loss of its own.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) -> (N, members)."""
        return torch.cat([member(x) for member in self], dim=1)
