"""Buffer of training batches whose metrics are updated together, which saves time with small networks."""

from collections.abc import Callable

import torch
from torch import Tensor

MAX_BATCHES = 256
"""Maximum number of buffered batches."""
MAX_ELEMENTS = 2**22
"""Maximum number of buffered elements, outputs and targets of all batches together."""


class MetricBuffer:
    """Batches that the metrics have not seen yet, passed to them as one.

    Updating a metric costs as much as a training step of a small network, however few the samples.

    Args:
        measure: updates the metrics, given outputs, targets, their mean loss and the number of samples.
    """

    def __init__(self, measure: Callable[[Tensor, Tensor, Tensor, int], None]) -> None:
        self.measure = measure
        self.batches: list[tuple[Tensor, Tensor, Tensor]] = []
        """Outputs, targets and mean loss of each batch."""

    def add(self, outputs: Tensor, targets: Tensor, loss: Tensor) -> None:
        """Buffer a batch, and flush the buffer once it is full."""
        if self.batches:
            last = self.batches[-1][0]
            if last.shape[1:] != outputs.shape[1:] or last.dtype != outputs.dtype:
                self.flush()  # they cannot be concatenated
        if outputs.is_cuda:
            outputs = outputs.clone()  # a network compiled to CUDA graphs reuses the memory
        self.batches.append((outputs, targets, loss))
        if len(self.batches) == MAX_BATCHES or len(self.batches) * (outputs.numel() + targets.numel()) > MAX_ELEMENTS:
            self.flush()

    def flush(self) -> None:
        """Update the metrics with all buffered batches, and empty the buffer."""
        if not self.batches:
            return
        outputs, targets, losses = zip(*self.batches, strict=True)
        self.batches = []
        sizes = torch.tensor([len(part) for part in targets])
        samples = int(sizes.sum())
        mean = (torch.stack(losses).float() * sizes.to(losses[0].device, non_blocking=True)).sum() / samples
        self.measure(torch.cat(outputs), torch.cat(targets), mean, samples)

    def flushing(self, compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Wrap a metric's ``compute`` so that it flushes the buffer first."""

        def computed() -> Tensor:
            self.flush()
            return compute()

        return computed
