"""Training samples in the memory of the GPU that trains."""

from typing import Any

import torch
from torch.utils.data import Dataset

SHARE = 0.25
"""Of a GPU's free memory, what samples may take there unasked."""


def check(on_device: bool | str, num_workers: int, in_memory: bool) -> None:
    """Raises a ValueError where samples are wanted on the device that workers, or the disk, would have to give."""
    if on_device is not True:
        return
    if num_workers:
        raise ValueError(f"data.on_device=true data.num_workers={num_workers}: workers read the CPU's memory; choose 0")
    if not in_memory:
        raise ValueError("data.on_device=true data.in_memory=false: samples stay on disk; leave one of the two")


def placed(dataset: Dataset[Any], device: torch.device, on_device: bool | str) -> Dataset[Any]:
    """A dataset in memory as its batches are to be cut: on a GPU, where it trains there, else where it is.

    Args:
        dataset: in the CPU's memory; one that has no ``to`` stays there.
        device: that the run trains on.
        on_device: ``data.on_device``: true, false, or ``auto`` for as long as the samples take at most a quarter of
            what is free.
    """
    if device.type != "cuda" or not on_device or not hasattr(dataset, "to"):
        return dataset
    if on_device == "auto" and dataset.nbytes > SHARE * torch.cuda.mem_get_info(device)[0]:  # type: ignore[attr-defined]
        return dataset
    there: Dataset[Any] = dataset.to(device)
    return there
