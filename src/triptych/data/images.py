"""Images in a folder, found and decoded to grey."""

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from triptych.data.cache import code_version
from triptych.data.errors import DataError, reason
from triptych.files import plain

DECODER = code_version(Path(__file__))
"""Part of the cache's keys, so that a change of ``decode`` is seen."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
"""What a file may hold, whatever its suffix says. Pillow knows forty more; for one of them it starts Ghostscript."""
BAND = 2**22
"""Pixels that are made grey at a time: a wide mode is never held in full a second time."""
WHITE_IS_ZERO, PHOTOMETRIC, BITS = 0, 262, 258
"""TIFF's tags for what a number means, and their value for ink as the high numbers."""
PACKED = {"L;2": 85, "L;4": 17}
"""Steps between the grey levels of PNGs with 2 and 4 bits a pixel."""
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by EXIF's number for how it lies: phones and scanners store a page as they held it."""

MOST_PIXELS = 178_956_970
"""Pixels of the largest image: Pillow's own limit, which other packages lift for the whole process."""

# Pillow warns of half as many, such as those of a page of 10,000 x 10,000.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def find_images(folder: Path) -> list[Path]:
    """The images below ``folder`` (or the one file given), sorted by name.

    Raises:
        DataError: there is no such folder, no image in it, a folder in it that cannot be read, a link to a further
            folder, or a name that is no Unicode.
    """
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: expected one with images ({', '.join(SUFFIXES)}); put them there")
    names = {path: path.relative_to(folder) for path in _below(folder)}
    found = [path for path in names if path.suffix.lower() in SUFFIXES]
    if not found:
        raise DataError(f"no images ({', '.join(SUFFIXES)}) in {folder}: put some there")
    for path in found:
        try:
            str(names[path]).encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{folder}: the name {str(names[path])!a} is not in UTF-8; rename the file") from error
    return sorted(found, key=lambda path: names[path].as_posix())


def _below(folder: Path) -> Iterator[Path]:
    """All files and folders but for those whose names begin with a dot, such as ._1.png: systems leave them behind."""

    # Passing over a folder would lose samples without a word, which is what Path.rglob does.
    def refuse(error: OSError) -> NoReturn:
        raise DataError(
            f"{error.filename}: the folder cannot be read ({reason(error)}); allow it, or move the folder out of here"
        ) from error

    for top, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(top, name) for name in folders):
            # Following it might lead in a circle.
            if path.is_symlink():
                raise DataError(f"{path} is a link to a folder: put the folder itself there, or links to its files")
            yield path
        yield from (Path(top, name) for name in files if not name.startswith("."))


def decode(path: Path, size: int | None = None) -> np.ndarray:
    """Decode an image to grey, uint8 (height, width), upright; resized to a square of ``size`` where given.

    Any mode will do but those whose numbers have no known range (floating-point, signed, 32 bits) and LAB, which Pillow
    makes no grey of.

    Raises:
        DataError: the file is no image, damaged, of such a mode, or more than one image.
    """
    try:
        # Given the path, Pillow would map an uncompressed TIFF into memory, and garble one that lies on its side.
        with plain(path).open("rb") as file, Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels could be a decompression bomb")
            # Phones put a preview behind a photo (MPO).
            if getattr(image, "is_animated", False) and image.format != "MPO":
                raise ValueError("an animation or several pages: expected one image a file")
            if size is not None:
                # JPEGs decode at a half, quarter or eighth of their size where that is still enough.
                image.draft("L", (size, size))
            grey = upright(_to_grey(image), image)
            if size is not None:
                grey = squared(grey, size)
            return np.array(grey)
    except UnidentifiedImageError as error:
        raise _refusal(path, f"no {', '.join(FORMATS)}") from error
    # A damaged file can lead Pillow's decoders to any exception there is: struct.error, IndexError, MemoryError, ...
    except Exception as error:
        raise _refusal(path, reason(error)) from error


def upright(grey: Image.Image, image: ImageFile.ImageFile) -> Image.Image:
    """The grey pixels of ``image``, turned or mirrored as its EXIF data say that it is to be seen."""
    image.load()  # Pillow itself does so with TIFFs, and EXIF data may come behind a PNG's pixels
    try:
        lies = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # of damaged EXIF data, which are no reason to refuse the pixels
        return grey
    return grey.transpose(UPRIGHT[lies]) if lies in UPRIGHT else grey


def squared(grey: Image.Image, size: int) -> Image.Image:
    """The image resized to ``size`` on each side, whatever its aspect.

    First along its rows, then along its columns: left to itself, Pillow chooses the order by sizes and version, and the
    rounding between the two shows in the pixels. So an exported model can do the same.
    """
    wide = grey.resize((size, grey.height), Image.Resampling.BILINEAR)
    return wide.resize((size, size), Image.Resampling.BILINEAR)


def _refusal(path: Path, why: str) -> DataError:
    return DataError(f"{path}: not a readable image ({why}); replace or remove it")


def _to_grey(image: ImageFile.ImageFile) -> Image.Image:
    if image.mode in ("F", "I"):
        raise ValueError("floating-point, signed and 32-bit pixels have no known range: expected 1 to 16 bits a pixel")
    width, height = image.size
    if not width or not height:
        raise ValueError("no pixels")
    if image.mode == "L" and image.format == "PNG" and isinstance(image.info.get("transparency"), int):
        # Pillow spreads the grey levels to 0..255, but not the one that stands for transparent.
        image.info["transparency"] *= PACKED.get(str(image.tile[0][3]), 1)
    if image.format == "PNG" and image.tile and image.tile[0][3] == "RGB;16B" and "transparency" in image.info:
        # Pillow keeps the high byte of each pixel, and would compare it with the low one of this colour.
        image.info["transparency"] = tuple(level >> 8 for level in image.info["transparency"])
    if image.mode == "L" and not image.has_transparency_data:
        return image
    band_to_grey = _band_from_16_bit(image) if image.mode.startswith("I;16") else _band_to_grey
    image.load()
    grey = Image.new("L", image.size)
    rows = max(1, BAND // width)
    for top in range(0, height, rows):
        grey.paste(band_to_grey(image.crop((0, top, width, min(top + rows, height)))), (0, top))
    return grey


def _band_to_grey(band: Image.Image) -> Image.Image:
    if band.has_transparency_data:
        paper = Image.new("RGBA", band.size, "white")
        return Image.alpha_composite(paper, band.convert("RGBA")).convert("L")
    return band.convert("L")


def _band_from_16_bit(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """Scale 16 (or 12) bits to 8: Pillow would clip them instead."""
    tags: Any = getattr(image, "tag_v2", {})
    highest = 2 ** tags.get(BITS, (16,))[0] - 1
    black, white = (highest, 0) if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else (0, highest)
    transparent = image.info.get("transparency")

    def to_grey(band: Image.Image) -> Image.Image:
        pixels = np.asarray(band).astype(np.float32)
        grey = ((pixels - black) * (255 / (white - black))).clip(0, 255).round()
        if transparent is not None:
            grey[pixels == transparent] = 255
        return Image.fromarray(grey.astype(np.uint8))

    return to_grey
