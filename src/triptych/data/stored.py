"""Cache of decoded images, read into memory all at once or lazily, one by one."""

import hashlib
import logging
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import EllipsisType

import numpy as np
import PIL
from filelock import FileLock

from triptych.data.errors import DataError, reason
from triptych.data.predicting import submit_ahead
from triptych.files import atomic_write

log = logging.getLogger(__name__)

AHEAD = 8
"""Images decoded at a time: enough for most processors, and few enough for images of 100 MB."""

Window = EllipsisType | tuple[slice, slice]


@dataclass(frozen=True)
class StoredImage:
    """An image on disk, uint8 (height, width), read when it is indexed.

    ``image[...]`` reads the whole and verifies its ``checksum``; ``image[top:bottom, left:right]`` reads only those
    rows, without verification.
    """

    path: Path
    offset: int
    shape: tuple[int, int]
    checksum: int

    def __getitem__(self, window: Window) -> np.ndarray:
        with _open_file(self.path) as file:
            if isinstance(window, EllipsisType):
                return self.read(file, np.empty(self.shape, np.uint8))
            rows, columns = window
            height, width = self.shape
            top, bottom, _ = rows.indices(height)
            return _read_pixels(file, self.offset + top * width, np.empty((bottom - top, width), np.uint8))[:, columns]

    def read(self, file: FileIO, pixels: np.ndarray) -> np.ndarray:
        """Fill ``pixels``, uint8 (height, width), in place from the open ``file`` and verify the checksum."""
        _read_pixels(file, self.offset, pixels)
        if zlib.crc32(pixels.data) != self.checksum:
            raise _damaged(self.path, "a checksum differs")
        return pixels


class StoredImages:
    """Images stored one after another in one file. Only their positions are in memory, cheap to copy to workers.

    The file is opened for each read and not memory-mapped: mapped pages would count as the process's own memory.

    Args:
        path: the file.
        shapes: (height, width) of each, int64 (N, 2).
        checksums: CRC-32 of each, (N,).
        offsets: position of each in the file in bytes, (N,); None: derived from the shapes.

    Raises:
        DataError: an image is read, and the file is missing or damaged.
    """

    def __init__(
        self, path: Path, shapes: np.ndarray, checksums: np.ndarray, offsets: np.ndarray | None = None
    ) -> None:
        self.path = path
        self.shapes = shapes
        self.checksums = checksums
        sizes = shapes.prod(axis=1)
        self.offsets = np.cumsum(sizes) - sizes if offsets is None else offsets

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> StoredImage:
        height, width = self.shapes[index].tolist()
        return StoredImage(self.path, int(self.offsets[index]), (height, width), int(self.checksums[index]))

    def take(self, indices: Sequence[int] | np.ndarray) -> "StoredImages":
        """Return the images at these indices, in this order, without reading them."""
        return StoredImages(self.path, self.shapes[indices], self.checksums[indices], self.offsets[indices])

    def stacked(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Read the images at these indices, all of one size: uint8 (len(indices), height, width)."""
        rows = np.asarray(indices)
        pixels = np.empty((len(rows), *self.shapes[rows[0]]), np.uint8)
        with _open_file(self.path) as file:
            # In file order, which a hard disk reads fastest.
            for place in np.argsort(self.offsets[rows]):
                self[rows[place]].read(file, pixels[place])
        return pixels


Images = list[np.ndarray] | StoredImages
"""Images uint8 (height, width), in memory or on disk: ``images[index][...]`` is the pixels of one."""


def load_images(
    folder: Path, key: str, files: Sequence[Path], decode: Callable[[Path], np.ndarray], in_memory: bool
) -> Images:
    """Return the images of ``files`` from the cache, decoding and caching them if they are not there.

    With ``in_memory`` the cache only saves time: one that cannot be read is rebuilt, and one that cannot be written is
    ignored. Images that stay on disk need it: they are decoded into it a few at a time, by one run if several start at
    once.

    Args:
        folder: the cache.
        key: cache key, which must change with whatever changes a pixel, except for the names and order of the files and
            the version of Pillow, which are added to it.
        files: the images, in order.
        decode: from a file to uint8 (height, width).
        in_memory: whether to read the pixels into memory, or leave them on disk.

    Raises:
        DataError: a file cannot be decoded, or the images are to stay on disk and cannot be written there.
    """
    shared, key = key, f"{key}-{_digest(files)}"
    if in_memory:
        return _in_memory(folder, key, files, decode)
    with suppress(Exception):
        return _open_cache(folder, key, len(files))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{shared}.lock"):
            with suppress(Exception):
                return _open_cache(folder, key, len(files))
            # Left by a run that was killed while decoding, whatever its files and its version of Pillow.
            for leftover in folder.glob(f".{shared}-*"):
                leftover.unlink(missing_ok=True)
            log.info(
                "Decoding %d images into %s, once: data.in_memory=false reads them from there.", len(files), folder
            )
            _write(folder, key, _decode_each(files, decode))
            return _open_cache(folder, key, len(files))
    except (OSError, NotImplementedError) as error:  # the latter if the file system has no locks
        raise DataError(
            f"{folder}: the decoded images cannot be kept here ({reason(error)}), and data.in_memory=false reads them "
            "from there; make room, or name another folder with data.cache_dir=FOLDER"
        ) from error


def _digest(files: Sequence[Path]) -> str:
    """Eight hexadecimal digits that change with the names of ``files``, their order, and the version of Pillow."""
    # Relative to their common folder, whose location changes no pixel.
    folder = os.path.commonpath([path.parent for path in files]) if files else ""
    names = [PIL.__version__, *(path.relative_to(folder).as_posix() for path in files)]
    return hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _in_memory(folder: Path, key: str, files: Sequence[Path], decode: Callable[[Path], np.ndarray]) -> list[np.ndarray]:
    # A damaged index raises one of many exceptions (zipfile alone has several); rebuilding it helps in every case.
    with suppress(Exception):
        found = _open_cache(folder, key, len(files))
        return [found[index][...] for index in range(len(found))]
    images = list(_decode_each(files, decode))
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder, key, images)
    return images


def _decode_each(files: Sequence[Path], decode: Callable[[Path], np.ndarray]) -> Iterator[np.ndarray]:
    with ThreadPoolExecutor() as pool:
        for _, image in submit_ahead(pool, decode, files, AHEAD):
            yield image.result()


def _write(folder: Path, key: str, images: Iterable[np.ndarray]) -> None:
    shapes, checksums = [], []
    with atomic_write(folder / f"{key}.pixels", mark=f"{key}-") as aside, aside.open("wb") as file:
        for image in images:
            pixels = np.ascontiguousarray(image)
            file.write(pixels.data)
            shapes.append(pixels.shape)
            checksums.append(zlib.crc32(pixels.data))
    # The index is written last: if it exists, the pixels are complete.
    with atomic_write(folder / f"{key}.npz", mark=f"{key}-") as aside:
        np.savez(aside, allow_pickle=False, shapes=np.array(shapes), checksums=np.array(checksums, np.uint32))


def _open_cache(folder: Path, key: str, count: int) -> StoredImages:
    """Open the ``count`` images cached under ``key``; raises any of many exceptions if they are missing or damaged."""
    path = folder / f"{key}.pixels"
    with np.load(folder / f"{key}.npz", allow_pickle=False) as index:
        images = StoredImages(path, index["shapes"], index["checksums"])
    if len(images) != count:
        raise _damaged(path, f"{len(images)} images instead of {count}")
    if path.stat().st_size != images.shapes.prod(axis=1).sum():
        raise _damaged(path, "its size is not that of its images")
    return images


def _open_file(path: Path) -> FileIO:
    try:
        return FileIO(path)
    except OSError as error:
        raise _damaged(path, reason(error)) from error


def _read_pixels(file: FileIO, offset: int, pixels: np.ndarray) -> np.ndarray:
    file.seek(offset)
    if file.readinto(pixels.data) != pixels.nbytes:
        raise _damaged(Path(str(file.name)), "it ends too early")
    return pixels


def _damaged(path: Path, why: str) -> DataError:
    return DataError(f"{path}: the decoded images are damaged ({why}); remove this file, and a run makes it again")
