"""Runs of an experiment within this process, short enough to be repeated, and how fast their steps follow."""

import atexit
import io
import os
import statistics
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from benchmarks.markdown import REPOSITORY
from hydra import compose, initialize_config_dir
from lightning.pytorch import Callback, LightningModule, Trainer
from omegaconf import DictConfig, OmegaConf

from triptych.build import build
from triptych.data.base import DataModule
from triptych.models.base import Model
from triptych.run import run
from triptych.trainer import build_trainer

COMMON = ("data.source=synthetic", "test=false", "seed=0", "packages=[benchmarks]")
CLOCK = "+callbacks.clock={_target_: benchmarks.pace.Clock}"
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
        "trainer.max_epochs=12",
    ),
    "denoise": ("trainer.max_epochs=2", "trainer.limit_train_batches=100"),
    "pneumonia": ("trainer.max_epochs=2",),
}
"""What makes an experiment's run short enough to be repeated, or its step."""
HOMES = 20_640
"""Block groups in California's table. With the few that are made up by default a tenth of a run would be the starts
of its epochs."""
CHESTS = 2_000
"""X-rays where a step is short, for the same reason."""


def short(experiment: str) -> tuple[str, ...]:
    """The overrides of SHORT, and for houses a table of HOMES rows."""
    return *SHORT.get(experiment, ()), *(many(experiment) if experiment == "housing" else ())


def many(experiment: str) -> tuple[str, ...]:
    """What lets ``housing`` train on HOMES houses, and ``pneumonia`` on CHESTS X-rays, gone when this process ends."""
    return ("data.source=files", f"data.root={_made_up(experiment)}")


@cache
def _made_up(experiment: str) -> str:
    root = TemporaryDirectory(prefix=f"{experiment}-")
    atexit.register(root.cleanup)
    # Imported here, so that a panel can be removed.
    if experiment == "housing":
        from triptych.data.california import CaliforniaDataModule
        from triptych.data.synthetic.homes import write_homes

        write_homes(Path(root.name, CaliforniaDataModule.slug), rows=HOMES)
    else:
        from triptych.data.synthetic.chests import write_chests
        from triptych.data.xrays import XrayDataModule

        write_chests(Path(root.name, XrayDataModule.slug), images=CHESTS, size=80)
    return root.name


def spread(ratios: Sequence[float]) -> str:
    """Their median, with the least and most."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def title(experiment: str) -> str:
    """What a table calls a run of SHORT: the experiment, and its network where that is not its own."""
    network = [override for override in SHORT.get(experiment, ()) if override.startswith("model=")]
    return " ".join([f"experiment={experiment}", *network])


@dataclass(frozen=True)
class Pace:
    """Seconds: a step and the end of an epoch beside validation, medians over epochs but the first; what that adds."""

    step: float
    epoch_end: float
    warm_up: float
    memory: float | None = None
    """The most that was in use, in MB; of a process on a CPU, whatever it did before."""


def finish(device: torch.device) -> None:
    """Wait for what a GPU has been told to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Clock(Callback):
    """Time the steps of each epoch, and what comes between two epochs."""

    last: "Clock"

    def __init__(self) -> None:
        Clock.last = self
        self.steps: list[int] = []
        """Steps of each epoch but the last, from the beginning of one to that of the next."""
        self.trained: list[float] = []
        """Seconds that they took."""
        self.validated: list[float] = []
        """Seconds of validation behind them."""
        self.ends: list[float] = []
        """Seconds from the end of an epoch's last step to the next epoch's first, without validation."""
        self.done = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            self.began, self.step = time.perf_counter(), trainer.global_step
            if self.validated:
                self.ends.append(self.began - self.done - self.validated[-1])
        if trainer.is_last_batch:
            finish(pl_module.device)
            self.steps.append(trainer.global_step - self.step)
            self.trained.append(time.perf_counter() - self.began)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.is_last_batch:
            finish(pl_module.device)
            self.done = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validation = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validated.append(time.perf_counter() - self.validation)

    def pace(self) -> Pace:
        """The medians. What the first epoch adds is what it and its validation took longer than those behind it."""
        steps = [seconds / steps for steps, seconds in zip(self.steps, self.trained, strict=True)]
        whole = [sum(seconds) for seconds in zip(self.trained, self.validated, strict=True)]
        warm_up = whole[0] - statistics.median(whole[1:])
        return Pace(statistics.median(steps[1:]), statistics.median(self.ends), warm_up)


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
    def epochs(self) -> int:
        """Epochs of a loop written by hand: the run's own, and no fewer than give a median behind the first."""
        return max(3, self.settings["trainer"]["max_epochs"])

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        there = len(self.datamodule.datasets["train"]) // self.settings["data"]["batch_size"]  # type: ignore[arg-type]
        limit = self.settings["trainer"]["limit_train_batches"]
        return min(there, limit) if isinstance(limit, int) else there


def ours(config: DictConfig, folder: Path) -> Pace:
    """A run as ``train.py`` makes it, with all that it has by default."""
    with chdir(folder):  # where it leaves a link to itself
        run(config, folder / "run", "benchmark")
    return Clock.last.pace()
