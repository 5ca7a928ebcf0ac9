"""Distribution of samples among processes (ranks): together they use each sample once, however many they are."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import BatchSampler, Dataset, Sampler, SequentialSampler


class Shuffled(Sampler[int]):
    """Sampler of each sample once, in the order of torch's RandomSampler, which ``order`` returns as a tensor.

    Args:
        size: number of samples.
        generator: draws the order.
    """

    def __init__(self, size: int, generator: torch.Generator) -> None:
        self.size, self.generator = size, generator

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        return iter(self.order().tolist())

    def order(self) -> Tensor:
        """Draw the order of the next epoch, int64 (size,)."""
        return torch.randperm(self.size, generator=self.generator)


class DistributedBatchSampler(BatchSampler):
    """Batch sampler of one process's part of each batch; all processes draw the same batches.

    Together, the parts of all processes are the batches of a single process, so that each sample comes once.

    Args:
        sampler: draws the samples, identically on all processes.
        batch_size: samples of all processes together, at least one per process.
        drop_last: whether to drop a smaller last batch.
        rank: rank of this process.
        world_size: number of processes.
        device: where the samples lie, if they are gathered by an index tensor there: the order of a whole epoch is
            moved at once; None: batches are NumPy arrays.
    """

    def __init__(
        self,
        sampler: Sampler[int],
        batch_size: int,
        drop_last: bool,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | None = None,
    ) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self.rank, self.world_size, self.device = rank, world_size, device

    def __iter__(self) -> Iterator[Any]:
        # Slices of the epoch's order; torch's own sampler collects each batch index by index.
        for part in self._order().split(self.batch_size)[: len(self)]:
            own = part if self.world_size == 1 else part[self.rank :: self.world_size]
            yield own.numpy() if self.device is None else own

    def _order(self) -> Tensor:
        """Draw the order of the next epoch, int64 (samples,), on the device if there is one."""
        if isinstance(self.sampler, Shuffled):
            order = self.sampler.order()
        else:
            order = torch.from_numpy(np.fromiter(self.sampler, np.int64, len(self.sampler)))  # type: ignore[arg-type]
        return order.to(self.device)

    def weight(self, number: int) -> float:
        """Return the weight of this process's mean over batch ``number`` when the means of all processes are averaged.

        1 for a batch that is divided evenly; otherwise larger for processes that have one sample more.
        """
        whole = min(self.batch_size, len(self.sampler) - number * self.batch_size)  # type: ignore[arg-type]
        return len(range(self.rank, whole, self.world_size)) * self.world_size / whole


def evaluation_index_batches(size: int, batch_size: int, rank: int, world_size: int) -> list[list[int]]:
    """Return the rows of a split that one process evaluates, in batches; over all processes every row comes once.

    All processes get equally many batches, because some wait for each other at each batch. Batches of one cannot be
    evened out, because samples may differ in size and cannot be stacked: there a process may have one batch more.

    Args:
        size: rows of the split, at least one per process.
        batch_size: maximum rows per batch.
        rank: rank of this process.
        world_size: number of processes.
    """
    rows = np.arange(rank, size, world_size)
    if batch_size == 1:
        return rows[:, None].tolist()
    most = -(-size // world_size)
    return [part.tolist() for part in np.array_split(rows, -(-most // batch_size))]


def rank_and_world_size(trainer: Trainer | None) -> tuple[int, int]:
    """Return the rank of this process and the number of processes."""
    return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)


def training_batches(
    dataset: Dataset[Any],
    batch_size: int,
    sampler: Sampler[int] | None,
    generator: torch.Generator,
    trainer: Trainer | None,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """Return the DataLoader arguments that yield this process's part of the training batches.

    Args:
        dataset: the training split.
        batch_size: samples of all processes together.
        sampler: draws from the generator; None: each sample once, in random order.
        generator: in the same state on all processes.
        trainer: the run's; None: there is one process.
        device: where the dataset takes index tensors; None: it takes NumPy arrays of indices.

    Raises:
        ValueError: a batch is smaller than the number of processes.
    """
    rank, world_size = rank_and_world_size(trainer)
    size = len(dataset)  # type: ignore[arg-type]
    if batch_size < world_size:
        raise ValueError(
            f"data.batch_size={batch_size}: these are the samples of all {world_size} processes together; choose at "
            f"least {world_size}, or fewer of trainer.devices"
        )
    # In a ragged last batch, a process with one sample has no variance for batch norm, and one with none has no mean:
    # such a batch is dropped (other samples each epoch).
    fewest = 2 * world_size if batch_size >= 2 * world_size else world_size
    drop_last = 0 < size % batch_size < fewest
    if trainer is not None and trainer.overfit_batches:  # type: ignore[attr-defined]
        sampler = SequentialSampler(dataset)  # type: ignore[arg-type]  # the same few batches in each epoch
    sampler = sampler or Shuffled(size, generator)
    return {"batch_sampler": DistributedBatchSampler(sampler, batch_size, drop_last, rank, world_size, device)}


def evaluation_batches(dataset: Dataset[Any], name: str, batch_size: int, trainer: Trainer | None) -> dict[str, Any]:
    """Return the DataLoader arguments that yield this process's part of a split, its samples in order.

    Raises:
        ValueError: the split has fewer samples than there are processes.
    """
    rank, world_size = rank_and_world_size(trainer)
    if world_size == 1:
        return {"batch_size": batch_size}
    size = len(dataset)  # type: ignore[arg-type]
    if size < world_size:
        raise ValueError(
            f"trainer.devices: {world_size} processes cannot share the {size} samples of the {name} split; choose at "
            f"most {size}"
        )
    return {"batch_sampler": evaluation_index_batches(size, batch_size, rank, world_size)}
