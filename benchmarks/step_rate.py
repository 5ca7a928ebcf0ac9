"""How many steps a second a run makes, beside a bare PyTorch loop and beside the way it is usually written.

All three train the same network on the same data with the same loss, augmentation, optimizer, schedule, clipping and
precision. Their turns alternate within one process, so that what else the machine does falls on all of them.
"""

import io
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from benchmarks.markdown import REPOSITORY
from hydra import compose, initialize_config_dir
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, RichModelSummary, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MeanMetric, MetricCollection

from triptych.build import build
from triptych.data.base import DataModule
from triptych.models.base import Model
from triptych.run import run
from triptych.terminal import quiet_lightning
from triptych.trainer import build_trainer

COMMON = ("data.source=synthetic", "test=false", "seed=0", "packages=[benchmarks]")
CLOCK = "+callbacks.clock={_target_: benchmarks.step_rate.Clock}"
EXPERIMENTS = sorted(
    path.stem for path in (REPOSITORY / "conf/experiment").glob("[!.]*.yaml") if "_best" not in path.stem
)
SHORT = {
    # The course's network, whose step is the shortest of all.
    "housing": (
        "model=mlp",
        "data.rotations=0",
        "data.ratios=false",
        "data.batch_size=256",
        "trainer.max_epochs=6",
    ),
    "denoise": ("trainer.max_epochs=2", "trainer.limit_train_batches=100"),
    "pneumonia": ("trainer.max_epochs=2",),
}
"""What makes an experiment's run short enough to be repeated, or its step."""


@dataclass(frozen=True)
class Pace:
    """What a step took, and what the end of an epoch took beside validation: seconds, medians over epochs."""

    step: float
    epoch_end: float


class Clock(Callback):
    """Note when an epoch begins, when its last step is done, and when the next begins."""

    epochs: list[tuple[int, float]]
    """Steps and seconds of each epoch, the first left out: it warms up."""
    ends: list[float]
    """Seconds from an epoch's last step to the next epoch's first, without validation."""
    last: "Clock"

    def __init__(self) -> None:
        Clock.last = self
        self.epochs, self.ends = [], []
        self.done = self.validation = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.began, self.step = time.perf_counter(), trainer.global_step
        if self.done:
            self.ends.append(self.began - self.done - self.validation)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.done = time.perf_counter()
        if trainer.current_epoch:
            self.epochs.append((trainer.global_step - self.step, self.done - self.began))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validation = time.perf_counter() - self.done

    def pace(self) -> Pace:
        """The medians."""
        return Pace(statistics.median(seconds / steps for steps, seconds in self.epochs), statistics.median(self.ends))


class Terminal(io.TextIOWrapper):
    """A terminal that nobody looks at: progress bars draw on it."""

    def isatty(self) -> bool:
        return True


@contextmanager
def unseen() -> Iterator[None]:
    """Let output go to a terminal that nobody looks at."""
    with Path(os.devnull).open("wb") as nowhere:
        terminal = Terminal(nowhere, line_buffering=True)
        with redirect_stdout(terminal), redirect_stderr(terminal), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
            terminal.flush()


def composed(*overrides: str) -> DictConfig:
    """The config that ``python train.py OVERRIDES`` would run."""
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        return compose("config", [*COMMON, *overrides])


@dataclass
class Parts:
    """What a run is made of, made as ``triptych.run`` makes it, with weights of their own each time."""

    settings: dict[str, Any]
    datamodule: DataModule[Any]

    @classmethod
    def of(cls, config: DictConfig) -> "Parts":
        """Read the data of a config."""
        settings: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
        datamodule: DataModule[Any] = build(settings["data"], kinds=(DataModule,))
        datamodule.setup("fit")
        return cls(settings, datamodule)

    def model(self) -> Model:
        """A new model."""
        groups = {name: self.settings[name] for name in ("optimizer", "scheduler", "monitor")}
        model: Model = build(self.settings["model"], kinds=(Model,), **groups, **self.datamodule.model_arguments())
        if hasattr(model, "fit_scalers"):
            model.fit_scalers(*self.datamodule.training_rows())  # type: ignore[attr-defined, operator]
        return model

    def trainer(self, folder: Path) -> Trainer:
        """The run's own Trainer, for its precision and the length of its epochs."""
        return build_trainer({**self.settings, "callbacks": {}}, folder, [], validates=True)

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        there = len(self.datamodule.datasets["train"]) // self.settings["data"]["batch_size"]  # type: ignore[arg-type]
        limit = self.settings["trainer"]["limit_train_batches"]
        return min(there, limit) if isinstance(limit, int) else there


def bare(parts: Parts, folder: Path) -> Pace:
    """Seconds a step of a loop as one writes it by hand: slices of a permutation, and nothing is measured or kept."""
    model, datamodule = parts.model().train(), parts.datamodule
    dataset: Any = datamodule.datasets["train"]
    size, steps = parts.settings["data"]["batch_size"], parts.steps
    clip = parts.settings["trainer"]["gradient_clip_val"]
    precision = parts.trainer(folder).precision_plugin
    optimizer = model.make_optimizer()
    length = {"T_max": 10 * steps, "total_steps": 10 * steps, "max_lr": parts.settings["optimizer"]["lr"]}
    schedule = {key: length.get(key, value) for key, value in parts.settings["scheduler"].items() if key != "interval"}
    scheduler = build(schedule, optimizer, kinds=(torch.optim.lr_scheduler.LRScheduler,))
    epochs = []
    for _ in range(3):
        order = torch.randperm(len(dataset))
        began = time.perf_counter()
        for step in range(steps):
            batch = dataset.__getitems__(order[step * size : (step + 1) * size])
            inputs, targets = datamodule.prepare_batch(batch, training=True)
            optimizer.zero_grad()
            with precision.forward_context():
                loss = model.loss(model(inputs), targets)
            loss.backward()
            if clip:
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            scheduler.step()
        epochs.append((time.perf_counter() - began) / steps)
    return Pace(statistics.median(epochs[1:]), 0.0)


def ours(config: DictConfig, folder: Path) -> Pace:
    """A run as ``train.py`` makes it, with all that it has by default."""
    with chdir(folder):  # where it leaves a link to itself
        run(config, folder / "run", "benchmark")
    return Clock.last.pace()


class OneByOne(Dataset[tuple[Tensor, Tensor]]):
    """A dataset that gives single samples, for torch's default collation."""

    def __init__(self, whole: Any) -> None:
        self.whole = whole

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.whole[index]


class Usual(LightningModule):
    """The way it is usually written: metrics updated and logged in each step."""

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


def usual(parts: Parts, folder: Path) -> Pace:
    """Lightning's Trainer on a DataLoader with default collation, with callbacks, loggers and a progress bar."""
    settings = parts.settings["trainer"]
    monitor, mode = parts.settings["monitor"], parts.settings["mode"]
    module = Usual(parts.model(), parts.datamodule)
    clock = Clock()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=settings["max_epochs"],
        limit_train_batches=settings["limit_train_batches"],
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
        ],
    )
    datasets = parts.datamodule.datasets
    size, evaluation = parts.settings["data"]["batch_size"], parts.settings["data"]["eval_batch_size"]
    trainer.fit(
        module,
        DataLoader(OneByOne(datasets["train"]), size, shuffle=True),
        DataLoader(OneByOne(datasets["val"]), evaluation),
    )
    return clock.pace()


def measure(experiment: str, rounds: int, *overrides: str) -> dict[str, list[Pace]]:
    """Let the three take turns, so many rounds; what each took in each."""
    config = composed(f"experiment={experiment}", *SHORT.get(experiment, ()), *overrides, CLOCK)
    with unseen():
        parts = Parts.of(config)
    turns: dict[str, Callable[[Path], Pace]] = {
        "bare loop": lambda folder: bare(parts, folder),
        "triptych": lambda folder: ours(config, folder),
        "as usual": lambda folder: usual(parts, folder),
    }
    found: dict[str, list[Pace]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            with TemporaryDirectory() as folder, unseen(), quiet_lightning():
                found[name].append(turn(Path(folder)))
    return found


def rows(rounds: int, threads: int) -> Iterator[list[str]]:
    """A row for each task and way: both, milliseconds a step, share of the bare loop's rate, an epoch's end."""
    torch.set_num_threads(threads)
    for experiment in EXPERIMENTS:
        found = measure(experiment, rounds, f"threads={threads}")
        network = [override for override in SHORT.get(experiment, ()) if override.startswith("model=")]
        for way, paces in found.items():
            shares = [bare.step / pace.step for bare, pace in zip(found["bare loop"], paces, strict=True)]
            spread = "" if way == "bare loop" else f" ({min(shares):.2f} to {max(shares):.2f})"
            end = statistics.median(pace.epoch_end for pace in paces)
            yield [
                " ".join([f"experiment={experiment}", *network]),
                way,
                f"{1000 * statistics.median(pace.step for pace in paces):.2f}",
                f"{statistics.median(shares):.2f}{spread}",
                "" if way == "bare loop" else f"{1000 * end:.0f}",
            ]
