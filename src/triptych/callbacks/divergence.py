"""What becomes of a run whose loss is no longer a number."""

import math
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from triptych.callbacks.measurement import check_from_one

MOST = 8
"""Samples that the message names."""


class Diverged(Exception):
    """The loss or the weights are NaN or infinite, and would stay so; the message says where, and what may help."""


class StopOnDivergence(Callback):
    """End a run with Diverged once its loss or its weights are NaN or infinite; its last checkpoint is a good one.

    The training loss is checked before its backward pass, the validation loss and the weights after each epoch, for
    the last step can overshoot and no later training loss would show it.

    Args:
        every_n_steps: steps between two looks at the training loss. On a GPU, where a look makes the host wait for the
            device, and where several processes train, they come at steps whose loss is logged, every
            ``trainer.log_every_n_steps`` or a multiple of that.
    """

    def __init__(self, every_n_steps: int = 1) -> None:
        check_from_one("divergence.every_n_steps", every_n_steps)
        self.every_n_steps = every_n_steps
        self.batch: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.interval = self.every_n_steps
        if trainer.world_size > 1 or pl_module.device.type != "cpu":
            logged = max(1, trainer.log_every_n_steps)  # type: ignore[attr-defined]
            self.interval = math.ceil(self.every_n_steps / logged) * logged

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.batch = batch

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        if (trainer.global_step + 1) % self.interval == 0:
            self._check(trainer, "training loss", loss, self.batch)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Before early stopping has its effect, which takes a monitor that is no number for an ordinary end.
        loss = trainer.callback_metrics.get("val/loss")
        if loss is not None and not trainer.sanity_checking:
            self._check(trainer, "validation loss", loss)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        largest = [parameter.detach().abs().max() for parameter in pl_module.parameters() if parameter.numel()]
        # Where weights are sharded, a process may hold none.
        self._check(trainer, "largest weight", torch.stack(largest).max() if largest else torch.zeros(()))

    @staticmethod
    def _check(trainer: Trainer, what: str, value: Tensor, batch: Any = None) -> None:
        number = value.item()
        # One process alone would leave the others waiting for it.
        if trainer.strategy.reduce_boolean_decision(not math.isfinite(number), all=False):
            rates = {group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups}
            raise Diverged(
                f"the {what} is {number} at step {trainer.global_step} (epoch {trainer.current_epoch + 1}, "
                f"batch {trainer.fit_loop.epoch_loop.batch_idx + 1}{_samples(trainer, batch)}), learning rate "
                f"{max(rates):.3g}: set a smaller optimizer.lr, or clip the gradients with trainer.gradient_clip_val=1"
            )


def _samples(trainer: Trainer, batch: Any) -> str:
    """The samples of a batch by name; of one with values that are no finite numbers, those that hold them."""
    loader: Any = trainer.train_dataloader
    if batch is None or not hasattr(loader, "indices"):
        return ""
    names = trainer.datamodule.sample_names(loader.indices())  # type: ignore[attr-defined]
    parts = [part.flatten(1) if part.ndim > 1 else part[:, None] for part in batch]
    # A missing value is NaN among the inputs, and the model fills it in: only an infinite one is wrong there.
    wrong = parts[0].isinf().any(dim=1) | ~parts[1].isfinite().all(dim=1)
    chosen = [name for name, is_wrong in zip(names, wrong.tolist(), strict=True) if is_wrong] or names
    more = f" and {len(chosen) - MOST} more" if len(chosen) > MOST else ""
    what = "no finite numbers in" if wrong.any() else "of"
    return f", {what} {', '.join(chosen[:MOST])}{more}"
