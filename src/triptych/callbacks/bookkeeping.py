"""Where a run begins, and what its directory says of that."""

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
    """Where a run begins: at nothing, or at a checkpoint.

    Attributes:
        checkpoint: the file, or None.
        step: the global step.
        seconds: spent until then.
        threads: of torch on the CPU, which the last digits depend on; None leaves torch's own choice.
    """

    checkpoint: Path | None = None
    step: int = 0
    seconds: float = 0.0
    threads: int | None = None

    @classmethod
    def read(cls, path: Path | None) -> "Start":
        """What a checkpoint of any origin says; raises a ValueError where it is none."""
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
            # Torch's and pickle's errors of every kind.
            raise ValueError(f"{path} is no checkpoint of this run ({type(error).__name__}: {error})") from error


class Bookkeeping(Callback):
    """Note in the run directory that training starts, and in the checkpoints how long it has taken so far.

    Args:
        directory: the run directory.
        start: where the run begins.
        began: when this part of it began, by ``time.perf_counter``.
        record: called once, when training starts.
    """

    def __init__(self, directory: Path, start: Start, began: float, record: Callable[[], None]) -> None:
        self.directory, self.start, self.began, self.record = directory, start, began, record
        self.under_way = False

    @property
    def seconds(self) -> float:
        """Of this part of the run and of those before it, up to the checkpoint that it went on from."""
        return self.start.seconds + time.perf_counter() - self.began

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.begin()  # not before: a resume that is refused leaves the run as it was

    @rank_zero_only
    def begin(self) -> None:
        """Note that the run is under way, unless that is done."""
        if self.under_way:
            return
        self.under_way = True
        for end in (DONE, ERROR):
            (self.directory / end).unlink(missing_ok=True)
        if self.start.checkpoint is not None:
            record_resume(self.directory, self.start.step)
        self.record()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["run"] = {"seconds": self.seconds, "threads": torch.get_num_threads()}
