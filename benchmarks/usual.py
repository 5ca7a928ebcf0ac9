"""A training run as usually written with Lightning, for comparison."""

from pathlib import Path
from typing import Any

from benchmarks.pace import Clock, Pace, Parts
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, RichModelSummary, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MeanMetric, MetricCollection

from triptych.data.base import DataModule
from triptych.models.base import Model


class OneByOne(Dataset[tuple[Tensor, Tensor]]):
    """A dataset of single samples, for torch's default collation."""

    def __init__(self, whole: Any) -> None:
        self.whole = whole

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.whole[index]


class Usual(LightningModule):
    """A module as usually written: metrics are updated and logged in each step."""

    def __init__(self, model: Model, datamodule: DataModule[Any]) -> None:
        super().__init__()
        self.model, self.datamodule = model, datamodule
        self.train_loss, self.val_loss = MeanMetric(), MeanMetric()
        self.train_metrics: MetricCollection = model.train_metrics.clone()
        self.val_metrics: MetricCollection = model.val_metrics.clone()

    def step(self, batch: tuple[Tensor, Tensor], split: str) -> Tensor:
        inputs, targets = self.datamodule.prepare_batch(batch, training=split == "train")
        outputs = self.model(inputs)
        loss = self.model.loss(outputs, targets)
        mean, metrics = getattr(self, f"{split}_loss"), getattr(self, f"{split}_metrics")
        mean(loss)
        self.model._trainer = self._trainer
        self.model.update_metrics(metrics, outputs.detach(), targets)
        self.log(f"{split}/loss", mean, on_step=False, on_epoch=True, prog_bar=True)
        self.log_dict(dict(metrics.items(copy_state=False)), on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self.step(batch, "train")

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.step(batch, "val")

    def configure_optimizers(self) -> Any:
        optimizer = self.model.make_optimizer()
        self.model._trainer = self._trainer
        schedule = {"scheduler": self.model.make_scheduler(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}


def usual(parts: Parts, folder: Path, *more: Callback) -> Pace:
    """Run Lightning's Trainer on a DataLoader with default collation, callbacks, loggers and a progress bar.

    Args:
        parts: the network, the data and the settings.
        folder: for checkpoints and logs.
        more: further callbacks.
    """
    settings = parts.settings["trainer"]
    monitor, mode = parts.settings["monitor"], parts.settings["mode"]
    module = Usual(parts.model(), parts.datamodule)
    clock = Clock()
    trainer = Trainer(
        accelerator=settings["accelerator"],
        devices=1,
        max_epochs=settings["max_epochs"],
        limit_train_batches=settings["limit_train_batches"],
        limit_val_batches=settings["limit_val_batches"],
        precision=parts.trainer(folder).precision,
        gradient_clip_val=settings["gradient_clip_val"],
        num_sanity_val_steps=0,
        log_every_n_steps=settings["log_every_n_steps"],
        default_root_dir=str(folder),
        logger=[TensorBoardLogger(folder), CSVLogger(folder)],
        callbacks=[
            ModelCheckpoint(folder / "usual", monitor=monitor, mode=mode, save_last=True),
            EarlyStopping(monitor, mode=mode, patience=100),
            RichModelSummary(),
            RichProgressBar(),
            clock,
            *more,
        ],
    )
    datasets, pin = parts.datamodule.datasets, trainer.strategy.root_device.type == "cuda"
    size, evaluation = parts.settings["data"]["batch_size"], parts.settings["data"]["eval_batch_size"]
    trainer.fit(
        module,
        DataLoader(OneByOne(datasets["train"]), size, shuffle=True, pin_memory=pin),
        DataLoader(OneByOne(datasets["val"]), evaluation, pin_memory=pin),
    )
    return clock.pace()
