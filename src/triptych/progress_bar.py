"""The bar on a terminal, at a price that a small step can pay."""

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

REDRAWS = 2
"""A second. A thread of its own draws, and each of its redraws holds up the step under way."""


class ProgressBar(RichProgressBar):
    """Rich's bar, which hears of a step when it is about to be redrawn and not in between.

    Lightning's own hears of every step, and is redrawn a hundred times a second.
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=REDRAWS)
        self.told = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Rich would draw before the first step, and once more with its own thread.
        if self.progress is not None:
            self.progress.disable = True
        super().on_train_epoch_start(trainer, pl_module)
        if self.progress is not None:
            self.progress.disable = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now, last = time.monotonic(), trainer.is_last_batch or trainer.global_step == trainer.max_steps
        if last or now - self.told >= 1 / REDRAWS:
            self.told = now
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
