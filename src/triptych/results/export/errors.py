"""Errors of an export, reduced to one line, and silencing of torch's exporters."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr


class ExportError(RuntimeError):
    """The model cannot be exported, or the exported file does not reproduce its outputs."""


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, since torch's run to pages; its type if the message is empty."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence logs, warnings and stderr of torch's exporters; errors are still raised."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        # On a graph that it cannot trace, torch also prints to stderr.
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
