"""Zip archives from elsewhere, unpacked without trusting what they hold."""

import lzma
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PureWindowsPath

from triptych.data.errors import DataError

MAX_BYTES = 20 * 2**30
"""What all archives of a download may unpack to together; the X-rays, the largest data set here, are 2.5 GiB."""
MAX_ENTRIES = 200_000
"""Files and folders that all archives of a download may hold together."""

DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)


def unpack_all(folder: Path) -> None:
    """Put in the place of every archive below ``folder`` what it holds: of ``train.zip`` the folder ``train``.

    Archives inside archives stay packed, and so does one whose contents already lie beside it.

    Raises:
        DataError: an archive is damaged or encrypted, has an entry that leaves its folder or is no plain file, or they
            exceed MAX_BYTES or MAX_ENTRIES. All of that but damage is seen before anything is written.
        OSError: the contents cannot be written.
    """
    archives = [path for path in sorted(folder.rglob("*.zip")) if path.is_file() and not _contents(path).exists()]
    entries = [entry for archive in archives for entry in _judged(archive)]
    if len(entries) > MAX_ENTRIES:
        raise DataError(f"the archives hold {len(entries):,} files, more than {MAX_ENTRIES:,}: unpack them by hand")
    # An entry's declared size can be relied on: zipfile reads no further, and reports an entry that goes on as damaged.
    size = sum(entry.file_size for entry in entries)
    if size > MAX_BYTES:
        raise DataError(f"the archives unpack to {size:,} bytes, more than {MAX_BYTES:,}: unpack them by hand")
    for archive in archives:
        _unpack(archive)


def remove_leftovers(folder: Path) -> None:
    """Remove what macOS and Windows leave in archives: ``__MACOSX``, ``.DS_Store``, ``._*`` and ``Thumbs.db``."""
    for path in list(folder.rglob("*")):
        if path.name in ("__MACOSX", ".DS_Store", "Thumbs.db") or path.name.startswith("._"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _contents(archive: Path) -> Path:
    """``train`` for ``train.zip``, ``sampleSubmission.csv`` for ``sampleSubmission.csv.zip``."""
    return archive.with_suffix("")


def _judged(archive: Path) -> list[zipfile.ZipInfo]:
    """The entries of an archive that has none to refuse."""
    try:
        with zipfile.ZipFile(archive) as file:
            entries = file.infolist()
    except DAMAGED as error:
        raise _damaged(archive, error) from error
    seen: set[str] = set()
    for entry in entries:
        # Where case does not count in names, the later file would replace the one before it.
        if entry.filename.casefold() in seen:
            raise DataError(f"{archive.name}: the entry {entry.filename!r} comes twice; do not use this archive")
        seen.add(entry.filename.casefold())
        # As Windows reads it, so that its drives and backslashes are refused everywhere.
        path = PureWindowsPath(entry.filename)
        if path.anchor or ".." in path.parts:
            raise DataError(f"{archive.name}: the entry {entry.filename!r} leaves its folder; do not use this archive")
        # Archives made on Windows have no file type: 0.
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise DataError(
                f"{archive.name}: the entry {entry.filename!r} is a link or device, not a plain file; "
                "do not use this archive"
            )
        if entry.flag_bits & 1:
            raise DataError(f"{archive.name} is encrypted: unpack it by hand")
    return entries


def _unpack(archive: Path) -> None:
    contents = _contents(archive)
    aside = archive.with_name(f".{archive.name}.unpacked")
    try:
        with zipfile.ZipFile(archive) as file:
            file.extractall(aside)
    except (*DAMAGED, NotImplementedError) as error:
        raise _damaged(archive, error) from error
    archive.unlink()
    remove_leftovers(aside)
    # Most archives hold one folder (or file) of their own name; others hold what belongs into that folder.
    if [path.name for path in aside.iterdir()] == [contents.name]:
        (aside / contents.name).rename(contents)
        aside.rmdir()
    else:
        aside.rename(contents)


def _damaged(archive: Path, error: Exception) -> DataError:
    return DataError(f"{archive.name} is damaged ({error}): download it again")
