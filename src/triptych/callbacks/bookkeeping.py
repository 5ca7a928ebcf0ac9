"""Where a run starts (from scratch or a checkpoint), and how its directory and checkpoints record that."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from triptych.results.checkpoints import refuse_bomb
from triptych.results.directory import DONE, ERROR, record_resume
from triptych.results.untrusted import check_threads


@dataclass(frozen=True)
class Start:
    """Where a run starts: from scratch or from a checkpoint.

    Attributes:
        checkpoint: the file, or None.
        step: the global step.
        seconds: duration of the run up to that step.
        threads: number of torch's CPU threads, on which the last digits depend; None keeps torch's default.
    """

    checkpoint: Path | None = None
    step: int = 0
    seconds: float = 0.0
    threads: int | None = None

    @classmethod
    def read(cls, path: Path | None) -> "Start":
        """Read a possibly untrusted checkpoint; raises ValueError if the file is not a checkpoint."""
        if path is None:
            return cls()
        refuse_bomb(path)
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            run = saved.get("run", {"seconds": 0.0, "threads": None})
            if run["threads"] is not None:
                check_threads(run["threads"])
            return cls(path, int(saved["global_step"]), float(run["seconds"]), run["threads"])
        except Exception as error:
            # torch and pickle raise errors of many kinds.
            raise ValueError(f"{path} is not a checkpoint of this run ({type(error).__name__}: {error})") from error


class Bookkeeping(Callback):
    """Record the start of training in the run directory, and its duration so far in the checkpoints.

    Args:
        directory: the run directory.
        start: where the run starts.
        began: when this part of the run began, by ``time.perf_counter``.
        record: called once, when training starts.
    """

    def __init__(self, directory: Path, start: Start, began: float, record: Callable[[], None]) -> None:
        self.directory, self.start, self.began, self.record = directory, start, began, record
        self.has_started = False

    @property
    def seconds(self) -> float:
        """Duration of this part of the run and of the earlier ones, up to the checkpoint it was resumed from."""
        return self.start.seconds + time.perf_counter() - self.began

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.begin()  # not earlier: a refused resume leaves the run directory unchanged

    @rank_zero_only
    def begin(self) -> None:
        """Record that the run is in progress; idempotent."""
        if self.has_started:
            return
        self.has_started = True
        for end in (DONE, ERROR):
            (self.directory / end).unlink(missing_ok=True)
        if self.start.checkpoint is not None:
            record_resume(self.directory, self.start.step)
        self.record()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["run"] = {"seconds": self.seconds, "threads": torch.get_num_threads()}
