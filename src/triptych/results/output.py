"""The folder that a command writes into."""

from pathlib import Path


def make_folder(folder: Path, option: str = "--output") -> None:
    """Make a folder, unless it is there, with those above it.

    Args:
        folder: its path.
        option: what names it on the command line.

    Raises:
        ValueError: it cannot be made, or a file has its name.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder} is a file: {option} names a folder")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        where = "" if error.filename in (None, str(folder)) else f": {error.filename}"
        raise ValueError(
            f"the folder {folder} cannot be made ({error.strerror}{where}): name another with {option}"
        ) from error
