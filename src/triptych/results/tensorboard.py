"""TensorBoard's events: one file for each part of a run, written to the disk once a second."""

import time
from collections.abc import Mapping
from typing import Any

from lightning.fabric.utilities.logger import _add_prefix
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from triptych.results.history import OFTEN

SECONDS = 1.0
"""Between two writes; a process that is killed takes what is younger with it."""


class TensorBoard(TensorBoardLogger):
    """Lightning's logger but for three things.

    Lightning's waits for the disk each time that something is logged: as long as a small step takes. Each number goes
    to the thread that writes, which then takes turns with the step under way for about as long again; here those of
    single steps wait for the next write, or for what is logged with an epoch. And it closes its file behind the
    training and opens another one for the test: TensorBoard reads them by their names, in which a count of files
    follows the second, and may take ``.10`` before ``.9`` for the start of a run and drop what it holds.

    Args:
        arguments: those of Lightning's.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.saved = -SECONDS
        self.waiting: list[tuple[Mapping[str, Any], int | None, float]] = []
        """Numbers by name, their step and the time."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        if not all(isinstance(value, int | float | Tensor) for value in metrics.values()):
            super().log_metrics(metrics, step)  # such as several curves in one picture; it refuses the rest
            return
        numbers = {name: value.item() if isinstance(value, Tensor) else value for name, value in metrics.items()}
        self.waiting.append((numbers, step, time.time()))
        if not numbers.keys() <= OFTEN:
            self._write()  # for a checkpoint may follow, behind which a run goes on that is killed

    @rank_zero_only
    def save(self) -> None:
        now = time.monotonic()
        if now - self.saved >= SECONDS:
            self.saved = now
            self._write()
            super().save()

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Let nothing wait that came before a checkpoint."""
        self._write()

    def _write(self) -> None:
        waiting, self.waiting = self.waiting, []
        for numbers, step, then in waiting:
            for name, number in _add_prefix(numbers, self._prefix, self.LOGGER_JOIN_CHAR).items():
                self.experiment.add_scalar(name, number, step, walltime=then)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is left; the file stays open for what follows, unless the run has failed."""
        self._write()
        if status != "success":
            super().finalize(status)
        elif self._experiment is not None:
            super().save()
