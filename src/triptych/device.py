"""The device of a run before there is a Trainer to ask, and the message for running out of its memory."""

import re

import torch


def training_device(accelerator: str) -> torch.device:
    """The kind of device that Lightning would choose: ``cuda``, ``mps``, or ``cpu``, also in place of any other.

    Args:
        accelerator: ``trainer.accelerator``.
    """
    found = None if accelerator == "cpu" else torch.accelerator.current_accelerator(check_available=True)
    return found if found is not None and found.type in ("cuda", "mps") else torch.device("cpu")


def lacking_memory(error: BaseException) -> str | None:
    """The message for an error that is a failed memory allocation, on the CPU or a GPU; None for any other error.

    Torch has its own exception class for those on a GPU; on a CPU they are RuntimeErrors.
    """
    text = str(error)
    if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "DefaultCPUAllocator" not in text:
        return None
    asked = re.search(r"allocate ([\d.]+ \w+)", text)
    return (
        f"not enough memory{f' for {asked[1]} more' if asked else ''}: choose a smaller data.batch_size, "
        "data.eval_batch_size or network, or fewer or smaller samples"
    )
