"""Images in a folder, found and decoded to grey."""

from pathlib import Path

import numpy as np
from PIL import Image

from triptych.data.cache import code_version
from triptych.data.errors import DataError

DECODER = code_version(Path(__file__))
"""Part of the cache's keys, so that a change of ``decode`` is seen."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


def find_images(folder: Path, *suffixes: str) -> list[Path]:
    """The images below ``folder`` (or the one file given), sorted by name.

    Raises:
        DataError: there is no such folder, or no image in it.
    """
    wanted = suffixes or SUFFIXES
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: expected one with images ({', '.join(wanted)}); put them there")
    names = {path: path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in wanted}
    # Names that begin with a dot are what systems leave behind (._1.png, .ipynb_checkpoints), never samples.
    found = [path for path, name in names.items() if not any(part.startswith(".") for part in name.parts)]
    if not found:
        raise DataError(f"no images ({', '.join(wanted)}) in {folder}: put some there")
    return sorted(found, key=lambda path: names[path].as_posix())


def decode(path: Path, size: int | None = None) -> np.ndarray:
    """Decode an image of any mode to grey, uint8 (height, width); resized to a square of ``size`` where given.

    Raises:
        DataError: the file is no image, or damaged.
    """
    try:
        with Image.open(path) as image:
            if size is not None:
                # JPEGs decode at a half, quarter or eighth of their size where that is still enough.
                image.draft("L", (size, size))
            grey = _to_grey(image)
            if size is not None:
                grey = grey.resize((size, size), Image.Resampling.BILINEAR)
            return np.array(grey)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not a readable image ({error}); replace or remove it") from error


def _to_grey(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range: expected 1, 8 or 16 bits a pixel")
    if image.mode.startswith("I"):
        # 16-bit pages: PIL would clip instead of scaling.
        pixels = np.asarray(image, dtype=np.float64) / 257
        return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, image.convert("RGBA")).convert("L")
    return image.convert("L")
