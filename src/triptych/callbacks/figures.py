"""One picture an epoch of what the network does to validation samples."""

from abc import abstractmethod
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure
from torch import Tensor

from triptych.callbacks.measurement import check_from_one, is_due, undisturbed
from triptych.callbacks.pictures import keep
from triptych.results import plots


class Figures(Callback):
    """Draw ``count`` validation samples with the network's answer, into ``figures/`` and TensorBoard.

    Args:
        directory: the run directory.
        every_n_epochs: epochs between two pictures; the last epoch always has one. With 0 the Trainer is built without
            the callback.
    """

    count = 4

    def __init__(self, directory: str, every_n_epochs: int = 1) -> None:
        check_from_one("figures.every_n_epochs", every_n_epochs)
        self.directory = Path(directory) / "figures"
        self.every_n_epochs = every_n_epochs

    @abstractmethod
    def draw(self, inputs: Tensor, targets: Tensor, answers: dict[str, Tensor]) -> Figure:
        """A figure of these samples and what ``predict`` gave for them, all on the CPU."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Here and not after validation: a run without validation (data.split=all) has pictures too.
        if trainer.fast_dev_run or not is_due(trainer, self.every_n_epochs):  # type: ignore[attr-defined]
            return
        with undisturbed(pl_module):
            # Behind this, where each process gives its part of the weights, only the first has something to do.
            if not trainer.is_global_zero:
                return
            inputs, targets = trainer.datamodule.examples(self.count)  # type: ignore[attr-defined]
            answers = pl_module.predict(inputs.to(pl_module.device))  # type: ignore[operator]
        figure = self.draw(inputs, targets, {name: values.float().cpu() for name, values in answers.items()})
        path = self.directory / f"epoch-{trainer.current_epoch + 1:03d}.png"
        keep(trainer, figure, path, "val/examples")


class PageFigures(Figures):
    """Dirty, cleaned and target, side by side."""

    count = 3

    def draw(self, inputs: Tensor, targets: Tensor, answers: dict[str, Tensor]) -> Figure:
        return plots.pages(inputs[:, 0].numpy(), answers["page"][:, 0].numpy(), targets[:, 0].numpy())


class XrayFigures(Figures):
    """X-rays with P(positive) and their label; a red frame where the answer is wrong."""

    count = 12

    def draw(self, inputs: Tensor, targets: Tensor, answers: dict[str, Tensor]) -> Figure:
        # The threshold moves after each validation; the frame goes by a half, where the likelier class changes.
        return plots.xrays(inputs[:, 0].numpy(), answers["probability"].numpy(), targets.numpy())


class PriceFigures(Figures):
    """Predicted against true price."""

    count = 2000

    def draw(self, inputs: Tensor, targets: Tensor, answers: dict[str, Tensor]) -> Figure:
        return plots.prices(targets.numpy(), answers["prediction"].numpy())
