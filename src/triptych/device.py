"""What a run trains on, before there is a Trainer to ask."""

import torch


def training_device(accelerator: str) -> torch.device:
    """The device that Lightning would choose.

    Args:
        accelerator: ``trainer.accelerator``.
    """
    found = None if accelerator == "cpu" else torch.accelerator.current_accelerator(check_available=True)
    return found or torch.device("cpu")
