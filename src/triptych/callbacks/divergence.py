"""End a run whose loss or weights have become NaN or infinite."""

import math
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from triptych.callbacks.measurement import check_at_least_one

MAX_NAMED_SAMPLES = 8
"""Maximum number of samples named in the error message."""


class Diverged(Exception):
    """The loss or the weights are NaN or infinite and would stay so; the message says where, and what may help."""


class StopOnDivergence(Callback):
    """Raise Diverged once the loss or the weights are NaN or infinite; the last checkpoint is from before that.

    The training loss is checked before its backward pass, the validation loss and the weights after each epoch, because
    the last step can diverge without any later training loss to show it.

    Args:
        every_n_steps: steps between two checks of the training loss. On a GPU, where a check makes the host wait for
            the device, and in distributed runs it is rounded up to a multiple of ``trainer.log_every_n_steps``: only
            logged losses are checked.
    """

    def __init__(self, every_n_steps: int = 1) -> None:
        check_at_least_one("divergence.every_n_steps", every_n_steps)
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
        # Before early stopping takes effect: it treats a non-finite monitor as an ordinary end of the run.
        loss = trainer.callback_metrics.get("val/loss")
        if loss is not None and not trainer.sanity_checking:
            self._check(trainer, "validation loss", loss)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        largest = [parameter.detach().abs().max() for parameter in pl_module.parameters() if parameter.numel()]
        # With sharded weights (FSDP), a process may hold none.
        self._check(trainer, "largest weight", torch.stack(largest).max() if largest else torch.zeros(()))

    @staticmethod
    def _check(trainer: Trainer, what: str, value: Tensor, batch: Any = None) -> None:
        number = value.item()
        # All processes raise together: otherwise the others would wait for this one.
        if trainer.strategy.reduce_boolean_decision(not math.isfinite(number), all=False):
            rates = {group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups}
            raise Diverged(
                f"the {what} is {number} at step {trainer.global_step} (epoch {trainer.current_epoch + 1}, "
                f"batch {trainer.fit_loop.epoch_loop.batch_idx + 1}{_samples(trainer, batch)}), learning rate "
                f"{max(rates):.3g}: set a smaller optimizer.lr, or clip the gradients with trainer.gradient_clip_val=1"
            )


def _samples(trainer: Trainer, batch: Any) -> str:
    """Name the samples of a batch; if some have non-finite values, only those."""
    loader: Any = trainer.train_dataloader
    if batch is None or not hasattr(loader, "indices"):
        return ""
    names = trainer.datamodule.sample_names(loader.indices())  # type: ignore[attr-defined]
    parts = [part.flatten(1) if part.ndim > 1 else part[:, None] for part in batch]
    # Among the inputs, NaN is a missing value that the model imputes: only infinite values are wrong.
    wrong = parts[0].isinf().any(dim=1) | ~parts[1].isfinite().all(dim=1)
    chosen = [name for name, is_wrong in zip(names, wrong.tolist(), strict=True) if is_wrong] or names
    more = f" and {len(chosen) - MAX_NAMED_SAMPLES} more" if len(chosen) > MAX_NAMED_SAMPLES else ""
    what = "no finite numbers in" if wrong.any() else "of"
    return f", {what} {', '.join(chosen[:MAX_NAMED_SAMPLES])}{more}"
