"""One log line per epoch, for terminals and log files alike."""

import logging
import time

from lightning.pytorch import Callback, LightningModule, Trainer

log = logging.getLogger(__name__)


class EpochLog(Callback):
    """Log epoch, duration, training loss and validation metrics after each epoch, and the reason of early stopping."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Not in on_train_epoch_start, which Lightning skips when a run is resumed in the middle of an epoch.
        self.started, self.validated = time.perf_counter(), False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        seconds = time.perf_counter() - self.started
        shown = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name == "train/loss" or (self.validated and name.startswith("val/"))  # Lightning keeps old ones
        }
        total = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}"
        metrics = "  ".join(f"{name} {value:.5g}" for name, value in shown.items())
        log.info("epoch %d%s  %.1f s  %s", trainer.current_epoch + 1, total, seconds, metrics)
        self.started, self.validated = time.perf_counter(), False

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for stopping in trainer.early_stopping_callbacks:
            # In the last epoch, early stopping has ended nothing.
            if stopping.stopping_reason_message and stopping.stopped_epoch + 1 != trainer.max_epochs:
                reason = stopping.stopping_reason_message.partition(" Signaling")[0]
                log.info("Stopped early by callbacks.early_stopping: %s", reason)
