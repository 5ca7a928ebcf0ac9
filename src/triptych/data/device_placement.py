"""Training samples in the memory of the GPU that trains."""

from typing import Any, Protocol, runtime_checkable

import torch
from torch.utils.data import Dataset

SHARE = 0.25
"""Of a GPU's free memory, what samples may take there unasked."""


def check(on_device: bool | str, num_workers: int, in_memory: bool) -> None:
    """Raises a ValueError where samples are wanted on the device that workers, or the disk, would have to give."""
    others = [f"data.num_workers={num_workers}"] * (num_workers > 0) + ["data.in_memory=false"] * (not in_memory)
    if on_device is True and others:
        raise ValueError(
            "data.on_device=true cannot be combined with worker processes or in_memory=false: leave out "
            f"{' and '.join(others)}, or choose data.on_device=auto"
        )


@runtime_checkable
class Movable(Protocol):
    """A dataset in memory that can be had in the memory of a device."""

    @property
    def nbytes(self) -> int:
        """Bytes of its samples."""

    def to(self, device: torch.device) -> Dataset[Any]:
        """The same samples there, from which ``__getitems__`` then cuts its batches."""


def placed(dataset: Dataset[Any], device: torch.device, on_device: bool | str) -> Dataset[Any]:
    """A dataset in memory as its batches are to be cut: on a GPU, where it trains there, else where it is.

    Args:
        dataset: in the CPU's memory.
        device: that the run trains on.
        on_device: ``data.on_device``: true, false, or ``auto`` for what is Movable and takes at most a quarter of the
            GPU's free memory.

    Raises:
        ValueError: ``on_device`` is true, and the dataset not Movable.
    """
    if device.type != "cuda" or not on_device:
        return dataset
    if not isinstance(dataset, Movable):
        if on_device is True:
            raise ValueError(f"data.on_device=true: {type(dataset).__name__} has no `to` and `nbytes`; choose auto")
        return dataset
    if on_device == "auto" and dataset.nbytes > SHARE * torch.cuda.mem_get_info(device)[0]:
        return dataset
    return dataset.to(device)
