"""TensorBoard's events: one file for each part of a run, written to the disk once a second."""

import time
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

SECONDS = 1.0
"""Between two writes; a process that is killed takes what is younger with it."""


class TensorBoard(TensorBoardLogger):
    """Lightning's logger but for two things.

    Lightning's waits for the disk each time that something is logged: as long as a small step takes. And it closes its
    file behind the training and opens another one for the test: TensorBoard reads them by their names, in which a count
    of files follows the second, and may take ``.10`` before ``.9`` for the start of a run and drop what it holds.

    Args:
        arguments: those of Lightning's.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.saved = -SECONDS

    @rank_zero_only
    def save(self) -> None:
        now = time.monotonic()
        if now - self.saved >= SECONDS:
            self.saved = now
            super().save()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is left; the file stays open for what follows, unless the run has failed."""
        if status != "success":
            super().finalize(status)
        elif self._experiment is not None:
            super().save()
