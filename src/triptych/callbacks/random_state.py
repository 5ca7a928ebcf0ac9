"""Save and restore the random states, so that a resumed run draws the same numbers as an uninterrupted one."""

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from triptych.callbacks.gathering import gather_states


class RandomState(Callback):
    """Save the random states of torch, NumPy and Python in the checkpoints, and restore them on a resume.

    Shuffling, dropout and augmentation are then the same as without the stop. In a distributed run each process has its
    own random numbers: otherwise dropout and augmentation would be the same on all.
    """

    def __init__(self) -> None:
        self.resumed: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
        state: Any = np.random.get_state(legacy=False)  # noqa: NPY002, what others draw from
        # Plain numbers, because checkpoints are read with weights_only=True.
        numpy = {**state, "state": {**state["state"], "key": state["state"]["key"].tolist()}}
        own = {"torch": torch.get_rng_state(), "cuda": cuda, "numpy": numpy, "python": random.getstate()}
        return gather_states(own)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.resumed = state_dict

    # Restored when training starts, not when loaded, because the setup in between draws numbers too; and again at the
    # start of the epoch, a hook that is skipped when a run is resumed in the middle of an epoch.

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_rank:
            draws = np.random.SeedSequence([torch.initial_seed() % 2**32, trainer.global_rank])
            seed_everything(int(draws.generate_state(1)[0]), workers=True, verbose=False)
            if self.resumed is not None:
                others = self.resumed.get("others", [])
                # A process that did not exist before has no state to restore.
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
