"""Figures of validation samples with the network's predictions, every n epochs."""

from abc import abstractmethod
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure
from torch import Tensor

from triptych.callbacks.measurement import check_at_least_one, evaluation_mode, is_due
from triptych.callbacks.pictures import save_figure
from triptych.results import plots


class Figures(Callback):
    """Draw ``count`` validation samples with the network's predictions, into ``figures/`` and TensorBoard.

    Without a validation split they are training samples.

    Args:
        directory: the run directory.
        every_n_epochs: epochs between two figures; the last epoch always has one. With 0 the Trainer is built without
            the callback.
    """

    count = 4

    def __init__(self, directory: str, every_n_epochs: int = 1) -> None:
        check_at_least_one("figures.every_n_epochs", every_n_epochs)
        self.directory = Path(directory) / "figures"
        self.every_n_epochs = every_n_epochs

    @abstractmethod
    def draw(self, inputs: Tensor, targets: Tensor, answers: dict[str, Tensor]) -> Figure:
        """Draw these samples and the outputs of ``predict`` for them, all on the CPU."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Not after validation: a run without it (data.split=all) has figures too.
        if trainer.fast_dev_run or not is_due(trainer, self.every_n_epochs):  # type: ignore[attr-defined]
            return
        with evaluation_mode(pl_module):
            # All processes enter `evaluation_mode`, to gather sharded weights; only the first has work from here on.
            if not trainer.is_global_zero:
                return
            inputs, targets = trainer.datamodule.examples(self.count)  # type: ignore[attr-defined]
            answers = pl_module.predict(inputs.to(pl_module.device))  # type: ignore[operator]
        figure = self.draw(inputs, targets, {name: values.float().cpu() for name, values in answers.items()})
        path = self.directory / f"epoch-{trainer.current_epoch + 1:03d}.png"
        save_figure(trainer, figure, path, "val/examples")


class PageFigures(Figures):
    """Dirty page, cleaned page and target, side by side."""

    count = 3

    def draw(self, inputs: Tensor, targets: Tensor, answers: dict[str, Tensor]) -> Figure:
        return plots.pages(inputs[:, 0].numpy(), answers["page"][:, 0].numpy(), targets[:, 0].numpy())


class XrayFigures(Figures):
    """X-rays with P(positive) and their label; a red frame marks wrong predictions."""

    count = 12

    def draw(self, inputs: Tensor, targets: Tensor, answers: dict[str, Tensor]) -> Figure:
        # The threshold changes with each validation; the frame uses 0.5 instead, where the likelier class changes.
        return plots.xrays(inputs[:, 0].numpy(), answers["probability"].numpy(), targets.numpy())


class PriceFigures(Figures):
    """Predicted against true prices."""

    count = 2000

    def draw(self, inputs: Tensor, targets: Tensor, answers: dict[str, Tensor]) -> Figure:
        return plots.prices(targets.numpy(), answers["prediction"].numpy())
