"""What a run trains on, before there is a Trainer to ask."""

import torch


def training_device(accelerator: str) -> torch.device:
    """The kind of device that Lightning would choose: ``cuda``, ``mps`` or ``cpu``, which stands for all others too.

    Args:
        accelerator: ``trainer.accelerator``.
    """
    found = None if accelerator == "cpu" else torch.accelerator.current_accelerator(check_available=True)
    return found if found is not None and found.type in ("cuda", "mps") else torch.device("cpu")
