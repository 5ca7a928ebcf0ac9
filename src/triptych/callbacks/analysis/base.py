"""What an analysis of any task shares: answers to whole splits, and pictures in the run directory and TensorBoard."""

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

from triptych.callbacks.measurement import undisturbed
from triptych.callbacks.pictures import keep


class Analysis(Callback):
    """Draw how the network errs, once, into ``figures/test-<name>.png`` of the run and ``test/<name>`` of TensorBoard.

    It comes at the end of the test, when the weights are those of the best checkpoint. A run without a test split has
    none, nor has a dry run.

    Args:
        directory: the run directory.
        enabled: with False nothing is measured or drawn.
    """

    def __init__(self, directory: str, enabled: bool = True) -> None:
        self.directory = Path(directory) / "figures"
        self.enabled = enabled

    def look(self, trainer: Trainer, model: Any) -> Any:
        """What ``measure`` and ``figures`` go by, asked of the network once: its answers to the test split."""
        return answers(trainer, model, "test")

    def measure(self, seen: Any) -> dict[str, float]:
        """Numbers by the names they are logged under, from what ``look`` gave."""
        return {}

    @abstractmethod
    def figures(self, trainer: Trainer, model: Any, seen: Any) -> Iterator[tuple[str, Figure]]:
        """The figures by their names, from what ``look`` gave; both run in evaluation mode, without gradients."""

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.enabled or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        with undisturbed(pl_module):
            # On every process alike: each sees whole splits, and Lightning wants to hear of a metric from all of them.
            seen = self.look(trainer, pl_module)
            pl_module.log_dict(self.measure(seen), on_step=False, on_epoch=True, sync_dist=True)
            if trainer.is_global_zero:
                for name, figure in self.figures(trainer, pl_module, seen):
                    keep(trainer, figure, self.directory / f"test-{name}.png", f"test/{name}")


def batches(trainer: Trainer, split: str) -> Iterator[tuple[Tensor, Tensor]]:
    """All batches of ``val`` or ``test``, on the CPU; where the Trainer is limited to some, no more than these."""
    datamodule, limit = trainer.datamodule, getattr(trainer, f"limit_{split}_batches")  # type: ignore[attr-defined]
    if isinstance(limit, float):
        limit = int(limit * len(getattr(datamodule, f"{split}_dataloader")()))  # as Lightning rounds a share
    return islice(datamodule.evaluation_batches(split), limit)


def answer(trainer: Trainer, model: Any, inputs: Tensor) -> dict[str, Tensor]:
    """What the network answers to a batch, in the precision of the test: float32 columns on the CPU."""
    given = trainer.precision_plugin.convert_input(inputs.to(model.device))
    with trainer.precision_plugin.test_step_context():
        return {name: values.float().cpu() for name, values in model.predict(given).items()}


def answers(trainer: Trainer, model: Any, split: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What the network answers to a whole split, in the precision of the test.

    Args:
        trainer: the run's.
        model: in evaluation mode.
        split: ``val`` or ``test``.

    Returns:
        The columns that ``model.predict`` gives, and the targets: float32 and of any type, (N, ...) each.
    """
    found: list[dict[str, Tensor]] = []
    targets: list[Tensor] = []
    for inputs, truth in batches(trainer, split):
        found.append(answer(trainer, model, inputs))
        targets.append(truth)
    if not found:
        return {}, np.empty(0, np.float32)
    columns = {name: torch.cat([part[name] for part in found]).numpy() for name in found[0]}
    return columns, torch.cat(targets).numpy()
