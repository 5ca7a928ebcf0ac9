"""Random numbers that go on behind a resume as they would have without the stop."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class RandomState(Callback):
    """Keep the state of torch's random numbers in the checkpoints, and go on from it.

    What is shuffled, dropped out and augmented in the epochs after a resume is then what it would have been, if the
    checkpoint was written at the end of an epoch and batches are loaded without workers.
    """

    def __init__(self) -> None:
        self.resumed: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
        return {"cpu": torch.get_rng_state(), "cuda": cuda}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.resumed = state_dict

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.resumed:
            return
        # Not when it is loaded: what is set up in between draws numbers too.
        torch.set_rng_state(self.resumed["cpu"].cpu())
        if self.resumed["cuda"] is not None and pl_module.device.type == "cuda":
            torch.cuda.set_rng_state(self.resumed["cuda"].cpu(), pl_module.device)
        self.resumed = {}
        # What a loader draws for its workers when an epoch begins; the first after a resume has done so before.
        torch.empty((), dtype=torch.int64).random_()
