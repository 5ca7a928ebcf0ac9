"""Checks on the checkpoints of a run directory, which may be damaged or untrusted, before torch reads them."""

import zipfile
import zlib
from pathlib import Path

CHECKPOINTS = "checkpoints"
RESUMABLE = ("last.ckpt", "previous.ckpt")
"""Checkpoints from which a run can be resumed, the newest first."""


def refuse_bomb(path: Path) -> None:
    """Refuse a checkpoint that is a zip bomb; torch stores the files in a checkpoint uncompressed.

    Raises:
        ValueError: it is not a zip archive, is truncated, or is compressed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a checkpoint of this run ({error})") from error
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > path.stat().st_size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError(f"{path} is not a checkpoint of this run (compressed, it unpacks to {unpacked:,} bytes)")


def is_intact(path: Path) -> bool:
    """Whether the checkpoint is intact, by its checksums.

    Torch detects a truncated file, but reads bytes lost in the middle as zeros.
    """
    try:
        refuse_bomb(path)
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, ValueError, NotImplementedError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error):
        return False


def resumable(directory: Path) -> tuple[Path | None, list[Path]]:
    """Return the newest intact checkpoint to resume from, or None, and the newer ones that are damaged."""
    damaged: list[Path] = []
    for name in RESUMABLE:
        path = directory / CHECKPOINTS / name
        if path.is_file():
            if is_intact(path):
                return path, damaged
            damaged.append(path)
    return None, damaged
