"""Base of the callbacks that measure the model after an epoch, without side effects on the training."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from triptych.callbacks.sharding import unsharded_weights


class Measurement(Callback):
    """Measure the model after an epoch, and log the values at the step of the epoch's other metrics.

    They are then in the same row of ``metrics.csv``, and in ``metrics.json`` if the epoch is the best one.

    Args:
        every_n_epochs: epochs between two measurements; the last epoch always has one. With 0 the Trainer is built
            without the callback (see ``build_trainer``).
    """

    key: ClassVar[str]
    """The callback's key in ``conf/callbacks``."""
    of_validation: ClassVar[bool] = False
    """Whether it measures the validation split, and is skipped if there is none."""

    def __init__(self, every_n_epochs: int) -> None:
        check_at_least_one(f"{self.key}.every_n_epochs", every_n_epochs)
        self.every_n_epochs = every_n_epochs

    @abstractmethod
    def measure(self, trainer: Trainer, model: Any) -> dict[str, Any]:
        """Return values by the names that they are logged under; called in evaluation mode, without gradients."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not is_due(trainer, self.every_n_epochs) or (self.of_validation and not trainer.enable_validation):
            return
        # On every process: metrics gather their state from all of them.
        with evaluation_mode(pl_module):
            values = self.measure(trainer, pl_module)
        pl_module.log_dict(values, on_step=False, on_epoch=True, sync_dist=True)


def check_at_least_one(key: str, value: int) -> None:
    """Raise a ValueError that names the callback's key, unless the value is at least 1."""
    if value < 1:
        # 0 turns the callback off: it is then not built at all (see `build_trainer`).
        never = ", or 0 for never" if key.partition(".")[2].startswith("every_n_") else ""
        raise ValueError(f"callbacks.{key}={value}: expected a number from 1{never}")


def is_due(trainer: Trainer, every_n_epochs: int) -> bool:
    """Whether the current epoch is every n-th one, or the last."""
    epoch = trainer.current_epoch + 1
    last = epoch == trainer.max_epochs or trainer.global_step == trainer.max_steps or trainer.should_stop
    return last or epoch % every_n_epochs == 0


@contextmanager
def evaluation_mode(model: LightningModule) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards modes and random states are restored for the training.

    Must be entered by every process, because sharded weights are gathered meanwhile: see ``unsharded_weights``.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        cuda = [model.device] if model.device.type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(cuda), unsharded_weights(model):
            yield
    finally:
        for module, training in modes:
            module.training = training


def evaluate_batches(
    trainer: Trainer, model: Any, batches: Iterable[tuple[Tensor, Tensor]], prefix: str
) -> dict[str, Any]:
    """Compute the validation loss and metrics of these batches, named ``<prefix>/loss`` and so on."""
    metrics = model.val_metrics.clone(prefix=f"{prefix}/")
    metrics.reset()
    loss, count = 0.0, 0
    for batch in batches:
        inputs, targets = trainer.precision_plugin.convert_input(tuple(part.to(model.device) for part in batch))
        with trainer.precision_plugin.val_step_context():
            outputs = model(inputs)
            loss += float(model.loss(outputs, targets)) * len(inputs)
        count += len(inputs)
        model.update_metrics(metrics, outputs, targets)
    return {f"{prefix}/loss": loss / count, **metrics.compute()}
