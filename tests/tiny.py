"""Models and data small enough to check by hand, and a quiet Trainer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from triptych.models.autoencoder import Autoencoder
from triptych.models.classifier import Classifier
from triptych.models.regressor import Regressor
from triptych.terminal import quiet_lightning

Batch = tuple[Tensor, Tensor]
ADAM = {"_target_": "torch.optim.Adam", "lr": 0.01}
CONSTANT = {"_target_": "torch.optim.lr_scheduler.ConstantLR", "factor": 1.0, "interval": "epoch"}
MLP = {"_target_": "triptych.networks.mlp.Mlp", "width": 8, "depth": 1}
CNN = {"_target_": "triptych.networks.cnn.Cnn", "width": 4, "depth": 1}
PAGES = {"_target_": "triptych.networks.autoencoder.ConvAutoencoder", "width": 4, "depth": 1}


def regressor(features: int = 3, network: dict[str, Any] = MLP, **options: Any) -> Regressor:
    names = [f"x{i}" for i in range(features)]
    return Regressor(**{"network": network, "optimizer": ADAM, "scheduler": CONSTANT, "feature_names": names} | options)


def classifier(network: dict[str, Any] = CNN, counts: Sequence[int] = (1, 1), **options: Any) -> Classifier:
    given = {"class_names": ["NORMAL", "PNEUMONIA"], "class_counts": list(counts)}
    return Classifier(**{"network": network, "optimizer": ADAM, "scheduler": CONSTANT} | given | options)


def autoencoder(network: dict[str, Any] = PAGES, **options: Any) -> Autoencoder:
    return Autoencoder(**{"network": network, "optimizer": ADAM, "scheduler": CONSTANT} | options)


class Batches(LightningDataModule):
    """Serves the given batches, of any sizes; validation and test share ``held_out``."""

    def __init__(self, train: Sequence[Batch], held_out: Sequence[Batch] = (), batch_size: int | None = None) -> None:
        super().__init__()
        self.train, self.held_out = list(train), list(held_out)
        if batch_size is not None:
            self.batch_size = batch_size

    def training_rows(self) -> Batch:
        inputs, targets = zip(*self.train, strict=True)
        return torch.cat(inputs), torch.cat(targets)

    def examples(self, count: int) -> Batch:
        inputs, targets = (self.held_out or self.train)[0]
        return inputs[:count], targets[:count]

    def evaluation_batches(self, name: str, count: int | None = None) -> list[Batch]:
        return (self.train if name == "train" else self.held_out)[:count]

    def train_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(self.train, batch_size=None)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        return DataLoader(self.held_out, batch_size=None) if self.held_out else []  # type: ignore[arg-type]

    test_dataloader = val_dataloader


def rows(*sizes: int, features: int = 3, seed: int = 0) -> list[Batch]:
    """Return one batch per size, of features (N, features) and prices (N,) around 200,000 dollars, linear in them."""
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(size, features, generator=generator) for size in sizes]
    return [(x, 200_000 + 50_000 * x.sum(dim=1)) for x in inputs]


def xrays(*sizes: int, side: int = 8, seed: int = 0) -> list[Batch]:
    """Return one batch per size, of images (N, 1, side, side); every second is positive and has a bright patch."""
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for size in sizes:
        labels = torch.arange(size) % 2
        images = 0.3 * torch.rand(size, 1, side, side, generator=generator)
        images[:, :, : side // 2, : side // 2] += 0.5 * labels[:, None, None, None]
        batches.append((images, labels))
    return batches


def pages(*sizes: tuple[int, int], count: int = 1, seed: int = 0) -> list[Batch]:
    """Return one batch per size (height, width): noisy white paper, and the clean paper."""
    generator = torch.Generator().manual_seed(seed)
    clean = [torch.ones(count, 1, *size) for size in sizes]
    return [((page - 0.5 * torch.rand(page.shape, generator=generator)), page) for page in clean]


def trainer(folder: Path, **options: Any) -> Trainer:
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "max_epochs": 1,
        "log_every_n_steps": 1,
        "default_root_dir": folder,
    }
    return Trainer(**quiet | options)


def fit(
    model: LightningModule, data: LightningDataModule, folder: Path, resume_from: Path | None = None, **options: Any
) -> Trainer:
    """Train quietly; return the Trainer."""
    run = trainer(folder, **({} if getattr(data, "held_out", ()) else {"limit_val_batches": 0}) | options)
    with quiet_lightning():
        run.fit(model, datamodule=data, ckpt_path=resume_from, weights_only=True)
    return run


def measured(model: LightningModule, batches: Sequence[Batch], folder: Path, split: str = "test") -> dict[str, float]:
    """Return the metrics of these batches, named without the split."""
    run = trainer(folder)
    with quiet_lightning():
        judge = run.test if split == "test" else run.validate
        (metrics,) = judge(model, datamodule=Batches(batches, batches), verbose=False)
    return {name.partition("/")[2]: value for name, value in metrics.items()}


class FirstNumber(nn.Module):
    """A network that outputs the first number of each sample, so that metrics can be computed by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) -> (N, 1)."""
        return x.flatten(1)[:, :1] * self.factor
