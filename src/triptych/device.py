"""What a run trains on: before there is a Trainer to ask, and where its memory does not suffice."""

import re

import torch


def training_device(accelerator: str) -> torch.device:
    """The kind of device that Lightning would choose: ``cuda``, ``mps`` or ``cpu``, which stands for all others too.

    Args:
        accelerator: ``trainer.accelerator``.
    """
    found = None if accelerator == "cpu" else torch.accelerator.current_accelerator(check_available=True)
    return found if found is not None and found.type in ("cuda", "mps") else torch.device("cpu")


def lacking_memory(error: BaseException) -> str | None:
    """What to say where an error is an allocation that failed, in the memory of a machine or of a GPU; None elsewhere.

    Torch has a class of its own for such errors on a GPU; on a CPU they are RuntimeErrors.
    """
    text = str(error)
    if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "DefaultCPUAllocator" not in text:
        return None
    asked = re.search(r"allocate ([\d.]+ \w+)", text)
    return (
        f"not enough memory{f' for {asked[1]} more' if asked else ''}: choose a smaller data.batch_size, "
        "data.eval_batch_size or network, or fewer or smaller samples"
    )
