"""Time the steps of runs in this process, shortened so that they can be repeated."""

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
    # The course's network, which has the shortest steps of all.
    "housing": (
        "model=mlp",
        "data.rotations=0",
        "data.ratios=false",
        "data.batch_size=256",
        "trainer.max_epochs=12",
    ),
    "denoise": ("trainer.max_epochs=2", "trainer.limit_train_batches=100"),
    "pneumonia": ("trainer.max_epochs=5",),
}
"""Overrides that make an experiment's run, or its steps, short enough to be repeated."""
HOMES = 20_640
"""Block groups in California's table. With the few synthetic ones of the default, epoch starts would make up a tenth of
a run."""
CHESTS = 2_000
"""Number of X-rays where steps are short, for the same reason."""


def short(experiment: str) -> tuple[str, ...]:
    """The overrides of SHORT, and for ``housing`` a table of HOMES rows."""
    return *SHORT.get(experiment, ()), *(large_data_overrides(experiment) if experiment == "housing" else ())


def large_data_overrides(experiment: str) -> tuple[str, ...]:
    """Overrides to train on HOMES houses or, if not ``housing``, CHESTS X-rays, deleted when this process ends."""
    return ("data.source=files", f"data.root={_synthetic_root(experiment)}")


@cache
def _synthetic_root(experiment: str) -> str:
    root = TemporaryDirectory(prefix=f"{experiment}-")
    atexit.register(root.cleanup)
    # Imported here, so that an experiment can be removed from the project.
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
    """The ratios' median, with minimum and maximum."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def title(experiment: str) -> str:
    """The name of a run of SHORT in a table: the experiment, and its network if that is not the default."""
    network = [override for override in SHORT.get(experiment, ()) if override.startswith("model=")]
    return " ".join([f"experiment={experiment}", *network])


@dataclass(frozen=True)
class Pace:
    """Seconds: a step, median of the epochs after the first; an epoch's end without validation, median; warm-up."""

    step: float
    epoch_end: float
    warm_up: float
    memory: float | None = None
    """Peak memory in MB; on a CPU that of the whole process, including what it did before."""


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has finished its queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Clock(Callback):
    """Times the steps of each epoch, and the time between two epochs."""

    last: "Clock"

    def __init__(self) -> None:
        Clock.last = self
        self.steps: list[int] = []
        """By epoch, the number of steps without the last: those between the start of the first and of the last."""
        self.trained: list[float] = []
        """By epoch, the seconds that these steps took."""
        self.validated: list[float] = []
        """By epoch, the seconds of the validation after it."""
        self.ends: list[float] = []
        """Seconds from the end of an epoch's last step to the next epoch's first, without validation."""
        self.done = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            self.began, self.step = time.perf_counter(), trainer.global_step
            if self.validated:
                self.ends.append(self.began - self.done - self.validated[-1])
        if trainer.is_last_batch:
            synchronize(pl_module.device)
            self.steps.append(trainer.global_step - self.step)
            self.trained.append(time.perf_counter() - self.began)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.is_last_batch:
            synchronize(pl_module.device)
            self.done = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validation = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validated.append(time.perf_counter() - self.validation)

    def pace(self) -> Pace:
        """The medians; the warm-up is the extra time of the first epoch and its validation over the later ones."""
        steps = [seconds / steps for steps, seconds in zip(self.steps, self.trained, strict=True)]
        whole = [sum(seconds) for seconds in zip(self.trained, self.validated, strict=True)]
        warm_up = whole[0] - statistics.median(whole[1:])
        return Pace(statistics.median(steps[1:]), statistics.median(self.ends), warm_up)


class Terminal(io.TextIOWrapper):
    """An output that claims to be a terminal, so that progress bars draw on it."""

    def isatty(self) -> bool:
        return True


@contextmanager
def suppress_output() -> Iterator[None]:
    """Discard output as if to a terminal, and ignore warnings."""
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
    """The parts of a run, built as ``triptych.run`` builds them; every model has newly initialised weights."""

    settings: dict[str, Any]
    datamodule: DataModule[Any]

    @classmethod
    def of(cls, config: DictConfig) -> "Parts":
        """Resolve a config and set up its data."""
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
        """Epochs of a hand-written loop: as many as the run's, but at least three for a median without the first."""
        return max(3, self.settings["trainer"]["max_epochs"])

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        there = len(self.datamodule.datasets["train"]) // self.settings["data"]["batch_size"]  # type: ignore[arg-type]
        limit = self.settings["trainer"]["limit_train_batches"]
        return min(there, limit) if isinstance(limit, int) else there


def run_triptych(config: DictConfig, folder: Path) -> Pace:
    """Run as ``train.py`` does, with all defaults."""
    with chdir(folder):  # the run leaves a link to itself there
        run(config, folder / "run", "benchmark")
    return Clock.last.pace()
