"""What can go wrong with an export that the user did not get wrong, told in a line."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr


class ExportError(RuntimeError):
    """The model cannot be exported, or what was exported does not do what the model does."""


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its name where it has none: torch's run to pages."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the remarks of torch's exporters on their own workings; what fails raises."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        # A graph that it cannot follow is printed besides.
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
