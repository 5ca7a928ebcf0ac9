"""TensorBoard's events, written to the disk once a second."""

import time
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

SECONDS = 1.0
"""Between two writes; a process that is killed takes what is younger with it. ``metrics.csv`` has all of it."""


class TensorBoard(TensorBoardLogger):
    """Lightning's logger, which waits for the disk each time that something is logged: as long as a small step takes.

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
