"""Finding the images in a folder and decoding them to grey."""

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
"""Part of the cache keys, so that a change of ``decode`` invalidates the cache."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
"""Formats that are accepted, whatever the suffix. Pillow knows forty more, for one of which it starts Ghostscript."""
BAND = 2**22
"""Pixels converted to grey at a time, so that an image in a wide mode is never held in full twice."""
WHITE_IS_ZERO, PHOTOMETRIC, BITS = 0, 262, 258
"""TIFF: the value for ink as the high numbers, the tag that holds it, and the tag for bits per sample."""
PACKED = {"L;2": 85, "L;4": 17}
"""Step between grey levels, scaled to 0..255, of PNGs with 2 and 4 bits per pixel."""
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image upright, by its EXIF orientation: phones and scanners store a page in the way they held it."""

MOST_PIXELS = 178_956_970
"""Pixels of the largest image accepted: Pillow's own limit, which other packages lift for the whole process."""

# Pillow warns from half as many, which a page of 10,000 x 10,000 exceeds.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def find_images(folder: Path) -> list[Path]:
    """Return the images below ``folder``, at any depth (or the one file given), sorted by name.

    Raises:
        DataError: there is no such folder, no image in it, or it holds a folder that cannot be read, a link to a folder
            or a name that is not valid Unicode.
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
    """Yield all files and folders except those that begin with a dot, such as ._1.png, which systems leave behind."""

    # Skipping an unreadable folder, as Path.rglob does, would lose samples silently.
    def refuse(error: OSError) -> NoReturn:
        raise DataError(
            f"{error.filename}: the folder cannot be read ({reason(error)}); allow it, or move the folder out of here"
        ) from error

    for top, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(top, name) for name in folders):
            # Following it might lead to an infinite loop.
            if path.is_symlink():
                raise DataError(f"{path} is a link to a folder: put the folder itself there, or links to its files")
            yield path
        yield from (Path(top, name) for name in files if not name.startswith("."))


def decode(path: Path, size: int | None = None) -> np.ndarray:
    """Decode an image to grey, uint8 (height, width), upright; resized to a square of ``size`` pixels if given.

    All modes are supported except those whose values have no known range (floating-point, signed, 32 bits) and LAB,
    which Pillow cannot convert to grey.

    Raises:
        DataError: the file is not an image, is damaged or too large, has such a mode, or holds more than one image.
    """
    try:
        # Given the path, Pillow would memory-map an uncompressed TIFF, and garble one that is stored sideways.
        with plain(path).open("rb") as file, Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels could be a decompression bomb")
            # Phones append a preview to a photo (MPO).
            if getattr(image, "is_animated", False) and image.format != "MPO":
                raise ValueError("an animation or several pages: expected one image a file")
            if size is not None:
                # JPEGs are decoded at a half, quarter or eighth of their size if that is still large enough.
                image.draft("L", (size, size))
            grey = upright(_to_grey(image), image)
            if size is not None:
                grey = squared(grey, size)
            return np.array(grey)
    except UnidentifiedImageError as error:
        raise _refusal(path, f"no {', '.join(FORMATS)}") from error
    # On a damaged file, Pillow's decoders can raise any exception: struct.error, IndexError, MemoryError, ...
    except Exception as error:
        raise _refusal(path, reason(error)) from error


def upright(grey: Image.Image, image: ImageFile.ImageFile) -> Image.Image:
    """Rotate or mirror ``grey``, the pixels of ``image``, according to its EXIF orientation."""
    image.load()  # on loading, Pillow itself turns TIFFs upright, and finds EXIF data after a PNG's pixels
    try:
        lies = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged EXIF data are no reason to reject the pixels
        return grey
    return grey.transpose(UPRIGHT[lies]) if lies in UPRIGHT else grey


def squared(grey: Image.Image, size: int) -> Image.Image:
    """Resize the image to a square of side ``size``, whatever its aspect ratio.

    First along its rows, then along its columns: by default, Pillow chooses the order by sizes and version, and the
    rounding between the two affects the pixels. With a fixed order, an exported model can reproduce them.
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
        # Pillow scales the grey levels to 0..255, but not the one that stands for transparent.
        image.info["transparency"] *= PACKED.get(str(image.tile[0][3]), 1)
    if image.format == "PNG" and image.tile and image.tile[0][3] == "RGB;16B" and "transparency" in image.info:
        # Pillow keeps the high byte of each pixel, but would compare it with the low byte of the transparent colour.
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
    """Return a function that scales 16 (or 12) bits to 8: Pillow would clip them instead."""
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
