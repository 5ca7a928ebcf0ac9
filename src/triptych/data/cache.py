"""Decoded arrays on disk, keyed by what was decoded, so that a second run starts at once."""

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import platformdirs

from triptych.data.errors import DataError, reason
from triptych.files import plain, replaced

Arrays = dict[str, np.ndarray]


def cache_folder(cache_dir: str | None) -> Path:
    """The folder given, or the user's own cache folder."""
    return Path(cache_dir).expanduser() if cache_dir else Path(platformdirs.user_cache_dir("triptych"))


def code_version(*files: Path) -> str:
    """Eight hexadecimal digits that change with the source code in ``files``."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:8]


def fingerprint(folder: Path, files: Iterable[Path]) -> str:
    """Sixteen hexadecimal digits that change with any name (relative to ``folder``) or byte of ``files``.

    Raises:
        DataError: a file cannot be read.
    """
    paths = sorted(files)
    with ThreadPoolExecutor() as pool:
        contents = pool.map(_digest, paths)
        lines = [
            f"{path.relative_to(folder).as_posix()} {content}\n" for path, content in zip(paths, contents, strict=True)
        ]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _digest(path: Path) -> str:
    try:
        with plain(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: not a readable file ({reason(error)}); replace or remove it") from error


def cached(folder: Path, key: str, decode: Callable[[], Arrays]) -> Arrays:
    """Read the arrays kept under ``key``, or ``decode`` them and keep them.

    A cache that cannot be read is made again, one that cannot be written is done without: the cache is only speed.
    """
    path = folder / f"{key}.npz"
    # Whatever is wrong with a damaged archive, and zipfile has many words for it, making it again mends it.
    with suppress(Exception), np.load(path, allow_pickle=False) as archive:
        return dict(archive)
    arrays = decode()
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with replaced(path) as aside:
            np.savez(aside, allow_pickle=False, **arrays)
    return arrays
