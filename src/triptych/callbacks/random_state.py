"""Random numbers that go on behind a resume as they would have without the stop."""

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from triptych.callbacks.gathering import of_all


class RandomState(Callback):
    """Keep the random states of torch, NumPy and Python in the checkpoints, and go on from them.

    What is shuffled, dropped out and augmented after a resume is then what it would have been. Of several processes
    each has random numbers of its own, or all would drop out and augment alike.
    """

    def __init__(self) -> None:
        self.resumed: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
        state: Any = np.random.get_state(legacy=False)  # noqa: NPY002, what others draw from
        # Plain numbers, for a checkpoint is read with weights_only=True.
        numpy = {**state, "state": {**state["state"], "key": state["state"]["key"].tolist()}}
        return of_all({"torch": torch.get_rng_state(), "cuda": cuda, "numpy": numpy, "python": random.getstate()})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.resumed = state_dict

    # Restored when training starts, not when loaded: what is set up in between draws numbers too. And at an epoch's
    # start, which a run that goes on in the middle of one does not have.

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_rank:
            draws = np.random.SeedSequence([torch.initial_seed() % 2**32, trainer.global_rank])
            seed_everything(int(draws.generate_state(1)[0]), workers=True, verbose=False)
            if self.resumed is not None:
                others = self.resumed.get("others", [])
                # A process that there was not before has no numbers to go on with.
                self.resumed = others[trainer.global_rank - 1] if trainer.global_rank <= len(others) else None
        self._restore(pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore(pl_module)

    def on_train_batch_start(self, *_: Any) -> None:
        self.resumed = None

    def _restore(self, pl_module: LightningModule) -> None:
        if self.resumed is None:
            return
        torch.set_rng_state(self.resumed["torch"].cpu())
        if self.resumed["cuda"] is not None and pl_module.device.type == "cuda":
            torch.cuda.set_rng_state(self.resumed["cuda"].cpu(), pl_module.device)
        np.random.set_state(self.resumed["numpy"])  # noqa: NPY002
        random.setstate(self.resumed["python"])
