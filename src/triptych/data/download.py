"""Download of a data set from Kaggle, whole or not at all."""

import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

from triptych.data.archives import DAMAGED, remove_leftovers, unpack_all
from triptych.data.errors import DataError
from triptych.data.sources import write_whole

SITE = "https://www.kaggle.com"
TOKEN = (
    f"make a token at {SITE}/settings/api and put it into the file ~/.kaggle/access_token or the environment variable "
    "KAGGLE_API_TOKEN (~/.kaggle/kaggle.json, or KAGGLE_USERNAME and KAGGLE_KEY, do as well)"
)


def from_kaggle(page: str, folder: Path, contents: Sequence[str]) -> Path:
    """Download a data set with kagglehub, unpack it and lay it out as Kaggle shows it.

    Args:
        page: its page on kaggle.com: ``competitions/NAME`` or ``datasets/OWNER/NAME``.
        folder: the folder to make; it appears when it is complete.
        contents: paths below ``folder`` of files and folders that a complete download has, none of them empty.

    Returns:
        ``folder``.

    Raises:
        DataError: the folder exists, kagglehub is not installed, Kaggle or the network refuse, or what came is damaged
            or incomplete, or cannot be written; the message has the remedy. Nothing is left behind.
    """
    if page.split("/")[0] not in ("competitions", "datasets"):
        raise DataError(f"{folder.name} cannot be downloaded from Kaggle: put its files into {folder} yourself")
    if folder.exists():
        raise DataError(f"{folder} exists already: move it away, or name another folder (--root FOLDER, data.root)")
    try:
        write_whole(folder, lambda aside: _fill(aside, page, contents))
    except OSError as error:
        # Another job of the same sweep may have been first; then its folder serves.
        if not folder.exists():
            raise DataError(
                f"cannot write {folder} ({error}): free some space there, "
                "or name another folder (--root FOLDER, data.root)"
            ) from error
    return folder


def _fill(folder: Path, page: str, contents: Sequence[str]) -> None:
    fetched = _fetch(page, folder)
    if fetched != folder:
        # Notebooks on Kaggle and Colab are given a read-only folder instead.
        shutil.copytree(fetched, folder, dirs_exist_ok=True)
    # kagglehub's own mark of a complete download.
    shutil.rmtree(folder / ".complete", ignore_errors=True)
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise DataError(f"the download holds a symbolic link, {path.relative_to(folder)}; do not use it")
    remove_leftovers(folder)
    unpack_all(folder)
    _remove_twins(folder)
    missing = [name for name in contents if not _is_filled(folder / name)]
    if missing:
        raise DataError(f"the download lacks {', '.join(missing)}: look whether {SITE}/{page} has changed")


def _fetch(page: str, folder: Path) -> Path:
    """Let kagglehub download and unpack into ``folder``; returns where the files lie.

    Its cache is passed by: it would need the space twice and, after a damaged download, serve that one for ever.
    """
    try:
        import kagglehub
    except ImportError as error:
        raise DataError(
            f"this needs kagglehub: `make setup EXTRAS=kaggle`, or unpack what a browser gets from {SITE}/{page}"
        ) from error
    kind, handle = page.split("/", 1)
    download = kagglehub.competition_download if kind == "competitions" else kagglehub.dataset_download
    try:
        return Path(download(handle, output_dir=str(folder)))
    except Exception as error:
        # The system's own complaint (a full disk) is from_kaggle's to explain.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(_explain(error, page)) from error


def _explain(error: Exception, page: str) -> str:
    """What a failure of kagglehub means, and its remedy."""
    from kagglehub import exceptions

    said = " ".join(str(error).split())
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return f"Kaggle does not accept the account's token (401): {TOKEN}"
    if status == 403 and page.startswith("competitions/"):
        return f"Kaggle asks to accept the competition's rules first (403): join it at {SITE}/{page}/rules"
    if status == 403:
        return f"Kaggle refuses this data set (403): see at {SITE}/{page} what it asks for. If an account, {TOKEN}"
    if status == 404:
        return f"Kaggle has no {SITE}/{page} (404): look whether it was renamed"
    if status is not None:
        return f"Kaggle answered {status} ({said}): try again later"
    if isinstance(error, exceptions.UnauthenticatedError):
        return f"Kaggle gives this data set to accounts only: {TOKEN}"
    # An OSError without a number is one of requests', whose exceptions all derive from it.
    if isinstance(error, OSError):
        return (
            f"the connection to Kaggle failed or broke off ({said}): look to the network or proxy and try again, "
            f"or unpack what a browser gets from {SITE}/{page}"
        )
    if isinstance(error, ValueError) and "credentials" in said:
        return f"{said}: {TOKEN}"
    if isinstance(error, (exceptions.DataCorruptionError, tarfile.TarError, ValueError, *DAMAGED)):
        return f"what came from Kaggle is damaged ({said}): try again"
    return f"kagglehub failed ({type(error).__name__}: {said}): try again, or `make setup EXTRAS=kaggle`"


def _remove_twins(folder: Path) -> None:
    """Remove folders that only repeat their parent, as ``chest_xray/chest_xray`` does."""
    twins = [path for path in folder.rglob("*") if path.is_dir() and path.name == path.parent.name]
    for twin in sorted(twins, reverse=True):  # the inner one first
        files = [path for path in twin.rglob("*") if path.is_file()]
        above = [twin.parent / path.relative_to(twin) for path in files]
        if all(b.is_file() and a.stat().st_size == b.stat().st_size for a, b in zip(files, above, strict=True)):
            shutil.rmtree(twin)


def _is_filled(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.is_file() and path.stat().st_size > 0
