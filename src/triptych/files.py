"""Files that are whole or not there."""

import errno
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced(path: Path, mark: str = "") -> Iterator[Path]:
    """A path beside ``path`` to write to, renamed to ``path`` when all went well and removed when not.

    The suffix stays, since writers choose their format by it. The rest of the name does not: made longer, a name of the
    greatest length would be refused.

    Args:
        path: the file.
        mark: what the name begins with behind its dot, for those who look for what a killed run left.
    """
    aside = path.with_name(f".{mark}{secrets.token_hex(4)}{path.suffix}")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def plain(path: Path) -> Path:
    """The path itself, which is a file or a link to one.

    Raises:
        OSError: it is something else: to open a pipe would wait for ever, and a device may never end.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "no plain file", str(path))
    return path
