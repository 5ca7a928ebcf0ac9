"""Terminal output of a run: control characters removed, and only those of Lightning's messages that help."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


def harmless(text: object) -> str:
    """Replace by spaces what is not printable, except line breaks: untrusted text could control the terminal."""
    lines = str(text).split("\n")
    return "\n".join("".join(letter if letter.isprintable() else " " for letter in line) for line in lines)


class TerminalHandler(logging.StreamHandler[TextIO]):
    """Logs to the current ``sys.stdout``: a progress bar replaces it, to put lines above itself."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)

    def format(self, record: logging.LogRecord) -> str:
        return harmless(super().format(record))

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exception(), BrokenPipeError):  # as of `| head`: the run goes on unseen
            super().handleError(record)

    @property
    def stream(self) -> TextIO:
        return sys.stdout

    @stream.setter
    def stream(self, value: TextIO) -> None:
        """Ignored: the handler always follows ``sys.stdout``."""


def _tells_no_signal(record: logging.LogRecord) -> bool:
    """Log filter: Ctrl-C reaches Lightning as SIGTERM, and the run itself reports that it was interrupted."""
    return "Received SIGTERM" not in record.getMessage()


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Suppress those of Lightning's messages that do not help here, each with its own filter."""
    # Lightning's own handlers would print everything twice.
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()
        # These messages repeat the config and advertise packages. Profilers log elsewhere; warnings stay.
        logging.getLogger(f"{name}.utilities.rank_zero").setLevel(logging.WARNING)
    # Each process of a distributed run announces itself.
    logging.getLogger("lightning.fabric.utilities.distributed").setLevel(logging.WARNING)
    # Each fit and each test lists the visible GPUs.
    logging.getLogger("lightning.pytorch.accelerators.cuda").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.trainer.connectors.signal_connector").addFilter(_tells_no_signal)
    with warnings.catch_warnings():
        for message in (
            # The data are in memory: workers would only copy batches.
            ".*does not have many workers.*",
            # Few batches and a large log_every_n_steps: the metrics of the epoch are logged in any case.
            ".*smaller than the logging interval.*",
            # A resumed run continues in its own directory.
            ".*exists and is not empty.*",
            # That is what debug=overfit is for.
            ".*requested to overfit but enabled train dataloader shuffling.*",
            # Lightning's own use of torch's pytrees.
            ".*isinstance\\(treespec, LeafSpec\\).*",
        ):
            warnings.filterwarnings("ignore", message)
        yield
