"""Cache folder and cache keys (digests of files and code), so that a second run starts at once."""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import platformdirs

from triptych.data.errors import DataError, reason
from triptych.files import plain


def cache_folder(cache_dir: str | None) -> Path:
    """Return ``cache_dir`` if given, else the user's cache folder."""
    return named_folder("data.cache_dir", cache_dir) if cache_dir else Path(platformdirs.user_cache_dir("triptych"))


def named_folder(key: str, folder: str) -> Path:
    """Return ``folder`` with ``~`` expanded; ``key`` is the setting it comes from, for the error message.

    Raises:
        DataError: there is no such home folder.
    """
    try:
        return Path(folder).expanduser()
    except RuntimeError as error:
        raise DataError(f"{key}={folder}: there is no such home folder; write the whole path") from error


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
