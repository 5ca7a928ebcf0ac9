"""Errors of a run that users can fix, as opposed to bugs, and their conversion to one message."""

from collections.abc import Iterator
from contextlib import contextmanager

from omegaconf.errors import OmegaConfBaseException


class UserError(Exception):
    """A user error found before training or in its first batch; the message says what is wrong and how to fix it."""


class OutOfSpace(Exception):
    """The disk or quota is full, or a file has reached the size limit; what was written before is intact."""


@contextmanager
def user_errors(saved: bool = False) -> Iterator[None]:
    """Convert errors that users can fix to UserError: ValueError, OSError and OmegaConf's (a bad interpolation, say).

    Args:
        saved: whether the config was read back from a run directory. Its keys may be missing or of another type, so
            LookupError, TypeError, AttributeError and RuntimeError are converted too.
    """
    try:
        yield
    except (ValueError, OSError, OmegaConfBaseException) as error:
        # What an untrusted config leads to is no bug in the user's own code, so its traceback would not help.
        raise UserError(str(error)) from (None if saved else error)
    except (LookupError, TypeError, AttributeError, RuntimeError) as error:
        if not saved:
            raise
        raise UserError(f"the saved config cannot be used ({type(error).__name__}: {error})") from error
