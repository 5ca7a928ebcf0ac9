"""Placement of the training samples in GPU memory (``data.on_device``)."""

from typing import Any, Protocol, runtime_checkable

import torch
from torch.utils.data import Dataset

SHARE = 0.25
"""Share of a GPU's free memory that samples may take with ``data.on_device=auto``."""


def check(on_device: bool | str, num_workers: int, in_memory: bool) -> None:
    """Raise a ValueError if ``on_device`` is true, but samples come from worker processes or from disk."""
    others = [f"data.num_workers={num_workers}"] * (num_workers > 0) + ["data.in_memory=false"] * (not in_memory)
    if on_device is True and others:
        raise ValueError(
            "data.on_device=true cannot be combined with worker processes or in_memory=false: leave out "
            f"{' and '.join(others)}, or choose data.on_device=auto"
        )


@runtime_checkable
class Movable(Protocol):
    """A dataset in memory that can be copied to a device."""

    @property
    def nbytes(self) -> int:
        """Size of its samples in bytes."""

    def to(self, device: torch.device) -> Dataset[Any]:
        """Return a copy on ``device``, where its ``__getitems__`` then gathers batches."""


def place_on_device(dataset: Dataset[Any], device: torch.device, on_device: bool | str) -> Dataset[Any]:
    """Return a copy of the dataset on the GPU that trains if ``on_device`` says so, else the dataset itself.

    Args:
        dataset: in the CPU's memory.
        device: the device on which the run trains.
        on_device: ``data.on_device``: true, false, or ``auto`` for a dataset that is Movable and takes at most a
            quarter of the GPU's free memory.

    Raises:
        ValueError: ``on_device`` is true and the dataset is not Movable.
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
