"""A TensorBoard logger that buffers writes: one event file per start of a run, flushed at most once a second."""

import time
from collections.abc import Mapping
from typing import Any

from lightning.fabric.utilities.logger import _add_prefix
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from triptych.results.history import STEP_METRICS

SECONDS = 1.0
"""Least time between two flushes; a killed process loses what was logged since the last one."""


class TensorBoard(TensorBoardLogger):
    """Lightning's ``TensorBoardLogger`` with three differences; it takes the same arguments.

    Lightning's flushes to disk at every log, which takes as long as a small step; this one does so at most once a
    second. Lightning's passes every number to the writer thread, which then competes with the training step for about
    as long again; here numbers of single steps are buffered until the next flush or the metrics of an epoch. And
    Lightning's closes its file after training and opens another one for the test. TensorBoard reads files in the order
    of their names, which have the time in seconds and end in a counter, and may read ``.10`` before ``.9``, take it for
    the start of a run and drop its content; here the file stays open.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.last_flush = -SECONDS
        self.buffer: list[tuple[Mapping[str, Any], int | None, float]] = []
        """Buffered metrics by name, with their step and the Unix time."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        if not all(isinstance(value, int | float | Tensor) for value in metrics.values()):
            super().log_metrics(metrics, step)  # a dict is several curves in one plot; all else is refused there
            return
        numbers = {name: value.item() if isinstance(value, Tensor) else value for name, value in metrics.items()}
        self.buffer.append((numbers, step, time.time()))
        if not numbers.keys() <= STEP_METRICS:
            self._write()  # a checkpoint may follow, from which a killed run is resumed

    @rank_zero_only
    def save(self) -> None:
        now = time.monotonic()
        if now - self.last_flush >= SECONDS:
            self.last_flush = now
            self._write()
            super().save()

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Write the buffer, since a resumed run does not log again what came before the checkpoint."""
        self._write()

    def _write(self) -> None:
        waiting, self.buffer = self.buffer, []
        for numbers, step, then in waiting:
            for name, number in _add_prefix(numbers, self._prefix, self.LOGGER_JOIN_CHAR).items():
                self.experiment.add_scalar(name, number, step, walltime=then)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is buffered; the file stays open for the test, unless the run has failed."""
        self._write()
        if status != "success":
            super().finalize(status)
        elif self._experiment is not None:
            super().save()
