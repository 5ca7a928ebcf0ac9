"""Safe unpacking of untrusted zip archives."""

import lzma
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PureWindowsPath

from triptych.data.errors import DataError

MAX_BYTES = 20 * 2**30
"""Maximum total size of the unpacked archives of a download; the X-rays, the largest data set here, are 2.5 GiB."""
MAX_ENTRIES = 200_000
"""Maximum number of files and folders in all archives of a download together."""

DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)


def unpack_all(folder: Path) -> None:
    """Replace every archive below ``folder`` by its contents: ``train.zip`` by the folder ``train``.

    Archives inside archives stay packed, and so does one whose contents already lie beside it.

    Raises:
        DataError: an archive is damaged or encrypted, has two entries of one name or one that leaves its folder or is
            not a plain file, or all exceed MAX_BYTES or MAX_ENTRIES. All but damage is found before anything is
            written.
        OSError: the contents cannot be written.
    """
    archives = [path for path in sorted(folder.rglob("*.zip")) if path.is_file() and not _contents(path).exists()]
    entries = [entry for archive in archives for entry in _checked_entries(archive)]
    if len(entries) > MAX_ENTRIES:
        raise DataError(f"the archives hold {len(entries):,} files, more than {MAX_ENTRIES:,}: unpack them by hand")
    # An entry's declared size can be relied on: zipfile reads no further, and reports a longer entry as damaged.
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


def _checked_entries(archive: Path) -> list[zipfile.ZipInfo]:
    """Return the entries of an archive, or raise a DataError if one of them is not safe to unpack."""
    try:
        with zipfile.ZipFile(archive) as file:
            entries = file.infolist()
    except DAMAGED as error:
        raise _damaged(archive, error) from error
    seen: set[str] = set()
    for entry in entries:
        # On a case-insensitive file system, the later file would replace the earlier one.
        if entry.filename.casefold() in seen:
            raise DataError(f"{archive.name}: the entry {entry.filename!r} appears twice; do not use this archive")
        seen.add(entry.filename.casefold())
        # Parsed as on Windows, so that drives and paths with backslashes are caught on every system.
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
    # Most archives hold one folder (or file) of their own name; others hold the contents of that folder.
    if [path.name for path in aside.iterdir()] == [contents.name]:
        (aside / contents.name).rename(contents)
        aside.rmdir()
    else:
        aside.rename(contents)


def _damaged(archive: Path, error: Exception) -> DataError:
    return DataError(f"{archive.name} is damaged ({error}): download it again")
