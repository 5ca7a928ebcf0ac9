"""A DataLoader that knows its place in the epoch."""

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
    """Raises a ValueError where no loader can be made with ``data.batch_size`` and its like."""
    if batch_size != "full" and (not isinstance(batch_size, int) or batch_size < 1):
        raise ValueError(f"data.batch_size={batch_size}: expected a number from 1, or full")
    if eval_batch_size < 1:
        raise ValueError(f"data.eval_batch_size={eval_batch_size}: expected a number from 1")
    if num_workers < 0:
        raise ValueError(f"data.num_workers={num_workers}: expected a number from 0")


def begin_worker(number: int) -> None:
    """Seed a worker as Lightning does, and leave Ctrl-C and SIGTERM, which may reach all processes, to the run itself.

    The run would crash where a worker died of them. It ends its workers, and they end where it is gone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pl_worker_init_function(number)


class ResumableLoader(DataLoader[Batch]):
    """A DataLoader that goes on in the middle of an epoch with the batches that were still to come.

    Torch's own shuffles anew, so that some samples come twice and others not at all. Here an epoch begins with one seed
    drawn from torch's random numbers, and the seed decides what sampler and workers draw. Lightning keeps
    ``state_dict`` in its checkpoints.

    Args:
        arguments: those of DataLoader, ``generator`` among them, from which its sampler must draw.
    """

    seed: int | None = None
    """Of the epoch under way, or of the last one."""
    taken: int = 0
    """Batches of that epoch that were handed out."""
    resumed: bool = False
    """Whether the next iteration goes on where ``load_state_dict`` says."""

    def state_dict(self) -> dict[str, Any]:
        return {"seed": self.seed, "taken": self.taken, "batch_size": self._size}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises a ValueError where the batch size has changed: the place in the epoch is then meaningless."""
        if state_dict["batch_size"] != self._size:
            raise ValueError(
                f"data.batch_size={self._size}: the run was stopped in the middle of an epoch, with batches of "
                f"{state_dict['batch_size']}; go on without it, or start a new run"
            )
        self.seed, self.taken, self.resumed = state_dict["seed"], state_dict["taken"], True

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        # A generator: all of this happens when the first batch is asked for, and random states have been put back.
        if not self.resumed:
            self.seed, self.taken = _agreed(int(torch.empty((), dtype=torch.int64).random_())), 0
        self.resumed = False
        batches = self._batches()
        attributes = vars(self)  # past torch, which asks at each that is set whether it may be
        for batch in batches:
            attributes["taken"] += 1
            yield batch

    def indices(self) -> Sequence[int]:
        """The samples of the batch that was handed out last, as numbers of the dataset."""
        self._begin()
        numbers = next(islice(self._drawn(), self.taken - 1, None))
        return numbers.tolist() if hasattr(numbers, "tolist") else numbers  # torch's own sampler has a list

    def weight(self) -> float:
        """What the mean over the batch that was handed out last weighs among those of all processes."""
        shared = self.batch_sampler
        return shared.weight(self.taken - 1) if isinstance(shared, DistributedBatchSampler) else 1.0

    @property
    def _size(self) -> int:
        """Samples of a batch, those of other processes included."""
        return self.batch_sampler.batch_size  # type: ignore[union-attr]

    def _batches(self) -> Iterator[Batch]:
        """Those of the epoch that are still to come."""
        self._begin()
        fetch = getattr(self.dataset, "__getitems__", None)
        if not (self.num_workers or self.pin_memory or fetch is None):
            # What torch's iterator does, without its note to the profiler, which costs as much as a small batch.
            return (self.collate_fn(fetch(indices)) for indices in islice(self._drawn(), self.taken, None))
        batches = super().__iter__()
        if self.taken:
            # Workers draw from numbers of their own, and those only by going through all they have done before.
            with isolate_rng():
                for _ in islice(batches, self.taken):
                    pass
        return batches

    def _drawn(self) -> Iterator[Any]:
        """The samples of each batch of the epoch."""
        torch.empty((), dtype=torch.int64).random_(generator=self.generator)  # torch's first draw, for its workers
        yield from self.batch_sampler  # type: ignore[misc]

    def _begin(self) -> None:
        self.generator.manual_seed(self.seed)


def _agreed(number: int) -> int:
    """The number of the first of several processes; each has random numbers of its own."""
    numbers = [number]
    if dist.is_available() and dist.is_initialized():
        dist.broadcast_object_list(numbers, src=0)
    return numbers[0]
