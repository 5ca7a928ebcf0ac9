"""The checkpoints of a run directory, of any origin, looked at before torch reads them."""

import zipfile
import zlib
from pathlib import Path

CHECKPOINTS = "checkpoints"
RESUMABLE = ("last.ckpt", "previous.ckpt")
"""What a run can go on from, the newest first."""


def refuse_bomb(path: Path) -> None:
    """Refuse a checkpoint that would unpack to more than its own size: torch stores its files uncompressed.

    Raises:
        ValueError: it is no such file, its end is missing, or it is compressed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no checkpoint of this run ({error})") from error
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > path.stat().st_size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError(f"{path} is no checkpoint of this run (it is compressed, and unpacks to {unpacked:,} bytes)")


def is_whole(path: Path) -> bool:
    """Whether every byte is there as it was written.

    Torch itself notices a missing end, but reads what a disk lost in the middle as zeros.
    """
    try:
        refuse_bomb(path)
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, ValueError, NotImplementedError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error):
        return False


def resumable(directory: Path) -> tuple[Path | None, list[Path]]:
    """The newest whole checkpoint that a run can go on from, if there is one, and the damaged ones before it."""
    damaged: list[Path] = []
    for name in RESUMABLE:
        path = directory / CHECKPOINTS / name
        if path.is_file():
            if is_whole(path):
                return path, damaged
            damaged.append(path)
    return None, damaged
