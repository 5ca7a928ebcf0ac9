"""Training batches that wait to be measured together."""

from collections.abc import Callable

import torch
from torch import Tensor

MOST = 256
"""Most batches that wait."""
MOST_NUMBERS = 2**22
"""Most outputs and targets that wait, all batches together."""


class MetricBuffer:
    """Batches that metrics have not seen yet, to be shown to them as one.

    An update of a metric costs as much as a step of a small network, whatever the number of samples.

    Args:
        measure: shows outputs, targets and their mean loss to the metrics, given with the number of samples.
    """

    def __init__(self, measure: Callable[[Tensor, Tensor, Tensor, int], None]) -> None:
        self.measure = measure
        self.batches: list[tuple[Tensor, Tensor, Tensor]] = []
        """Outputs, targets and mean loss of each."""

    def add(self, outputs: Tensor, targets: Tensor, loss: Tensor) -> None:
        """Queue a batch, and measure all that wait once there are enough."""
        if self.batches:
            last = self.batches[-1][0]
            if last.shape[1:] != outputs.shape[1:] or last.dtype != outputs.dtype:
                self.flush()  # they would not go into one tensor
        if outputs.is_cuda:
            outputs = outputs.clone()  # CUDA graphs, if the network is compiled to some, write the next ones there too
        self.batches.append((outputs, targets, loss))
        if len(self.batches) == MOST or len(self.batches) * (outputs.numel() + targets.numel()) > MOST_NUMBERS:
            self.flush()

    def flush(self) -> None:
        """Measure what waits."""
        if not self.batches:
            return
        outputs, targets, losses = zip(*self.batches, strict=True)
        self.batches = []
        sizes = torch.tensor([len(part) for part in targets])
        samples = int(sizes.sum())
        mean = (torch.stack(losses).float() * sizes.to(losses[0].device, non_blocking=True)).sum() / samples
        self.measure(torch.cat(outputs), torch.cat(targets), mean, samples)

    def flushing(self, compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """A metric's ``compute``, which has all that waits measured first."""

        def computed() -> Tensor:
            self.flush()
            return compute()

        return computed
