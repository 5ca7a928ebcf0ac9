"""Atomic download of a data set from Kaggle."""

import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

from triptych.data.archives import DAMAGED, remove_leftovers, unpack_all
from triptych.data.errors import DataError
from triptych.data.sources import write_atomically

SITE = "https://www.kaggle.com"
TOKEN = (
    f"make a token at {SITE}/settings/api and put it into the file ~/.kaggle/access_token or the environment variable "
    "KAGGLE_API_TOKEN (~/.kaggle/kaggle.json, or KAGGLE_USERNAME and KAGGLE_KEY, do as well)"
)


def from_kaggle(page: str, folder: Path, contents: Sequence[str]) -> Path:
    """Download a data set with kagglehub, unpack it and lay it out as Kaggle shows it.

    Args:
        page: its page on kaggle.com: ``competitions/NAME`` or ``datasets/OWNER/NAME``.
        folder: the folder to create; it appears only when it is complete.
        contents: paths relative to ``folder`` of files and folders that a complete download has, none of them empty.

    Returns:
        ``folder``.

    Raises:
        DataError: the data set is not on Kaggle, the folder exists, kagglehub is not installed, Kaggle or the network
            fails, or the download is damaged, incomplete or cannot be written; the message says what to do. Nothing is
            left behind.
    """
    if page.split("/")[0] not in ("competitions", "datasets"):
        raise DataError(f"{folder.name} cannot be downloaded from Kaggle: put its files into {folder} yourself")
    if folder.exists():
        raise DataError(f"{folder} exists already: move it away, or name another folder (--root FOLDER, data.root)")
    try:
        write_atomically(folder, lambda aside: _fill(aside, page, contents))
    except OSError as error:
        # Another job of the same sweep may have created it in the meantime: then use that.
        if not folder.exists():
            raise DataError(
                f"cannot write {folder} ({error}): free some space there, "
                "or name another folder (--root FOLDER, data.root)"
            ) from error
    return folder


def _fill(folder: Path, page: str, contents: Sequence[str]) -> None:
    fetched = _fetch(page, folder)
    if fetched != folder:
        # In notebooks on Kaggle and Colab, kagglehub returns a read-only folder instead.
        shutil.copytree(fetched, folder, dirs_exist_ok=True)
    # kagglehub's own marker of a complete download.
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
    """Let kagglehub download and unpack into ``folder``; returns the folder in which the files lie.

    Its cache is bypassed: it would need the space twice and, after a damaged download, return that one for ever.
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
        # from_kaggle explains errors of the system, such as a full disk.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(_explain(error, page)) from error


def _explain(error: Exception, page: str) -> str:
    """Return what an error of kagglehub means, and what to do about it."""
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
    # An OSError without errno comes from requests, whose exceptions all derive from OSError.
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
