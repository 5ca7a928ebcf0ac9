"""A DataLoader that can be resumed in the middle of an epoch."""

import signal
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.utilities.seed import pl_worker_init_function
from lightning.pytorch.utilities.seed import isolate_rng
from torch.utils.data import DataLoader

from triptych.data.datasets import Batch
from triptych.data.distributed import DistributedBatchSampler


def check(batch_size: int | str, eval_batch_size: int, num_workers: int) -> None:
    """Raise a ValueError if ``data.batch_size``, ``eval_batch_size`` or ``num_workers`` is invalid."""
    if batch_size != "full" and (not isinstance(batch_size, int) or batch_size < 1):
        raise ValueError(f"data.batch_size={batch_size}: expected a number from 1, or full")
    if eval_batch_size < 1:
        raise ValueError(f"data.eval_batch_size={eval_batch_size}: expected a number from 1")
    if num_workers < 0:
        raise ValueError(f"data.num_workers={num_workers}: expected a number from 0")


def begin_worker(number: int) -> None:
    """Seed a worker process as Lightning does, and let it ignore SIGINT (Ctrl-C) and SIGTERM.

    Both may reach all processes of a run, which would crash if a worker died of them. The main process handles them: it
    ends its workers, and they exit once it is gone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pl_worker_init_function(number)


class ResumableLoader(DataLoader[Batch]):
    """A DataLoader that resumes in the middle of an epoch with the batches that were still to come.

    Torch's own reshuffles, so that some samples come twice and others not at all. Here each epoch draws one seed from
    torch's global generator, and that seed determines what the sampler and the workers draw. ``state_dict`` is kept in
    checkpoints.

    Args:
        arguments: those of DataLoader, including a ``generator``, from which the sampler must draw.
    """

    seed: int | None = None
    """Seed of the current epoch, or of the last one."""
    taken: int = 0
    """Batches of that epoch returned so far."""
    resumed: bool = False
    """Whether the next iteration resumes at the position set by ``load_state_dict``."""

    def state_dict(self) -> dict[str, Any]:
        return {"seed": self.seed, "taken": self.taken, "batch_size": self._size}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the position; raises a ValueError if the batch size has changed, which makes it meaningless."""
        if state_dict["batch_size"] != self._size:
            raise ValueError(
                f"data.batch_size={self._size}: the run was stopped in the middle of an epoch, with batches of "
                f"{state_dict['batch_size']}; resume without it, or start a new run"
            )
        self.seed, self.taken, self.resumed = state_dict["seed"], state_dict["taken"], True

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        # A generator function: all of this runs at the first batch, once random states have been restored.
        if not self.resumed:
            self.seed, self.taken = _broadcast_seed(int(torch.empty((), dtype=torch.int64).random_())), 0
        self.resumed = False
        batches = self._batches()
        attributes = vars(self)  # bypasses DataLoader.__setattr__, which checks each assignment
        for batch in batches:
            attributes["taken"] += 1
            yield batch

    def indices(self) -> Sequence[int]:
        """Return the indices in the dataset of the samples in the last batch returned."""
        self._reseed()
        numbers = next(islice(self._index_batches(), self.taken - 1, None))
        return numbers.tolist() if hasattr(numbers, "tolist") else numbers  # torch's own batch sampler yields lists

    def weight(self) -> float:
        """Return the weight of this process's mean over the last batch, among those of all processes."""
        shared = self.batch_sampler
        return shared.weight(self.taken - 1) if isinstance(shared, DistributedBatchSampler) else 1.0

    @property
    def _size(self) -> int:
        """Samples per batch, over all processes."""
        return self.batch_sampler.batch_size  # type: ignore[union-attr]

    def _batches(self) -> Iterator[Batch]:
        """The batches of the epoch that are still to come."""
        self._reseed()
        fetch = getattr(self.dataset, "__getitems__", None)
        if not (self.num_workers or self.pin_memory or fetch is None):
            # What torch's iterator does, without its profiler event, which costs as much as a small batch.
            return (self.collate_fn(fetch(indices)) for indices in islice(self._index_batches(), self.taken, None))
        batches = super().__iter__()
        if self.taken:
            # Workers have random states of their own, which only replaying the batches already taken restores.
            with isolate_rng():
                for _ in islice(batches, self.taken):
                    pass
        return batches

    def _index_batches(self) -> Iterator[Any]:
        """Yield the sample indices of each batch of the epoch."""
        torch.empty((), dtype=torch.int64).random_(generator=self.generator)  # torch draws its workers' seed first
        yield from self.batch_sampler  # type: ignore[misc]

    def _reseed(self) -> None:
        self.generator.manual_seed(self.seed)


def _broadcast_seed(number: int) -> int:
    """Broadcast the number of rank 0 to all processes, each of which has random numbers of its own."""
    numbers = [number]
    if dist.is_available() and dist.is_initialized():
        dist.broadcast_object_list(numbers, src=0)
    return numbers[0]
