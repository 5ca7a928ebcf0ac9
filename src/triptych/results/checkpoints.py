"""The checkpoints of a run directory, looked at without torch."""

import zipfile
from pathlib import Path

CHECKPOINTS = "checkpoints"
RESUMABLE = ("last.ckpt", "previous.ckpt")
"""What a run can go on from, the newest first."""


def is_whole(path: Path) -> bool:
    """Whether every byte is there as it was written.

    Torch itself notices a missing end, but reads what a disk lost in the middle as zeros.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, ValueError, NotImplementedError, RuntimeError, EOFError, zipfile.BadZipFile, zipfile.zlib.error):  # type: ignore[attr-defined]
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
