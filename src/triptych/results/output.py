"""Creation of the folder that a command writes to."""

from pathlib import Path


def make_folder(folder: Path, option: str = "--output") -> None:
    """Create a folder and its parents, if missing.

    Args:
        folder: its path.
        option: the command-line option that names it, for the error message.

    Raises:
        ValueError: it cannot be created, or is a file.
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
