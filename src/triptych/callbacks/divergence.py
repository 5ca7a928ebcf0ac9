"""What becomes of a run whose loss is no longer a number."""

import math

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from triptych.callbacks.measurement import check_from_one


class Diverged(Exception):
    """The loss or the weights are NaN or infinite, and would stay so; the message says where, and what may help."""


class StopOnDivergence(Callback):
    """End a run with Diverged once its loss or its weights are NaN or infinite; its last checkpoint is a good one.

    The training loss is looked at before it is walked back, the validation loss and the weights after each epoch, for
    the last step can overshoot and no training loss show it.

    Args:
        every_n_steps: steps between two looks at the training loss. On a GPU, where a look makes the host wait for the
            device, and where several processes train, they come no more often than ``trainer.log_every_n_steps``.
    """

    def __init__(self, every_n_steps: int = 1) -> None:
        check_from_one("divergence.every_n_steps", every_n_steps)
        self.every_n_steps = every_n_steps

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.interval = self.every_n_steps
        if trainer.world_size > 1 or pl_module.device.type != "cpu":
            self.interval = max(self.every_n_steps, trainer.log_every_n_steps)  # type: ignore[attr-defined]

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        if trainer.global_step % self.interval == 0:
            self._check(trainer, "training loss", loss)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Before early stopping has its effect, which takes a monitor that is no number for an ordinary end.
        loss = trainer.callback_metrics.get("val/loss")
        if loss is not None and not trainer.sanity_checking:
            self._check(trainer, "validation loss", loss)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        largest = [parameter.detach().abs().max() for parameter in pl_module.parameters() if parameter.numel()]
        self._check(trainer, "largest weight", torch.stack(largest).max())

    @staticmethod
    def _check(trainer: Trainer, what: str, value: Tensor) -> None:
        number = float(value.detach())
        # One process alone would leave the others waiting for it.
        if trainer.strategy.reduce_boolean_decision(not math.isfinite(number), all=False):
            rates = {group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups}
            raise Diverged(
                f"the {what} is {number} at step {trainer.global_step} (epoch {trainer.current_epoch + 1}, "
                f"batch {trainer.fit_loop.epoch_loop.batch_idx + 1}), learning rate {max(rates):.3g}: set a smaller "
                "optimizer.lr, or clip the gradients with trainer.gradient_clip_val=1"
            )
