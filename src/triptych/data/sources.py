"""Where a data set's files come from: the user's own folder, Kaggle, or the project's synthetic stand-in."""

import logging
import os
import secrets
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import triptych.data.synthetic
from triptych.data.cache import code_version, named_folder
from triptych.data.errors import DataError, reason

log = logging.getLogger(__name__)

SOURCES = ("auto", "files", "kaggle", "synthetic")
MARK = "SYNTHETIC.txt"
"""Marker file that distinguishes synthetic data from the real data whose layout they share."""


@dataclass(frozen=True)
class Source:
    """Folder of a data set; ``kind`` is ``files`` for the user's own, ``synthetic`` for the project's stand-in."""

    folder: Path
    kind: str

    @property
    def is_synthetic(self) -> bool:
        """Whether its files are synthetic, even if they lie in the user's own folder."""
        return self.kind == "synthetic" or (self.folder / MARK).exists()


def data_root(root: str | None) -> Path:
    """Return ``root`` if given, else ``$TRIPTYCH_DATA``, else ``data/``, with ``~`` expanded.

    Raises:
        DataError: ``~`` or ``~USER`` stands for no home folder.
    """
    if root:
        return named_folder("data.root", root)
    return named_folder("TRIPTYCH_DATA", os.environ.get("TRIPTYCH_DATA") or "data")


def locate(
    slug: str,
    source: str,
    root: Path,
    cache: Path,
    synthesize: Callable[[Path], None],
    download: Callable[[Path], Path],
) -> Source:
    """Find the data that ``data.source`` asks for; download or synthesize them if necessary.

    Args:
        slug: the data set's name on Kaggle and of its folder below ``root``.
        source: ``auto``, ``files``, ``kaggle`` or ``synthetic``.
        root: folder that holds one folder per data set.
        cache: where synthetic data are kept between runs.
        synthesize: writes a synthetic data set into a folder, in Kaggle's layout.
        download: downloads the data set to its folder below ``root``, in the same layout.

    Raises:
        DataError: ``source`` is unknown, the folder asked for does not exist or is a broken link, the download failed,
            or the synthetic data cannot be written.
    """
    if source not in SOURCES:
        raise DataError(f"data.source={source}: choose one of {', '.join(SOURCES)}")
    folder = root / slug
    if source != "synthetic" and folder.is_symlink() and not folder.exists():
        raise DataError(f"{folder} is a link to {folder.readlink()}, which is not there: fix or remove the link")
    if source == "kaggle" and not folder.exists():
        download(root)
    if source == "files" and not folder.exists():
        raise DataError(
            f"no folder {folder.absolute()}: put Kaggle's {slug} there (`triptych data download {slug}` does), "
            "name another folder with data.root=FOLDER or the environment variable TRIPTYCH_DATA, "
            "or train on synthetic data with data.source=synthetic"
        )
    if source != "synthetic" and folder.exists():
        return Source(folder, "files")
    if source == "auto":
        log.info("No folder %s: training on SYNTHETIC data instead (data.source=files would refuse).", folder)
    return Source(synthetic_folder(slug, cache, synthesize), "synthetic")


def synthetic_folder(slug: str, cache: Path, synthesize: Callable[[Path], None]) -> Path:
    """Return the folder of the synthetic data set, written to the cache once for each version of the writing code.

    Raises:
        DataError: it cannot be written to the cache.
    """
    writers = sorted(Path(triptych.data.synthetic.__path__[0]).glob("*.py"))
    if module_file := getattr(sys.modules[synthesize.__module__], "__file__", None):  # a notebook has none
        writers.append(Path(module_file))
    folder = cache / "synthetic" / code_version(*writers) / slug
    if not folder.exists():
        try:
            write_atomically(folder, synthesize)
        except OSError as error:
            # Another run may have created it in the meantime: then use that.
            if not folder.exists():
                raise DataError(
                    f"{cache}: the synthetic data cannot be kept here ({reason(error)}); make room, or name another "
                    "folder with data.cache_dir=FOLDER"
                ) from error
    return folder


def write_synthetic(folder: Path, synthesize: Callable[[Path], None]) -> None:
    """Write a synthetic data set to a folder for the user's own data, with the file MARK that identifies it."""

    def write(aside: Path) -> None:
        synthesize(aside)
        (aside / MARK).write_text(
            "Made up by `triptych data synthesize`: what is trained on it has seen no real data.\n"
        )

    write_atomically(folder, write)


def write_atomically(folder: Path, write: Callable[[Path], None]) -> None:
    """Create ``folder`` atomically: ``write`` fills a temporary folder beside it, which is then renamed."""
    aside = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    try:
        write(aside)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
