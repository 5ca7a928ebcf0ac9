"""A progress bar for terminals that is cheap even for small training steps."""

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

REDRAWS = 2
"""Redraws per second. A separate thread draws, and each redraw holds up the current step."""


class ProgressBar(RichProgressBar):
    """Rich's progress bar, updated only when it is about to be redrawn.

    Lightning's own is updated in every step, and redrawn a hundred times a second.
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=REDRAWS)
        self.last_redraw = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Rich would draw before the first step, and again from its own thread.
        if self.progress is not None:
            self.progress.disable = True
        super().on_train_epoch_start(trainer, pl_module)
        if self.progress is not None:
            self.progress.disable = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now, last = time.monotonic(), trainer.is_last_batch or trainer.global_step == trainer.max_steps
        if last or now - self.last_redraw >= 1 / REDRAWS:
            self.last_redraw = now
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
