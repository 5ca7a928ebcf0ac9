"""What a run says on the terminal: its own lines whole, and Lightning's where they help."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


def harmless(text: object) -> str:
    """Text of any origin without control characters other than line breaks: they could command the terminal."""
    lines = str(text).split("\n")
    return "\n".join("".join(letter if letter.isprintable() else " " for letter in line) for line in lines)


class TerminalHandler(logging.StreamHandler[TextIO]):
    """Logs to what ``sys.stdout`` is at the moment: a progress bar replaces it, to put lines above itself."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)

    def format(self, record: logging.LogRecord) -> str:
        return harmless(super().format(record))

    @property
    def stream(self) -> TextIO:
        return sys.stdout

    @stream.setter
    def stream(self, value: TextIO) -> None:
        """Whatever stream it is made with, it follows ``sys.stdout``."""


def _tells_no_signal(record: logging.LogRecord) -> bool:
    """A filter of log records: Ctrl-C reaches Lightning as SIGTERM, and the run says itself that it was interrupted."""
    return "Received SIGTERM" not in record.getMessage()


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Leave out what Lightning says that does not help here, each by its own filter."""
    # Handlers of its own would print everything twice.
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()
        # What comes from here repeats the config and advertises packages. Profilers speak elsewhere; warnings stay.
        logging.getLogger(f"{name}.utilities.rank_zero").setLevel(logging.WARNING)
    # Each process of a distributed run says that it is there.
    logging.getLogger("lightning.fabric.utilities.distributed").setLevel(logging.WARNING)
    # And each fit and each test names the GPUs that it sees.
    logging.getLogger("lightning.pytorch.accelerators.cuda").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.trainer.connectors.signal_connector").addFilter(_tells_no_signal)
    with warnings.catch_warnings():
        for message in (
            # Batches lie in memory: workers would only copy them.
            ".*does not have many workers.*",
            # Few batches and a large log_every_n_steps: the epoch's numbers are logged in any case.
            ".*smaller than the logging interval.*",
            # A resumed run goes on in its own directory.
            ".*exists and is not empty.*",
            # That is what debug=overfit is for.
            ".*requested to overfit but enabled train dataloader shuffling.*",
            # Lightning's own use of torch's pytrees.
            ".*isinstance\\(treespec, LeafSpec\\).*",
        ):
            warnings.filterwarnings("ignore", message)
        yield
