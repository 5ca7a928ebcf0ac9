"""A line when the first step is done."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class Mark(Callback):
    """Say that the first step is done."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == 1:
            print("first step done")
