"""Atomic writing of files, and a check that a path is a regular file."""

import errno
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path, mark: str = "") -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; it is renamed to ``path`` on success and removed on failure.

    The suffix is kept, since writers choose their format by it. The rest of the name is not: a name of maximum length
    could not be extended.

    Args:
        path: the file.
        mark: what the temporary name begins with after its dot, to find what a killed run left.
    """
    aside = path.with_name(f".{mark}{secrets.token_hex(4)}{path.suffix}")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def plain(path: Path) -> Path:
    """Return the path itself if it is a regular file or a link to one.

    Raises:
        OSError: it does not exist or is something else: opening a pipe would block for ever, a device may never end.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "no plain file", str(path))
    return path
