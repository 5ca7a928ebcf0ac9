"""Base of the error analyses: predictions for whole splits, and figures in the run directory and TensorBoard."""

from abc import abstractmethod
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure
from torch import Tensor

from triptych.callbacks.measurement import evaluation_mode
from triptych.callbacks.pictures import save_figure


class Analysis(Callback):
    """Draw the network's errors, once, as ``figures/test-<name>.png`` of the run and ``test/<name>`` in TensorBoard.

    This happens at the end of the test, when the weights are those of the best checkpoint. It is skipped in a run
    without a test split and in a dry run.

    Args:
        directory: the run directory.
        enabled: if False, nothing is measured or drawn.
    """

    def __init__(self, directory: str, enabled: bool = True) -> None:
        self.directory = Path(directory) / "figures"
        self.enabled = enabled

    def compute_predictions(self, trainer: Trainer, model: Any) -> Any:
        """Compute, once, what ``measure`` and ``figures`` need: by default the predictions for the test split."""
        return predict_split(trainer, model, "test")

    def measure(self, predictions: Any) -> dict[str, float]:
        """Return values by the names that they are logged under, from the result of ``compute_predictions``."""
        return {}

    @abstractmethod
    def figures(self, trainer: Trainer, model: Any, predictions: Any) -> Iterator[tuple[str, Figure]]:
        """Yield named figures of the predictions; called in evaluation mode, without gradients."""

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.enabled or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        with evaluation_mode(pl_module):
            # On every process: each sees the whole splits, and Lightning requires all of them to log a metric.
            predictions = self.compute_predictions(trainer, pl_module)
            pl_module.log_dict(self.measure(predictions), on_step=False, on_epoch=True, sync_dist=True)
            if trainer.is_global_zero:
                for name, figure in self.figures(trainer, pl_module, predictions):
                    save_figure(trainer, figure, self.directory / f"test-{name}.png", f"test/{name}")


def batches_of_split(trainer: Trainer, split: str) -> Iterator[tuple[Tensor, Tensor]]:
    """All batches of ``val`` or ``test``, on the CPU; no more than the Trainer's ``limit_<split>_batches``."""
    datamodule, limit = trainer.datamodule, getattr(trainer, f"limit_{split}_batches")  # type: ignore[attr-defined]
    if isinstance(limit, float):
        limit = int(limit * len(getattr(datamodule, f"{split}_dataloader")()))  # as Lightning rounds a fraction
    return islice(datamodule.evaluation_batches(split), limit)


def predict_batch(trainer: Trainer, model: Any, inputs: Tensor) -> dict[str, Tensor]:
    """Predict for a batch in the precision of the test; the columns are float32 on the CPU."""
    given = trainer.precision_plugin.convert_input(inputs.to(model.device))
    with trainer.precision_plugin.test_step_context():
        return {name: values.float().cpu() for name, values in model.predict(given).items()}


def predict_split(trainer: Trainer, model: Any, split: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Predict for a whole split in the precision of the test.

    Args:
        trainer: the Trainer of the run.
        model: the model, in evaluation mode.
        split: ``val`` or ``test``.

    Returns:
        The columns of ``model.predict``, float32 (N, ...) each, and the targets (N, ...) in their own type. An empty
        split has no columns, and float32 targets (0,).
    """
    found: list[dict[str, Tensor]] = []
    targets: list[Tensor] = []
    for inputs, truth in batches_of_split(trainer, split):
        found.append(predict_batch(trainer, model, inputs))
        targets.append(truth)
    if not found:
        return {}, np.empty(0, np.float32)
    columns = {name: torch.cat([part[name] for part in found]).numpy() for name in found[0]}
    return columns, torch.cat(targets).numpy()
